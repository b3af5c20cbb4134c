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


def test_garbage_collection_does_not_deadlock_a_call_that_runs_out_of_time() -> None:
    command = [sys.executable, "-c", MANY_TIMEOUTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "done", done.stderr
