"""An S3-compatible artifact store."""

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
"""A bucket and an optional prefix of object names."""

PROBE = "protege-probe"
"""An object that is written and removed to check permissions."""


@dataclass(frozen=True)
class Store:
    """A bucket, or one prefix in it; implements Optuna's artifact store protocol.

    Attributes:
        url: Its URL, such as ``s3://bucket/prefix``.
        prefix: Prefix of object names: empty, or a path that ends with a slash.
        bucket: Optuna's store of the whole bucket.
    """

    url: str
    prefix: str
    bucket: Boto3ArtifactStore

    @classmethod
    def at(cls, url: str) -> "Store":
        """Return the store at a URL without connecting; boto3 reads the environment.

        Raises:
            BadInput: The URL or boto3's settings are invalid, or boto3 is not installed.
        """
        bucket, prefix = bucket_and_prefix(url)
        client = _client(url)
        # no copy of every uploaded student in memory
        return cls(url, prefix, Boto3ArtifactStore(bucket, client, avoid_buf_copy=True))

    def check(self) -> None:
        """Check that objects can be written, listed and removed.

        Raises:
            BadInput: One of these fails.
        """
        with self.explained():
            self.write(PROBE, io.BytesIO(b""))
            self.ids()
            self.remove(PROBE)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact for reading."""
        return self.bucket.open_reader(self.prefix + artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store an artifact atomically, in place of any earlier one with its id."""
        self.bucket.write(self.prefix + artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact, if it exists."""
        self.bucket.remove(self.prefix + artifact_id)

    def ids(self) -> set[str]:
        """Return the ids of all artifacts in the store, including those of other studies."""
        pages = self.bucket.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket.bucket, Prefix=self.prefix
        )
        found = [one["Key"] for page in pages for one in page.get("Contents", ())]
        return {key.removeprefix(self.prefix) for key in found}

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the store into `BadInput` with advice.

        Raises:
            BadInput: The store cannot be reached or refuses a request.
        """
        try:
            yield
        except refusals() as error:
            raise BadInput(f"artifacts {self.url}: {reason(error)}; {_advice(error)}") from error


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """Split a URL into the bucket and the prefix of object names.

    Raises:
        BadInput: The URL is malformed or has credentials in it.
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
    """Return whether an error is temporary: the store is unreachable or overloaded."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        return _status(error) >= 500 or _status(error) == 429
    return isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError)


def refusals() -> tuple[type[Exception], ...]:
    """Return the exception types that boto3 raises for failed requests."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return Boto3Error, BotoCoreError, ClientError


def reason(error: Exception) -> str:
    """Return the message of an error in one line."""
    return " ".join(str(error).split())


def _client(url: str) -> Any:
    """Return a client with few retries, as `insist` retries too."""
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
    except refused as error:  # an invalid profile or endpoint
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
    """Return the HTTP status of the reply, or 0 without a reply."""
    response: dict[str, Any] = getattr(error, "response", {})
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
