"""Streams of recordings of speech with their texts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from protege.objectives.data.example import Example
from protege.objectives.data.examples import Examples
from protege.objectives.data.files import File
from protege.objectives.data.images import undecoded
from protege.objectives.data.recording import RATE, Recording
from protege.objectives.data.records import Columns, DatasetRows, held


@dataclass(frozen=True, eq=False, repr=False)
class Speech(Examples):
    """Recordings of speech, one channel at 16 kHz, each with the text that is said."""

    noun: ClassVar[str] = "recordings"
    wanted: ClassVar[str] = "one recording and its text per row"

    @classmethod
    def of(cls, recordings: Iterable[Any], texts: Iterable[str]) -> "Speech":
        """Return recordings in memory or in files.

        Args:
            recordings: Arrays of floats from -1 to 1 at 16 kHz, ``(samples,)``, or paths of WAV
                files.
            texts: What is said in each.

        Raises:
            BadInput: The numbers of texts and recordings differ, there are fewer than two
                recordings, or a value is not a recording.
        """
        return cls(partial(iter, held(recordings, texts, Recording.of, cls.noun)))

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        table: str = "metadata.csv",
        audio: str = "file_name",
        text: str = "transcription",
    ) -> "Speech":
        """Return the WAV files of a folder that a table names, with their texts.

        Args:
            folder: The folder.
            table: The table in it: CSV, TSV, JSON, JSONL or Parquet.
            audio: The column of the file names, relative to the folder.
            text: The column of the texts.

        Raises:
            BadInput: The table cannot be read, lacks a column, or has fewer than two rows.
        """
        path = Path(folder)
        file = File.of(path / table, Columns(audio, text), None, None)
        return cls(_Folder(path, file), str(path / table))

    @classmethod
    def from_dataset(cls, dataset: Any, audio: str = "audio", text: str = "text") -> "Speech":
        """Return the recordings of a Hugging Face dataset or of a list of mappings.

        Args:
            dataset: One split; in memory, memory-mapped or streamed.
            audio: The column of the recordings. Where it declares a sampling rate, `datasets`
                decodes them; else they are WAV files or arrays.
            text: The column of the texts.

        Raises:
            BadInput: The dataset has several splits, lacks a column, or holds other values.
        """
        rows = DatasetRows.of(dataset, Columns(audio, text), Recording.of)
        feature = (getattr(rows.dataset, "features", None) or {}).get(audio)
        if getattr(feature, "sampling_rate", None) in {None, RATE}:
            rows = replace(rows, dataset=undecoded(rows.dataset, audio))
        return cls(rows, "dataset")


@dataclass(frozen=True)
class _Folder:
    """The recordings of a folder, in the order of its table."""

    path: Path
    table: File

    def __call__(self) -> Iterator[Example]:
        for example in self.table():
            # a table's texts of digits alone are read as numbers
            text = None if example.label is None else str(example.label)
            yield Example(Recording(self.path / example.text), text)
