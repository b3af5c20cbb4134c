"""A store that can be used is under its prefix; one that cannot be is told of in one line."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Memory
from protege.search.study.store import Store
from protege.spaces import BadInput, Teacher
from tests import s3
from tests.search.toys import PLAIN, toy

NO_STORE: dict[str, tuple[str, dict[str, str], str]] = {
    "no URL": (
        "students/toy",
        {},
        "artifacts 'students/toy': expected s3://bucket or s3://bucket/prefix",
    ),
    "no name of a bucket": (
        "s3://My_Students",
        {},
        "the bucket named in small letters, digits, dots and hyphens",
    ),
    "no bucket": (
        "s3://nobodys",
        {},
        r"s3://nobodys: .*The specified bucket does not exist; create the bucket, or mend the URL",
    ),
    "no server": (
        "s3://students",
        {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"},
        r"s3://students: Could not connect to .*127.0.0.1:1.*; start the store, or mend AWS_ENDPO",
    ),
    "no endpoint": (
        "s3://students",
        {"AWS_ENDPOINT_URL_S3": "nowhere"},
        "s3://students: Invalid endpoint: nowhere; mend AWS_PROFILE or AWS_ENDPOINT_URL_S3",
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


def test_boto3_is_asked_for_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(BadInput, match=r'boto3 is not installed; pip install "protege\[s3\]"'):
        Store.at("s3://students")


def test_a_prefix_keeps_to_what_is_under_it(server: s3.Server) -> None:
    whole, under = Store.at(f"s3://{server.bucket}"), Store.at(f"s3://{server.bucket}/a/b/")
    under.write("one", io.BytesIO(b"1"))
    assert server.names() == ["a/b/one"]
    assert (under.ids(), whole.ids()) == ({"one"}, {"a/b/one"})
    assert Store.at(f"s3://{server.bucket}/a").ids() == {"b/one"}
    under.remove("one")
    assert under.ids() == set()
