"""The source of a teacher, a folder or a hub id, and how transformers reads it."""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig
from transformers.utils import logging as transformers_log

from protege.spaces.checkpoints.faults import check_no_pointers, fault_in
from protege.spaces.errors import BadInput, ProtegeError, text_of

_LOG = logging.getLogger("protege")


def place_of(source: str | Path) -> str:
    """Return the source as transformers takes it.

    Raises:
        BadInput: The source is written as a path, and there is no such folder.
    """
    place = Path(source).expanduser()
    written_as_path = isinstance(source, Path) or str(source).startswith((".", "/", "~"))
    if written_as_path and not place.is_dir():
        raise BadInput(f"{source}: no such folder; expected one with a checkpoint, or a hub id")
    return str(place)


def hub_id_of(place: str) -> str | None:
    """Return the hub id of a teacher, or None if it came from a folder.

    For a folder of the hub's cache, return the id that it was downloaded from.
    """
    path = Path(place)
    if not path.is_dir():
        return place
    repository = path.resolve().parent.parent.name
    kind, *names = repository.split("--")
    cached = kind == "models" and path.resolve().parent.name == "snapshots" and names
    return "/".join(names) if cached else None


@contextlib.contextmanager
def as_bad_input(
    source: str, revision: str | None = None, gguf_file: str | None = None
) -> Iterator[None]:
    """Turn errors of transformers at loading a checkpoint into `BadInput`.

    Raises:
        BadInput: The checkpoint does not load; names the faulty file if there is one.
    """
    try:
        check_no_pointers(source, revision, gguf_file)
        yield
    except ProtegeError:
        raise
    except Exception as error:  # transformers, tokenizers and torch have no common base class
        if fault := fault_in(source, revision, gguf_file):
            raise BadInput(fault) from error
        reason = " ".join(text_of(error).split())[:300] or type(error).__name__
        raise BadInput(
            f"{source}: no teacher can be loaded from there; expected a folder with config.json "
            f"and weights, or a hub id ({reason})"
        ) from error


def usable(config: PretrainedConfig) -> str:
    """Set options of a configuration that change how a model is called, not what it computes.

    Outputs are named, and hidden states and attentions are not returned. Attention kernels that do
    not support fp32 weights, such as FlashAttention, are replaced.

    Returns:
        The configured attention implementation if it is replaced, else empty.
    """
    asked = str(config._attn_implementation or "")  # noqa: SLF001 - it has no public name
    changed: Any = config
    if asked not in {"", "eager", "sdpa"} or getattr(config, "output_attentions", False):
        changed._attn_implementation = None  # noqa: SLF001 - the model chooses what it supports
    changed.output_attentions = changed.output_hidden_states = False
    changed.return_dict = True
    if hasattr(config, "torchscript"):
        changed.torchscript = False
    return "" if asked in {"", "eager", "sdpa"} else asked


def tell_of_attention(source: str, asked: str, config: PretrainedConfig) -> None:
    """Log that a model uses another attention implementation than configured."""
    if asked:
        used = config._attn_implementation  # noqa: SLF001 - it has no public name
        text = "protege: %s asks for %s, which takes no 32-bit weights; %s is used instead"
        _LOG.warning(text, source, asked, used)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and warnings inside the block."""
    verbosity = transformers_log.get_verbosity()
    bars = transformers_log.is_progress_bar_enabled()
    transformers_log.set_verbosity_error()
    transformers_log.disable_progress_bar()
    try:
        # the progress bar for GGUF tensors cannot be disabled
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        transformers_log.set_verbosity(verbosity)
        if bars:
            transformers_log.enable_progress_bar()
