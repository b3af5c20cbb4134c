"""Recordings are read from arrays, WAV files, folders with a table, and datasets."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from scipy.io import wavfile

from protege.objectives import Speech
from protege.objectives.data import Example, Recording
from protege.objectives.data.recording import RATE
from protege.spaces import BadInput

TONE = (0.5 * np.sin(np.arange(800) / 9)).astype(np.float32)


def written(path: Path, values: Any = TONE, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, values)
    return path


@pytest.mark.parametrize(
    ("kind", "exact"), [("float32", 0), ("int16", 1e-4), ("int32", 1e-6), ("uint8", 1e-2)]
)
def test_a_wav_file_is_read_as_floats(kind: str, exact: float, tmp_path: Path) -> None:
    values: Any = TONE
    if kind == "uint8":
        values = (TONE * 128 + 128).astype(np.uint8)
    elif kind != "float32":
        values = (TONE * np.iinfo(kind).max).astype(kind)
    found = Recording.of(written(tmp_path / "a.wav", values)).samples()
    assert found.dtype == np.float32
    assert np.abs(found - TONE).max() <= exact


def test_channels_are_averaged(tmp_path: Path) -> None:
    both = np.stack([TONE, 3 * TONE], axis=1)
    found = Recording.of(written(tmp_path / "a.wav", both)).samples()
    assert np.allclose(found, 2 * TONE)


def test_whatever_holds_the_samples_is_the_same_recording() -> None:
    given: list[Any] = [
        TONE,
        TONE.astype(np.float64),
        {"array": TONE, "sampling_rate": RATE, "path": None},
        {"array": TONE.tolist(), "sampling_rate": RATE},
    ]
    assert len({Example(Recording.of(one)).identity for one in given}) == 1
    assert np.array_equal(Recording.of(TONE).samples(), TONE)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.zeros((2, 8), np.float32), r"an array of float32, shape \(2, 8\); expected finite"),
        (np.zeros(8, np.int16), "an array of int16"),
        (np.full(8, np.nan), ".*expected finite floats"),
        (np.zeros(0), r".*shape \(0,\)"),
        (7, "of type int; expected a path of a WAV file"),
        ({"array": TONE, "sampling_rate": 8000}, "a sampling rate of 8000; expected 16000"),
    ],
)
def test_what_is_no_recording_is_named_by_its_place(given: Any, told: str) -> None:
    with pytest.raises(BadInput, match=rf"recordings\[1\]: {told}"):
        Speech.of([TONE, given], ["a", "b"])


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(BadInput, match=r"a\.wav: not a WAV file that can be read"):
        Recording.of(tmp_path / "a.wav").samples()
    with pytest.raises(BadInput, match=r"b\.wav: cannot be read \(No such file"):
        Recording.of(tmp_path / "b.wav").samples()
    slow = written(tmp_path / "c.wav", rate=8000)
    with pytest.raises(
        BadInput, match=r"c\.wav: a sampling rate of 8000; expected 16000: resample"
    ):
        Recording.of(slow).samples()


def test_a_folder_is_read_by_its_table(tmp_path: Path) -> None:
    for number in range(3):
        written(tmp_path / "clips" / f"{number}.wav", TONE * (number + 1) / 4)
    rows = ["file_name,transcription", "clips/0.wav,one", "clips/1.wav,2", "clips/2.wav,and three"]
    (tmp_path / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    data = Speech.from_folder(tmp_path)
    assert [example.label for example in data] == ["one", "2", "and three"]
    assert data.labelled
    first = next(iter(data)).content
    assert isinstance(first, Recording)
    assert np.allclose(first.samples(), TONE / 4)
    assert tuple(map(len, data.split(9, 9, 9))) == (2, 1, 0)


def test_a_folder_without_its_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"metadata\.csv: cannot be read"):
        Speech.from_folder(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav,one\n", encoding="utf-8")
    with pytest.raises(BadInput, match="no column 'transcription'; there are: file_name, text"):
        Speech.from_folder(tmp_path)


def test_a_dataset_of_files_is_read_undecoded(tmp_path: Path) -> None:
    paths = [str(written(tmp_path / f"{n}.wav", TONE * (n + 1) / 4)) for n in range(3)]
    dataset = datasets.Dataset.from_dict({"audio": paths, "text": ["a", "b", "c"]})
    data = Speech.from_dataset(dataset.cast_column("audio", datasets.Audio()))
    assert [example.label for example in data] == ["a", "b", "c"]
    held = [example.content for example in data]
    assert all(isinstance(one, Recording) for one in held)
    assert np.allclose(held[1].samples(), TONE / 2)  # type: ignore[union-attr]


class Decoded:
    """What `datasets` decodes to, where it can."""

    def get_all_samples(self) -> None:
        raise NotImplementedError

    def __getitem__(self, name: str) -> Any:
        return {"array": TONE, "sampling_rate": RATE}[name]


def test_decoded_columns_and_rows_of_arrays_are_read() -> None:
    rows = [
        {"audio": Decoded(), "text": "a"},
        {"audio": {"array": TONE / 2, "sampling_rate": RATE}, "text": "b"},
    ]
    data = Speech.from_dataset(rows)
    assert data == Speech.of([TONE, TONE / 2], ["a", "b"])


def test_recordings_are_told_apart_by_their_samples_and_texts() -> None:
    one, other = Recording.of(TONE), Recording.of(TONE / 2)
    assert Example(one).identity != Example(other).identity
    assert Example(one, "a").identity == Example(one, "b").identity
    assert Example(one, "a").signature != Example(one, "b").signature
    assert not Example(one).blank
    assert Example(one).text == ""
