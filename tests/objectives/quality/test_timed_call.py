import subprocess
import sys

MANY_TIMEOUTS = """
import gc, os, threading, time
from protege.objectives.quality.timed_call import OutOfTime, call_within

class Waits:
    def __init__(self):
        self.me = self
    def __del__(self):
        time.sleep(0.0001)  # lets other threads run in the middle of a garbage collection

def start_threads():
    while True:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

def sleep():
    while True:
        time.sleep(0.001)

for target in (start_threads, start_threads, *[sleep] * 8):
    threading.Thread(target=target, daemon=True).start()
for turn in range(1000):
    gc.disable()
    for _ in range(3):
        Waits()
    gc.set_threshold(gc.get_count()[0] + turn % 100)
    gc.enable()
    try:
        call_within(0.0, lambda: time.sleep(0.001), int)
    except OutOfTime:
        pass
os.write(1, b"done")
os._exit(0)
"""


TRACED = """
import os, sys, threading
from protege.objectives.quality.timed_call import OutOfTime, call_within, is_any_left

sys.settrace(lambda *_: None)  # as debuggers and coverage do
try:
    call_within(0.05, threading.Event().wait, int)
except OutOfTime:
    assert is_any_left()
    os.write(1, b"done")
os._exit(0)
"""


def ended(program: str) -> str:
    """What a program prints, if it ends."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_garbage_collection_does_not_deadlock_a_call_that_runs_out_of_time() -> None:
    assert ended(MANY_TIMEOUTS) == "done"


def test_a_call_that_cannot_be_interrupted_does_not_stop_traced_functions() -> None:
    assert ended(TRACED) == "done"
