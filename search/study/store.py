"""The store of artifacts: any file system of fsspec, such as S3 or a folder."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem
from optuna.artifacts.exceptions import ArtifactNotFound

from protege.search.records.plain import printable
from protege.search.storage.locating import shown
from protege.spaces.errors import BadInput, ProtegeError, without_secrets
from protege.spaces.files.atomic import atomic, has_no_room

OPTIONS: dict[str, dict[str, Any]] = {
    # few retries, as `with_retries` retries too
    "s3": {"config_kwargs": {"retries": {"total_max_attempts": 2, "mode": "standard"}}}
}
"""Options of file systems by the scheme of the URL."""

PROBE = "protege-probe"
"""A file that is written and removed to check permissions."""


class StoreError(BadInput):
    """A store cannot be reached or refuses a request.

    Attributes:
        is_temporary: Whether another attempt may succeed.
    """

    def __init__(self, url: str, error: Exception) -> None:
        self.is_temporary = not isinstance(error, FileNotFoundError | PermissionError)
        advice = "start it, or correct its address, such as AWS_ENDPOINT_URL_S3"
        if isinstance(error, FileNotFoundError):
            advice = "create the bucket, or correct the URL"
        elif isinstance(error, PermissionError) or "credentials" in str(error):
            advice = (
                "expected credentials that may list, write and remove there, for S3 as "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        reason = printable(without_secrets(" ".join(str(error).split())))
        super().__init__(f"artifacts {url}: {reason or type(error).__name__}; {advice}")


@dataclass(frozen=True)
class Store:
    """A folder on a file system; implements Optuna's artifact store protocol.

    Attributes:
        url: Its URL, such as ``s3://bucket/prefix``.
        files: The file system.
        folder: The path of the folder there.
    """

    url: str
    files: Any = field(repr=False)
    folder: str

    @classmethod
    def at(cls, url: str) -> "Store":
        """Return the store at a URL without connecting; fsspec's libraries read the environment.

        Raises:
            BadInput: The URL or its library's settings are invalid, or the library is missing.
        """
        scheme = check_url(url)
        try:
            files, folder = fsspec.url_to_fs(
                url, skip_instance_cache=True, use_listings_cache=False, **OPTIONS.get(scheme, {})
            )
        except (ImportError, ValueError) as error:  # fsspec says what to install
            raise BadInput(f"artifacts {url}: {error}") from None
        return cls(url, files, folder.rstrip("/"))

    def check(self) -> None:
        """Check that files can be written, listed and removed.

        Raises:
            StoreError: One of these fails.
        """
        self.write(PROBE, io.BytesIO(b"probe"))
        self.ids()
        self.remove(PROBE)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact for reading."""
        with self.explained():
            try:
                found: BinaryIO = self.files.open(self._path(artifact_id), "rb")
            except FileNotFoundError as error:
                raise ArtifactNotFound(artifact_id) from error
            return found

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store an artifact atomically, in place of any earlier one with its id."""
        with self.writing(artifact_id) as file:
            shutil.copyfileobj(content_body, file, 1 << 20)

    @contextmanager
    def writing(self, artifact_id: str) -> Iterator[BinaryIO]:
        """Open an artifact for writing, which appears if the block succeeds."""
        path = self._path(artifact_id)
        if isinstance(self.files, LocalFileSystem):  # whose moves from /tmp are not atomic
            with self.explained(), atomic(Path(path)) as scratch, scratch.open("wb") as file:
                yield file
        else:
            with self.explained(), self.files.transaction, self.files.open(path, "wb") as file:
                yield file

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact, if it exists."""
        with self.explained(), suppress(FileNotFoundError):
            self.files.rm_file(self._path(artifact_id))

    def ids(self) -> set[str]:
        """Return the ids of all artifacts in the store, including those of other studies."""
        with self.explained():
            return {path.removeprefix(f"{self.folder}/") for path in self.files.find(self.folder)}

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the file system into `StoreError`.

        Raises:
            StoreError: The store cannot be reached or refuses a request.
        """
        try:
            yield
        except (ProtegeError, ArtifactNotFound):
            raise
        except Exception as error:
            local = getattr(error, "filename", None)  # not a file of the store
            if has_no_room(error) or (local and not str(local).startswith(self.folder)):
                raise
            raise StoreError(self.url, error) from error

    def _path(self, artifact_id: str) -> str:
        return f"{self.folder}/{artifact_id}"


def check_url(url: str) -> str:
    """Return the scheme of a store's URL, ``file`` for a folder.

    Raises:
        BadInput: It is neither a URL nor an absolute path, or has credentials in it.
    """
    scheme, separator, rest = url.partition("://")
    if without_secrets(url) != url or "@" in rest.partition("/")[0]:
        raise BadInput(
            f"artifacts {shown(url)}: expected no credentials in it, for it is stored with the "
            "study; set them as variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE"
        )
    if not separator and not Path(url).is_absolute():
        raise BadInput(
            f"artifacts {shown(url)!r}: expected s3://bucket/prefix, a URL of another file system "
            "that fsspec knows, or an absolute folder; leave it out to keep weights in the run "
            "folder alone"
        )
    return scheme if separator else "file"
