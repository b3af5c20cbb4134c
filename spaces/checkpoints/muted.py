"""Keeping other libraries' bars and notices off the terminal; protege shows its own."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and warnings inside the block."""
    # the bar over GGUF tensors is tqdm's own and asks nobody
    with redirect_stderr(io.StringIO()), _without_bars():
        yield


@contextmanager
def _without_bars() -> Iterator[None]:
    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
