"""The errors of protege; messages say what was given, what was expected and what to do."""

import re

HIDDEN = "***"
"""The replacement of a secret."""

_PATTERNS = (
    # https://TOKEN@host and https://user:password@host: either part may be the secret
    (re.compile(r"(\bhttps?://)[^\s/'\"]+@", re.IGNORECASE), rf"\g<1>{HIDDEN}@"),
    # scheme://user:password@host, the password with any character but white space
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/?#@]*):\S*@", re.IGNORECASE), rf"\g<1>:{HIDDEN}@"),
    # ?token=..., &X-Amz-Signature=...
    (
        re.compile(
            r"([?&][\w.%-]*(?:passw|pwd|passphrase|secret|token|signature|credential|key|auth)"
            r"[\w.%-]*=)[^&\s'\"]+",
            re.IGNORECASE,
        ),
        rf"\g<1>{HIDDEN}",
    ),
    # password=... of a PostgreSQL connection string
    (
        re.compile(
            r"(\b(?:ssl)?(?:password|passwd|pwd)\s*=\s*)('[^']*'|[^\s;&'\"]+)", re.IGNORECASE
        ),
        rf"\g<1>{HIDDEN}",
    ),
    # WANDB_API_KEY=..., HF_TOKEN: ...
    (
        re.compile(r"(\b[A-Z_]*(?:TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY)[A-Z_]*\s*[=:]\s*)\S+"),
        rf"\g<1>{HIDDEN}",
    ),
    # Authorization: Bearer ..., and tokens with known prefixes
    (re.compile(r"(\bBearer\s+)\S+", re.IGNORECASE), rf"\g<1>{HIDDEN}"),
    (re.compile(r"\b(hf_|ghp_|github_pat_|wandb_v1_)[A-Za-z0-9_]{16,}"), rf"\g<1>{HIDDEN}"),
)


def without_secrets(text: str) -> str:
    """Replace passwords and tokens in a text by ``***``.

    Finds passwords in URLs, secret parameters of queries and connection strings, environment
    variables such as ``HF_TOKEN``, and tokens of the hub, GitHub and Weights & Biases.
    """
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return text


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
