"""A store that can be used is under its prefix; one that cannot be is told of in one line."""

import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from optuna.artifacts.exceptions import ArtifactNotFound

from protege.objectives import Memory
from protege.search.study.store import Store
from protege.spaces import BadInput, Teacher
from tests.search.toys import PLAIN, toy

NO_STORE: dict[str, tuple[str, dict[str, str], str]] = {
    "no URL": (
        "students/toy",
        {},
        "artifacts 'students/toy': expected s3://bucket/prefix, a URL of another file system",
    ),
    "no known scheme": ("s4://students", {}, "artifacts s4://students: Protocol not known: s4"),
    "no bucket": (
        "s3://nobodys",
        {},
        r"s3://nobodys: .*bucket does not exist; create the bucket, or correct the URL",
    ),
    "no server": (
        "s3://students",
        {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"},
        r"s3://students: Could not connect to .*127.0.0.1:1.*; start it, or correct its address",
    ),
    "no endpoint": (
        "s3://students",
        {"AWS_ENDPOINT_URL_S3": "nowhere"},
        "s3://students: Invalid endpoint: nowhere; start it, or correct its address",
    ),
    "no credentials": (
        "s3://students",
        {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
        r"s3://students: Unable to locate credentials; expected credentials that may list, write",
    ),
}
"""Stores that cannot be used: the URL, what is in the environment, and what is said of it."""


@pytest.mark.parametrize("kind", NO_STORE)
@pytest.mark.usefixtures("server")
def test_a_store_that_cannot_be_used_is_told_of_before_anything_is_made(
    kind: str, folder: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, environment, message = NO_STORE[kind]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given: dict[str, Any] = {"teacher": teacher, "space": PLAIN, "objectives": [Memory()]}
    with pytest.raises(BadInput, match=message):
        toy(folder, artifacts=url, **given).run(trials=1)
    assert {path.suffix for path in folder.iterdir()} <= {".lock"}


@pytest.mark.skipif(find_spec("gcsfs") is not None, reason="gcsfs is installed")
def test_the_library_of_a_scheme_is_asked_for_where_it_is_not_installed() -> None:
    with pytest.raises(BadInput, match="artifacts gs://students: Please install gcsfs to access"):
        Store.at("gs://students")


@pytest.fixture(params=["s3", "memory", "folder"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store."""
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('server').bucket}"
    return f"memory://{tmp_path.name}" if request.param == "memory" else str(tmp_path)


def test_a_prefix_keeps_to_what_is_under_it(url: str) -> None:
    whole, under = Store.at(url), Store.at(f"{url}/a/b/")
    under.check()
    under.write("one", io.BytesIO(b"1"))
    assert (under.ids(), whole.ids()) == ({"one"}, {"a/b/one"})
    assert Store.at(f"{url}/a").ids() == {"b/one"}
    for _ in range(2):
        under.remove("one")
        assert under.ids() == whole.ids() == set()
    with pytest.raises(ArtifactNotFound):
        under.open_reader("one")


class Torn(io.BytesIO):
    """A content that ends with an error."""

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        if not found:
            raise KeyboardInterrupt
        return found


@pytest.mark.parametrize("size", [10, 80 * 2**20])
def test_an_upload_that_is_cut_short_changes_nothing(url: str, size: int) -> None:
    store = Store.at(url)
    store.write("one", io.BytesIO(b"before"))
    for name in ("one", "two"):
        with pytest.raises(KeyboardInterrupt):
            store.write(name, Torn(bytes(size)))
    assert store.ids() == {"one"}
    with store.open_reader("one") as file:
        assert file.read() == b"before"
    store.write("one", io.BytesIO(b"after"))
    with store.open_reader("one") as file:
        assert file.read() == b"after"
