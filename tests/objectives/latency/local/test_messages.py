import os
import sys
import textwrap
import time

import pytest

from protege.objectives.latency.local.messages import Broken, converse


def answer_of(
    script: str, *, deadline_s: float = 30.0, stall_s: float | None = None, size: int = 1
) -> object:
    """What a Python program says to a job of that many bytes, more or less."""
    command = [sys.executable, "-ISc", textwrap.dedent(script)]
    return converse(command, {"text": "x" * size}, deadline_s, stall_s)


def test_the_framed_line_is_the_answer_whatever_else_is_said() -> None:
    script = """
        import json, sys
        job = json.loads(sys.stdin.readline())
        print("Welcome to this board\\n@@LAT1@@" + json.dumps({"length": len(job["text"])}))
        print("bye", file=sys.stderr)
    """
    assert answer_of(script, size=200_000) == {"length": 200_000}


def test_the_answer_ends_the_wait_and_the_command() -> None:
    script = """
        import os, time
        print('@@LAT1@@{"pid": %d}' % os.getpid(), flush=True)
        time.sleep(600)
    """
    start_s = time.monotonic()
    answer = answer_of(script)
    assert isinstance(answer, dict)
    assert time.monotonic() - start_s < 60
    assert not os.path.exists(f"/proc/{answer['pid']}")  # noqa: PTH110


def test_a_command_that_ends_tells_why() -> None:
    broken = answer_of("import sys; print('no such host', file=sys.stderr); sys.exit(255)")
    assert broken == Broken("it ended with exit code 255", 255, "no such host\n")


def test_a_command_that_does_not_listen_is_no_error_here() -> None:
    broken = answer_of("import os; os.close(0)", size=2_000_000)
    assert broken == Broken("it ended with exit code 0", 0, "")


def test_a_command_that_hangs_is_ended() -> None:
    broken = answer_of("import time; time.sleep(600)", deadline_s=0.3)
    assert broken == Broken("no answer within 0.3 s")


def test_a_command_without_a_sign_of_life_is_ended() -> None:
    script = """
        import time
        for _ in range(3):
            print("measuring", flush=True)
            time.sleep(0.1)
        time.sleep(600)
    """
    broken = answer_of(script, stall_s=1.0)
    assert broken == Broken("no sign of life for 1 s")


def test_a_command_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(FileNotFoundError, match="/nowhere/ssh"):
        converse(["/nowhere/ssh"], {}, 1.0)
