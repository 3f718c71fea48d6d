"""The one exception for input a user can mend."""


class InputError(ValueError):
    """Bad input: the message is one sentence that says what was received and what is allowed.

    The command line prints it on stderr and exits with code 2; everything else is a fault of
    this library and keeps its traceback.
    """
