"""The errors of protege; messages say what was given, what was expected and what to do."""

from protege.spaces.redaction import without_secrets


def text_of(error: BaseException) -> str:
    """Return the message of an exception, also of one whose ``__str__`` raises."""
    try:
        return str(error)
    except Exception as fault:  # noqa: BLE001 - whatever a foreign __str__ raises
        return f"its message cannot be read: {type(fault).__name__}"


class ProtegeError(Exception):
    """Base class of protege's errors; the command line prints them as one line.

    Passwords and tokens in the message are hidden, because messages are shown, logged and stored.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(message))


class BadInput(ProtegeError):
    """A path, ratio, file, limit or other input of the user is invalid."""


class Unavailable(BadInput):
    """A device or service that every trial needs does not work or is set up wrongly."""


class Infeasible(ProtegeError):
    """No model of the family has the requested sizes."""


class Unsupported(ProtegeError):
    """The model type, the task or the platform is not supported."""


class DiskFull(ProtegeError):
    """The disk has no room for a file; an earlier version of the file is unchanged."""


class Mismatch(ProtegeError):
    """A study, a cache or an export belongs to other inputs than the given ones."""
