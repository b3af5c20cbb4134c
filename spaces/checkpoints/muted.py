"""Silence the progress bars and warnings of other libraries."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and warnings inside the block."""
    # the progress bar for GGUF tensors cannot be disabled
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
