"""A space of twenty million members takes a second and little memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.spaces.space.large import SPACES

ROOT = Path(__file__).parents[3]


@pytest.mark.slow  # an interpreter imports torch and transformers
@pytest.mark.parametrize("kind", SPACES)
def test_twenty_million_members_take_a_second_and_little_memory(kind: str) -> None:
    script = [sys.executable, "-m", "tests.spaces.space.large", kind]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["members"] > 20_000_000
    assert found["seconds"] < 1
    assert found["megabytes"] < 200
