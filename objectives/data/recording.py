"""A recording of speech, in memory or in a WAV file."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protege.spaces.errors import BadInput

RATE = 16_000
"""Samples per second, as Whisper reads them."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording of speech, one channel at 16 kHz.

    Attributes:
        held: The path of a WAV file; its bytes; or, if `is_samples`, float32 samples.
        is_samples: Whether `held` is samples.
    """

    held: Path | bytes
    is_samples: bool = False

    @classmethod
    def of(cls, given: Any, where: str = "recording") -> "Recording":
        """Convert a value to a recording.

        Args:
            given: The path of a WAV file; floats from -1 to 1 at 16 kHz, ``(samples,)``; or a
                mapping with ``array`` and ``sampling_rate``, or with ``bytes`` or ``path``, as in
                dataset columns.
            where: Name of the value in error messages.

        Raises:
            BadInput: The value is none of these, or has another sampling rate.
        """
        if isinstance(given, Recording):
            return given
        if isinstance(given, str | Path):
            return cls(Path(given))
        if hasattr(given, "get_all_samples"):  # what datasets decodes to
            given = {name: given[name] for name in ("array", "sampling_rate")}
        if isinstance(given, Mapping):
            if given.get("array") is not None:
                _check_rate(given.get("sampling_rate"), where)
                return cls.of(np.asarray(given["array"]), where)
            if held := given.get("bytes") or given.get("path"):
                return cls(held if isinstance(held, bytes) else Path(held))
        if hasattr(given, "__array__"):
            return cls._of_array(np.asarray(given), where)
        raise BadInput(
            f"{where}: of type {type(given).__name__}; expected a path of a WAV file, or an array "
            "of floats at 16 kHz"
        )

    @classmethod
    def _of_array(cls, array: NDArray[Any], where: str) -> "Recording":
        is_sound = array.ndim == 1 and array.size > 0 and np.issubdtype(array.dtype, np.floating)
        if not is_sound or not np.isfinite(array).all():
            raise BadInput(
                f"{where}: an array of {array.dtype}, shape {array.shape}; expected finite floats "
                "from -1 to 1, (samples,)"
            )
        return cls(array.astype(np.float32).tobytes(), is_samples=True)

    @property
    def content(self) -> bytes:
        """The bytes that identify the recording: its samples, or its file's content.

        Raises:
            BadInput: The file cannot be read.
        """
        if isinstance(self.held, bytes):
            return self.held
        try:
            return self.held.read_bytes()
        except OSError as error:
            raise BadInput(
                f"{self.held}: cannot be read ({error.strerror}); expected a WAV file"
            ) from None

    def samples(self) -> NDArray[np.float32]:
        """Decode the recording to floats from -1 to 1, ``(samples,)``.

        Raises:
            BadInput: The file cannot be read, is no WAV file, or has another sampling rate.
        """
        if self.is_samples:
            return np.frombuffer(self.content, np.float32)
        from scipy.io import wavfile

        content = self.content
        try:
            with warnings.catch_warnings(action="ignore", category=wavfile.WavFileWarning):
                rate, values = wavfile.read(BytesIO(content))
        except (ValueError, EOFError, TypeError) as error:
            raise BadInput(
                f"{self}: not a WAV file that can be read ({error}); convert it, or give arrays"
            ) from None
        _check_rate(rate, str(self))
        if values.dtype == np.uint8:
            values = (values.astype(np.float32) - 128) / 128
        elif np.issubdtype(values.dtype, np.integer):
            values = values / -float(np.iinfo(values.dtype).min)
        found: NDArray[np.float32] = values.astype(np.float32)
        return found if found.ndim == 1 else found.mean(axis=1)

    def __str__(self) -> str:
        if isinstance(self.held, Path):
            return str(self.held)
        return f"recording of {len(self.held)} bytes"


def _check_rate(rate: Any, where: str) -> None:
    if rate != RATE:
        raise BadInput(
            f"{where}: a sampling rate of {rate}; expected {RATE}: resample it, in a dataset by "
            f"cast_column(name, datasets.Audio(sampling_rate={RATE}))"
        )
