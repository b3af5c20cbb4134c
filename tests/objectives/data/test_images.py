import os
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from protege.objectives.data import Example, Images, Picture
from protege.spaces import BadInput

pil = pytest.importorskip("PIL.Image")


def shade(value: int) -> "np.ndarray[Any, Any]":
    return np.full((4, 5, 3), value, np.uint8)


def save(path: Path, value: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pil.fromarray(shade(value)).save(path)
    return path


def shades(images: Images) -> list[int]:
    return [
        int(np.asarray(example.content.open()).mean())
        for example in images
        if isinstance(example.content, Picture)
    ]


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for number, name in enumerate(["dogs/1.png", "cats/b.bmp", "cats/a.PNG", "cats/deep/c.webp"]):
        save(tmp_path / name, number)
    (tmp_path / "cats/notes.txt").write_text("no image")
    save(tmp_path / ".cache/x.png", 9)
    save(tmp_path / "dogs/._1.png", 9)
    images = Images.from_folder(tmp_path)
    assert [example.label for example in images] == ["cats", "cats", "cats", "dogs"]
    assert shades(images) == [2, 1, 3, 0]
    assert images.labelled


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for value in (3, 1, 2):
        save(tmp_path / f"{value}.png", value)
    images = Images.from_folder(tmp_path)
    assert shades(images) == [1, 2, 3]
    assert not images.labelled


def test_images_beside_the_classes_have_no_class(tmp_path: Path) -> None:
    save(tmp_path / "cats/1.png", 1)
    save(tmp_path / "2.png", 2)
    with pytest.raises(BadInput, match="1 of 2 images have a label; expected all or none"):
        Images.from_folder(tmp_path).split(1, 1, 1)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="empty; expected images, or one folder of images per class"):
        Images.from_folder(tmp_path)
    with pytest.raises(BadInput, match=r"gone: cannot be read \(No such file.*folder of images"):
        Images.from_folder(tmp_path / "gone")


def test_copies_of_a_file_are_one_image(tmp_path: Path) -> None:
    for number in range(20):
        for copy in ("a", "b"):
            save(tmp_path / f"{copy}{number}.png", number)
    split = Images.from_folder(tmp_path).split(100, 100, 100)
    assert tuple(map(len, split)) == (10, 5, 5)
    assert len({example.identity for part in split for example in part}) == 20


def test_one_image_is_too_few() -> None:
    with pytest.raises(BadInput, match="1 images: expected at least two that are distinct"):
        Images.of([shade(1), pil.fromarray(shade(1))])


def test_images_in_memory_are_known_by_their_pixels(tmp_path: Path) -> None:
    save(tmp_path / "3.png", 3)
    images = Images.of([shade(1), pil.fromarray(shade(2)), tmp_path / "3.png"], ["x", "y", "x"])
    assert shades(images) == [1, 2, 3]
    assert [example.label for example in images] == ["x", "y", "x"]
    assert images != Images.of([shade(1), shade(2), tmp_path / "3.png"])
    assert Images.of([shade(1), shade(2)]) == Images.of([shade(2), pil.fromarray(shade(1))])


def test_what_is_no_image_is_named_by_its_place() -> None:
    with pytest.raises(BadInput, match=r"images\[1\]: an array of float64"):
        Images.of([shade(1), shade(2) / 1.0])
    with pytest.raises(BadInput, match="2 images with 1 labels; expected one each"):
        Images.of([shade(1), shade(2)], [0])


@pytest.mark.parametrize("streamed", [False, True], ids=["held", "streamed"])
def test_a_dataset_of_images_is_read(*, streamed: bool) -> None:
    columns = {"image": [pil.fromarray(shade(value)) for value in (5, 6, 7)], "label": [0, 1, 0]}
    dataset = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    if streamed:
        dataset = dataset.to_iterable_dataset()
    images = Images.from_dataset(dataset)
    assert shades(images) == shades(images) == [5, 6, 7]
    assert [example.label for example in images] == [0, 1, 0]
    assert tuple(map(len, images.split(9, 9, 9))) == (2, 1, 0)


def test_a_held_dataset_is_compared_without_decoding() -> None:
    columns = {"image": [pil.fromarray(shade(value)) for value in (5, 6)]}
    dataset = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    first = next(iter(Images.from_dataset(dataset))).content
    assert isinstance(first, Picture)
    assert first.content.startswith(b"\x89PNG")


def test_a_missing_column_is_told_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="no column 'image'; there are: img, label"):
        Images.from_dataset(datasets.Dataset.from_dict({"img": ["a"], "label": [1]}))


def test_digits_written_by_hand_are_split_with_their_labels(tmp_path: Path) -> None:
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        if number < 60:
            folder = tmp_path / str(label)
            folder.mkdir(exist_ok=True)
            pil.fromarray((pixels * 15).astype(np.uint8)).save(folder / f"{number}.png")
    split = Images.from_folder(tmp_path).split(30, 10, 10)
    assert tuple(map(len, split)) == (30, 10, 10)
    for example in [example for part in split for example in part]:
        held = example.content
        assert isinstance(held, Picture)
        assert isinstance(held.held, Path)
        assert held.held.parent.name == example.label
        assert digits.target[int(held.held.stem)] == int(str(example.label))


def test_examples_of_equal_pictures_are_equal() -> None:
    assert Example(Picture.of(shade(1)), 0) == Example(Picture.of(shade(1)), 0)


def test_a_folder_whose_name_cannot_be_encoded_is_named(tmp_path: Path) -> None:
    save(tmp_path / "good/1.png", 1)
    try:
        save(tmp_path / os.fsdecode(b"na\xefve") / "2.png", 2)
    except OSError:
        pytest.skip("file names are UTF-8 here")
    with pytest.raises(BadInput, match=r"folder 'na.udcefve': character 2 of .* cannot be encoded"):
        Images.from_folder(tmp_path)
