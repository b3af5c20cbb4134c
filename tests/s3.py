"""A real S3 server on the loopback, moto's, for tests of studies whose weights go to a store."""

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

SERVER = """
import sys
from moto.server import ThreadedMotoServer

for line in sys.stdin:
    if line == "start\\n":
        server = ThreadedMotoServer("127.0.0.1", int(sys.argv[1]), verbose=False)
        server.start()
    else:
        server.stop()
    print("done", flush=True)
"""
"""A process that keeps its objects while nobody can reach it."""


@dataclass
class Server:
    """A server with one bucket, and a client that looks at it past what is tested."""

    process: "subprocess.Popen[str]"
    bucket: str = "students"
    client: Any = field(init=False)

    def start(self) -> None:
        """Listen, and wait until it does."""
        self._do("start")

    def stop(self) -> None:
        """Listen no longer."""
        self._do("stop")

    def _do(self, what: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(what, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n"

    def names(self) -> list[str]:
        """The names of all objects in the bucket."""
        listed = self.client.list_objects_v2(Bucket=self.bucket)
        return [one["Key"] for one in listed.get("Contents", ())]

    def empty(self) -> None:
        """Remove them."""
        for name in self.names():
            self.client.delete_object(Bucket=self.bucket, Key=name)


@contextmanager
def server(patch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that lives as long as the block, and is the one that AWS's variables speak of."""
    for module in ("boto3", "moto", "flask_cors"):
        if not importlib.util.find_spec(module):
            pytest.skip(f"there is no S3 server: {module} is not installed")
    import boto3

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    settings = {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        patch.setenv(name, value)
    patch.delenv("AWS_PROFILE", raising=False)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        found = Server(process)
        found.start()
        found.client = boto3.client("s3")
        found.client.create_bucket(Bucket=found.bucket)
        yield found
        process.kill()
