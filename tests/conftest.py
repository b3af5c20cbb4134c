import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from protege.objectives.distillation.optimizers import LazyAdamW
from protege.spaces import Teacher
from protege.spaces.files.private import OVERRIDE
from tests.tiny import CASES, Case
from tests.zoo import head, marked

if OVERRIDE not in os.environ:
    # locks of one test run are shared by its workers, and never waited for by another run
    os.environ[OVERRIDE] = tempfile.mkdtemp(prefix="protege-tests-")
    atexit.register(shutil.rmtree, os.environ[OVERRIDE], ignore_errors=True)

MEMORY = Path("/dev/shm")
if (
    MEMORY.is_dir()
    and shutil.disk_usage(MEMORY).free > 2 << 30
    and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
):
    # SQLite and checkpoints wait for disks; a run of all tests writes half a gigabyte, programs too
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# the same examples every time, and no deadline: the machine that runs the tests may be busy
for _profile, _examples in (("quick", 25), ("thorough", 100)):
    settings.register_profile(
        _profile, max_examples=_examples, derandomize=True, deadline=None, database=None
    )
settings.load_profile("quick")

# tiny tensors gain nothing from threads, which only wait for one another on a busy machine
torch.set_num_threads(1)


SLOW = {"board", "browser", "chromium", "cluster", "listening", "lives", "postgresql"}
"""Fixtures of servers, of a browser, and of studies in processes that are killed."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that such a fixture is behind."""
    for item in items:
        if isinstance(item, pytest.Function) and not SLOW.isdisjoint(item.fixturenames):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """Have the garbage collector pass over torch, transformers and the tests, which all stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=marked(CASES, by=head), scope="session")
def case(request: pytest.FixtureRequest) -> Case:
    """An encoder and a decoder with every head that students are distilled for."""
    return CASES[request.param]


@pytest.fixture(scope="session")
def teacher(case: Case) -> Teacher:
    """Of every case one; tests leave it as it is."""
    return case.teacher()


@pytest.fixture
def harmful_training() -> Iterator[None]:
    """Negate every gradient that an optimiser applies, so that training harms a student."""

    def negate(optimizer: Optimizer, *_: Any) -> None:
        if isinstance(optimizer, LazyAdamW):
            return  # the optimisers that it consists of step too
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.neg_()

    handle = register_optimizer_step_pre_hook(negate)
    yield
    handle.remove()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)
