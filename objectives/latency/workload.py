"""The size of the call that is timed."""

from dataclasses import dataclass

from protege.spaces.errors import BadInput


@dataclass(frozen=True)
class Workload:
    """The size of one call.

    With ``new_tokens=0`` a call is one forward pass over the prompt. Otherwise it is a prefill of
    the prompt and `new_tokens` greedy decoding steps of one token each, with the model's KV cache.

    Attributes:
        batch_size: Sequences per call.
        prompt_tokens: Prompt tokens per sequence.
        new_tokens: Tokens generated per sequence; 0 for encoders.

    Raises:
        BadInput: A size is not an integer, or is too small.
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
    # bool is a subclass of int
    if not isinstance(size, int) or isinstance(size, bool) or size < least:
        raise BadInput(f"{name} must be a whole number of at least {least}, not {size!r}")
