import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from protege.objectives.data import Picture
from protege.spaces import BadInput

pil = pytest.importorskip("PIL.Image")

SIDES = st.integers(1, 5)
SHAPES = SIDES.flatmap(
    lambda height: st.one_of(
        st.tuples(st.just(height), SIDES), st.tuples(st.just(height), SIDES, st.just(3))
    )
)


def gradient(width: int = 4, height: int = 3) -> "np.ndarray[Any, Any]":
    return np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)


def encoded(image: Any, kind: str = "PNG", **settings: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


@given(pixels=SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_pixels_come_back_as_they_were(pixels: "np.ndarray[Any, Any]") -> None:
    coloured = np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels
    assert np.array_equal(np.asarray(Picture.of(pixels).open()), coloured)
    assert Picture.of(pixels) == Picture.of(coloured) == Picture.of(pil.fromarray(pixels))


@pytest.mark.parametrize("given_as", ["path", "name", "bytes", "mapping", "mapping with a path"])
def test_a_file_is_opened_wherever_it_is(tmp_path: Path, given_as: str) -> None:
    path, content = tmp_path / "a.png", encoded(pil.fromarray(gradient()))
    path.write_bytes(content)
    pictures: dict[str, Any] = {
        "path": path,
        "name": str(path),
        "bytes": Picture(content),
        "mapping": {"bytes": content, "path": "gone.png"},
        "mapping with a path": {"bytes": None, "path": str(path)},
    }
    picture = Picture.of(pictures[given_as])
    assert np.array_equal(np.asarray(picture.open()), gradient())
    assert picture.content == content


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I"])
def test_every_kind_of_image_opens_in_three_colours(mode: str) -> None:
    image = pil.fromarray(gradient()).convert(mode)
    assert Picture.of(image).open().mode == "RGB"
    assert Picture.of(image).open().size == (4, 3)


def test_an_image_is_upright_whichever_way_the_camera_was_held() -> None:
    lying = pil.Exif()
    lying[0x0112] = 6
    content = encoded(pil.fromarray(gradient()), exif=lying)
    expected = np.rot90(gradient(), -1)
    assert np.array_equal(np.asarray(Picture(content).open()), expected)
    with pil.open(BytesIO(content)) as image:
        assert np.array_equal(np.asarray(Picture.of(image).open()), expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (7, "of type int; expected a path, a PIL image or an array of uint8"),
        ({"bytes": None, "path": None}, "of type dict; expected a path"),
        (np.zeros((2, 2)), r"an array of float64, shape \(2, 2\); expected uint8, \(height"),
        (
            np.zeros((3, 2, 2), np.uint8),
            r"an array of uint8, shape \(3, 2, 2\); expected uint8, \(height, width\)",
        ),
        (np.zeros((0, 2), np.uint8), r"an array of uint8, shape \(0, 2\)"),
        (np.zeros(4, np.uint8), r"an array of uint8, shape \(4,\)"),
    ],
)
def test_what_is_no_image_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(BadInput, match=rf"images\[3\]: {message}"):
        Picture.of(wrong, "images[3]")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
@given(cut=st.floats(0, 1), noise=st.binary(max_size=8))
def test_a_broken_file_is_refused_or_opens(kind: str, cut: float, noise: bytes) -> None:
    whole = encoded(pil.fromarray(gradient()), kind)
    place = int(cut * len(whole))
    try:
        assert Picture(whole[:place] + noise).open().mode == "RGB"
    except BadInput as error:
        assert "not an image that can be read" in str(error)  # noqa: PT017 - most noise opens not


def test_an_image_that_claims_more_pixels_than_a_memory_holds_is_refused() -> None:
    whole = bytearray(encoded(pil.fromarray(gradient())))
    whole[16:24] = (1 << 17).to_bytes(4, "big") * 2  # width and height in the header of a PNG
    checksum = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    with pytest.raises(BadInput, match=r"not an image that can be read .*exceeds limit"):
        Picture(bytes(whole[:29] + checksum + whole[33:])).open()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    path.write_bytes(encoded(pil.fromarray(gradient(50, 50)))[:-80])
    with pytest.raises(BadInput, match=r"half\.png: not an image that can be read .*; replace or"):
        Picture(path).open()
    with pytest.raises(BadInput, match="image of 5 bytes: not an image that can be read"):
        Picture(b"noise").open()


def test_a_broken_image_of_pillows_is_named(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    path.write_bytes(encoded(pil.fromarray(gradient(50, 50)))[:-80])
    with pil.open(path) as image, pytest.raises(BadInput, match=r"images\[0\]: not an image"):
        Picture.of(image, "images[0]")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.png: cannot be read \(No such file"):
        Picture(tmp_path / "gone.png").open()


def test_without_pillow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(BadInput, match=r'images need Pillow; pip install "protege\[images\]"'):
        Picture(bytes(3), (1, 1)).open()
