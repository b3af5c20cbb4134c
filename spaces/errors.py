"""What can go wrong; each message says what was given, what was expected and what to do."""

from protege.spaces.redaction import without_secrets


class ProtegeError(Exception):
    """Root of every error raised on purpose; the command line prints it as one line.

    Passwords and tokens in the message are hidden: messages are shown, logged and stored.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(message))


class BadInput(ProtegeError):
    """Something the user gave (a path, a ratio, a file, a budget) cannot be used as it is."""


class Infeasible(ProtegeError):
    """No model of the family has the sizes asked for."""


class Unsupported(ProtegeError):
    """The model type, the task or the platform is not one that protege knows."""


class DiskFull(ProtegeError):
    """There was no room for a file; what was there before it is untouched."""


class Mismatch(ProtegeError):
    """A study, a cache or an export belongs to other inputs than the ones given."""
