"""How a command ends other than by finishing: input a user can mend, or being told to stop."""


class InputError(ValueError):
    """Bad input: the message is one sentence that says what was received and what is allowed.

    The command line prints it on stderr and exits with code 2; everything else is a fault of
    this library and keeps its traceback.
    """


class Preempted(Exception):  # noqa: N818 - no error: a run was told to stop, saved, and stopped
    """A run stopped at `step` since it was told to; its newest checkpoint is of that step."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"told to stop: saved at step {step}; the same command goes on from there."
        )
        self.step = step
