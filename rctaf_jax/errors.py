"""How a command ends other than by finishing: input a user can mend, or being told to stop."""

import errno


class InputError(ValueError):
    """Bad input: the message is one sentence that says what was received and what is allowed.

    The command line prints it on stderr and exits with code 2, as it does where the system refuses
    to read or write a file; everything else is a fault of this library and keeps its traceback.
    """


class MissingPartError(InputError):
    """A name that nobody has here: of a part of a package that is not installed, perhaps."""


class Preempted(Exception):  # noqa: N818 - no error: a run was told to stop, saved, and stopped
    """A run stopped since it was told to, and the same command goes on from there.

    `step` is that of its newest checkpoint; None for a run that keeps what is finished alone.
    """

    def __init__(self, step: int | None = None) -> None:
        kept = "what is done is kept" if step is None else f"saved at step {step}"
        super().__init__(f"told to stop: {kept}; the same command goes on from there.")
        self.step = step


def describe_failure(error: OSError) -> str:
    """What the system refused, and what can be done.

    >>> describe_failure(PermissionError(13, "Permission denied", "/root/runs")).partition(";")[0]
    '/root/runs: Permission denied'
    """
    reason = error.strerror or " ".join(str(error).split())
    where = "" if error.filename is None else f"{error.filename}: "
    if error.errno == errno.ENAMETOOLONG:
        return f"{where}{reason}; give a shorter one."
    return (
        f"{where}{reason}; choose a place that can be written, such as another --output; what was "
        "done before is kept."
    )
