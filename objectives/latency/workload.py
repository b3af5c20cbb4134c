"""What a model is asked to do while it is timed."""

from dataclasses import dataclass

from protege.spaces.errors import BadInput


@dataclass(frozen=True)
class Workload:
    """The size of one call.

    Without new tokens a call is one forward of the prompt. With new tokens it is a prefill of the
    prompt and then so many greedy decoding steps of one token each, with the model's own cache.

    Attributes:
        batch_size: Sequences a call.
        prompt_tokens: Tokens of each sequence.
        new_tokens: Tokens generated for each sequence; 0 for encoders.

    Raises:
        BadInput: When a size is not a whole number, or is too small.
    """

    batch_size: int = 1
    prompt_tokens: int = 128
    new_tokens: int = 0

    def __post_init__(self) -> None:
        _check("batch_size", self.batch_size, least=1)
        _check("prompt_tokens", self.prompt_tokens, least=1)
        _check("new_tokens", self.new_tokens, least=0)

    def __str__(self) -> str:
        more = f" + {self.new_tokens}" if self.new_tokens else ""
        return f"{self.batch_size} x {self.prompt_tokens}{more} tokens"


def _check(name: str, size: object, *, least: int) -> None:
    # a bool is an int to Python, and never a size that somebody meant
    if not isinstance(size, int) or isinstance(size, bool) or size < least:
        raise BadInput(f"{name} must be a whole number of at least {least}, not {size!r}")
