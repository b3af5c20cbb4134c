"""Hide passwords and tokens in text that is shown, logged or stored."""

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
