"""An S3-compatible store, as Optuna writes artifacts to it."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from optuna.artifacts import Boto3ArtifactStore

from protege.search.storage.locating import shown
from protege.spaces import BadInput
from protege.spaces.redaction import without_secrets

URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]+[a-z0-9])(/(?P<prefix>[^/].*?))?/?")
"""A bucket, and what the names of all objects in it begin with."""

PROBE = "protege-probe"
"""An object that is written and removed to see whether that can be done."""


@dataclass(frozen=True)
class Store:
    """A bucket, or what is under one prefix in it; Optuna takes it for an artifact store.

    Attributes:
        url: Where it is, such as ``s3://bucket/prefix``.
        prefix: What the names of its objects begin with: nothing, or a path with its last slash.
        bucket: Optuna's own store, which knows of no prefix.
    """

    url: str
    prefix: str
    bucket: Boto3ArtifactStore

    @classmethod
    def at(cls, url: str) -> "Store":
        """The store of that URL, not looked at yet; boto3 reads the rest from its environment.

        Raises:
            BadInput: The URL is none, what boto3 reads cannot be used, or boto3 is not there.
        """
        bucket, prefix = bucket_and_prefix(url)
        client = _client(url)
        # a copy in memory of every student that is sent would be one too many
        return cls(url, prefix, Boto3ArtifactStore(bucket, client, avoid_buf_copy=True))

    def check(self) -> None:
        """See whether objects can be written, listed and removed there.

        Raises:
            BadInput: They cannot.
        """
        with self.explained():
            self.write(PROBE, io.BytesIO(b""))
            self.ids()
            self.remove(PROBE)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The content of an artifact."""
        return self.bucket.open_reader(self.prefix + artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store an artifact, whole or not at all, in the place of what was there by its id."""
        self.bucket.write(self.prefix + artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact, if it is there."""
        self.bucket.remove(self.prefix + artifact_id)

    def ids(self) -> set[str]:
        """The ids of all artifacts there, other studies' too."""
        pages = self.bucket.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket.bucket, Prefix=self.prefix
        )
        found = [one["Key"] for page in pages for one in page.get("Contents", ())]
        return {key.removeprefix(self.prefix) for key in found}

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What the store refuses, as an error that says what to do.

        Raises:
            BadInput: It cannot be reached, or does not do what it is asked.
        """
        try:
            yield
        except refusals() as error:
            raise BadInput(f"artifacts {self.url}: {reason(error)}; {_advice(error)}") from error


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """The bucket that a URL names, and what the names of objects in it begin with.

    Raises:
        BadInput: It is no such URL.
    """
    if without_secrets(url) != url or "@" in url.removeprefix("s3://").partition("/")[0]:
        raise BadInput(
            f"artifacts {shown(url)}: expected no credentials in it, for it is stored with the "
            "study; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    found = URL.fullmatch(url)
    if found is None:
        raise BadInput(
            f"artifacts {shown(url)!r}: expected s3://bucket or s3://bucket/prefix, the bucket "
            "named in small letters, digits, dots and hyphens; leave it out to keep weights in the "
            "run folder alone"
        )
    return found["bucket"], f"{found['prefix']}/" if found["prefix"] else ""


def is_away(error: Exception) -> bool:
    """Whether the store cannot be reached or is overloaded, and may be there again soon."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        return _status(error) >= 500 or _status(error) == 429
    return isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError)


def refusals() -> tuple[type[Exception], ...]:
    """What is raised when a store cannot be reached, or does not do what it is asked."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return Boto3Error, BotoCoreError, ClientError


def reason(error: Exception) -> str:
    """Why a store did not do what it was asked, in one line."""
    return " ".join(str(error).split())


def _client(url: str) -> Any:
    """A client that gives up soon: we have a patience of our own."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise BadInput(
            f'artifacts {url}: boto3 is not installed; pip install "protege[s3]"'
        ) from None
    retries = {"total_max_attempts": 2, "mode": "standard"}
    refused: tuple[type[Exception], ...] = (*refusals(), ValueError)
    try:
        return boto3.Session().client("s3", config=Config(connect_timeout=10, retries=retries))
    except refused as error:  # a profile or an endpoint that is none
        raise BadInput(
            f"artifacts {url}: {reason(error)}; mend AWS_PROFILE or AWS_ENDPOINT_URL_S3"
        ) from error


def _advice(error: Exception) -> str:
    if is_away(error):
        return "start the store, or mend AWS_ENDPOINT_URL_S3"
    if _status(error) == 404:
        return "create the bucket, or mend the URL"
    return (
        "expected credentials that may list, write and remove there: set AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    )


def _status(error: Exception) -> int:
    """What the store answered, as an HTTP status; zero where it did not."""
    response: dict[str, Any] = getattr(error, "response", {})
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
