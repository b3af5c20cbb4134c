"""A shelf computes each of its blocks once, whoever fills it and however often it is cut short."""

import errno
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from protege.spaces import Cache, DiskFull
from protege.spaces.files.block_file import RECORD, Block, BlockFile, Column, rows
from tests import disks

STARTS = (0, 3, 3, 5, 9)
"""Four blocks, the second of which is empty."""


def block(number: int, starts: tuple[int, ...] = STARTS) -> Block:
    """Rows whose values tell which ones they are."""
    row = torch.arange(starts[number], starts[number + 1])
    return {
        "half": (row[:, None] + torch.arange(4) / 8).half(),
        "token": (row[:, None] * 10 + torch.arange(2)).int(),
        "asked": row.long() - 2**62,
        "flag": row % 2 == 0,
    }


def whole(starts: tuple[int, ...] = STARTS) -> Block:
    blocks = [block(number, starts) for number in range(len(starts) - 1)]
    return {name: torch.cat([one[name] for one in blocks]) for name in blocks[0]}


class Counted:
    """Computes blocks and notes which, in order; one of them may kill it."""

    def __init__(self, fatal: int | None = None) -> None:
        self.done: list[int] = []
        self.fatal = fatal

    def __call__(self, number: int) -> Block:
        if number == self.fatal:
            raise KeyboardInterrupt
        self.done.append(number)
        return block(number)


def shelf(folder: Path, key: str = "{}") -> BlockFile:
    return BlockFile(folder, key, STARTS)


def equal(one: Block, other: Block) -> bool:
    return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)


def same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def test_what_was_computed_is_read_ever_after(tmp_path: Path) -> None:
    work = Counted()
    for _ in range(3):
        assert equal(shelf(tmp_path).filled(work), whole())
    assert work.done == [0, 1, 2, 3]


SIZES = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@given(sizes=SIZES)
def test_any_blocks_come_back_in_order(
    sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    starts = (0, *torch.tensor(sizes).cumsum(0).tolist())
    folder = tmp_path_factory.mktemp("shelf")
    for _ in range(2):
        found = BlockFile(folder, "{}", starts).filled(lambda number: block(number, starts))
        assert equal(found, whole(starts))


@pytest.mark.parametrize("fatal", range(4))
def test_killed_within_a_block_the_finished_ones_are_kept(tmp_path: Path, fatal: int) -> None:
    killed, work = Counted(fatal), Counted()
    with pytest.raises(KeyboardInterrupt):
        shelf(tmp_path).filled(killed)
    assert equal(shelf(tmp_path).filled(work), whole())
    assert killed.done + work.done == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["half", "token", "asked", "flag"])
def test_a_block_with_any_one_byte_altered_is_computed_again(tmp_path: Path, name: str) -> None:
    shelf(tmp_path).filled(Counted())
    path = tmp_path / f"{name}.bin"
    good = path.read_bytes()
    row_bytes = len(good) // STARTS[-1]
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        work, row = Counted(), place // row_bytes
        assert equal(shelf(tmp_path).filled(work), whole())
        assert work.done == [next(n for n in (0, 2, 3) if row < STARTS[n + 1])]
        assert path.read_bytes() == good


@pytest.mark.parametrize("name", ["half", "token", "asked", "flag"])
def test_blocks_beyond_a_cut_are_computed_again_and_those_before_it_are_not(
    tmp_path: Path, name: str
) -> None:
    shelf(tmp_path).filled(Counted())
    path = tmp_path / f"{name}.bin"
    good = path.read_bytes()
    row_bytes = len(good) // STARTS[-1]
    for size in range(len(good)):
        path.write_bytes(good[:size])
        work = Counted()
        assert equal(shelf(tmp_path).filled(work), whole())
        lost = [number for number in (0, 2, 3) if STARTS[number + 1] * row_bytes > size]
        assert work.done == lost


def test_a_column_that_is_gone_is_computed_again(tmp_path: Path) -> None:
    shelf(tmp_path).filled(Counted())
    (tmp_path / "token.bin").unlink()
    work = Counted()
    assert equal(shelf(tmp_path).filled(work), whole())
    assert work.done[-2:] == [2, 3]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"key": "{}"}', '{"columns": []}'])
def test_a_record_that_is_none_is_no_record(tmp_path: Path, text: str) -> None:
    shelf(tmp_path).filled(Counted())
    (tmp_path / RECORD).write_text(text, encoding="utf-8")
    work = Counted()
    assert equal(shelf(tmp_path).filled(work), whole())
    assert work.done == [0, 1, 2, 3]


def test_a_record_with_any_one_byte_altered_is_never_taken_for_another(tmp_path: Path) -> None:
    shelf(tmp_path).filled(Counted())
    good = (tmp_path / RECORD).read_bytes()
    for place in range(len(good)):
        altered = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        (tmp_path / RECORD).write_bytes(altered)
        assert equal(shelf(tmp_path).filled(Counted()), whole()), altered


def test_a_shelf_of_another_key_is_not_believed(tmp_path: Path) -> None:
    shelf(tmp_path, '{"teacher": 1}').filled(Counted())
    work = Counted()
    shelf(tmp_path, '{"teacher": 2}').filled(work)
    assert work.done == [0, 1, 2, 3]
    assert json.loads((tmp_path / RECORD).read_text(encoding="utf-8"))["record"]["key"] == (
        '{"teacher": 2}'
    )


def test_of_blocks_that_lie_elsewhere_none_is_believed(tmp_path: Path) -> None:
    shelf(tmp_path).filled(Counted())
    moved = (0, 2, 4, 9)
    found = BlockFile(tmp_path, "{}", moved).filled(lambda number: block(number, moved))
    assert equal(found, whole(moved))


def test_rows_are_mapped_and_not_loaded(tmp_path: Path) -> None:
    many = 2**18
    found = BlockFile(tmp_path, "{}", (0, many)).filled(lambda _: {"row": torch.zeros(many, 64)})
    found = BlockFile(tmp_path, "{}", (0, many)).filled(lambda _: {})
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert str(tmp_path / "row.bin") in maps
    assert found["row"].shape == (many, 64)


def test_what_a_reader_writes_stays_its_own(tmp_path: Path) -> None:
    shelf(tmp_path).filled(Counted())["half"].zero_()
    assert equal(shelf(tmp_path).filled(Counted()), whole())


def test_a_column_says_what_its_rows_are() -> None:
    column = Column.of(torch.zeros(7, 3, 2, dtype=torch.float16))
    assert column == Column("float16", (3, 2))
    assert (column.type, column.row_bytes) == (torch.float16, 12)


def test_a_cache_keeps_a_shelf_open_and_by_its_key(tmp_path: Path) -> None:
    cache, work = Cache(tmp_path), Counted()
    first = rows(cache, "targets", {"teacher": "a"}, STARTS, work)
    assert rows(cache, "targets", {"teacher": "a"}, STARTS, work) is first
    rows(cache, "targets", {"teacher": "b"}, STARTS, work)
    assert work.done == [0, 1, 2, 3] * 2
    rows(Cache(tmp_path), "targets", {"teacher": "b"}, STARTS, work)
    assert len(work.done) == 8
    assert all(path.name.startswith("targets-") for path in tmp_path.iterdir())


FORK = multiprocessing.get_context("fork")  # spawned, they would import torch for seconds


def fill_slowly(folder: Path, noted: Path, slow: int | None = None) -> None:
    """Fill a shelf in a process of its own, noting each block; at a slow one it stays."""

    def compute(number: int) -> Block:
        with noted.open("a", encoding="utf-8") as file:
            file.write(f"{number} {os.getpid()}\n")
        time.sleep(60 if number == slow else 0.05)
        return block(number)

    found = shelf(folder).filled(compute)
    if not equal(found, whole()):
        os._exit(1)


def test_two_processes_share_the_blocks(tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    both = [FORK.Process(target=fill_slowly, args=(tmp_path / "shelf", noted)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    done = [line.split() for line in noted.read_text(encoding="utf-8").splitlines()]
    assert sorted(number for number, _ in done) == ["0", "1", "2", "3"]
    assert {process for _, process in done} == {str(one.pid) for one in both}


def test_a_process_that_is_killed_leaves_its_blocks_and_no_lock(tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    process = FORK.Process(target=fill_slowly, args=(tmp_path / "shelf", noted, 2))
    process.start()
    wait_for(lambda: noted.exists() and "\n2 " in noted.read_text(encoding="utf-8"))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    work = Counted()
    assert equal(shelf(tmp_path / "shelf").filled(work), whole())
    assert work.done == [2, 3]


def wait_for(condition: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of one megabyte."""
    with disks.small_disk(1) as made:
        yield made


def test_on_a_full_disk_the_finished_blocks_wait_for_room(small_disk: Path) -> None:
    done: list[int] = []

    def compute(number: int) -> Block:
        done.append(number)
        return {"row": torch.full((40, 1024), float(number))}  # 160 kB

    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(500 * 1024))
    filling = BlockFile(small_disk / "shelf", "{}", (0, 40, 80, 120, 160))
    message = "shelf: no space left on the device; make room, .*answers=.online"
    with pytest.raises(DiskFull, match=message):
        filling.filled(compute)
    failed_at = done[-1]
    assert failed_at > 0
    ballast.unlink()
    found = filling.filled(compute)["row"]
    assert done == [*range(failed_at + 1), *range(failed_at, 4)]
    assert torch.equal(found[:, 0], torch.arange(4.0).repeat_interleave(40))


def test_an_error_of_the_disk_that_is_no_lack_of_room_is_told_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "shelf" / "half.bin").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=os.strerror(errno.EISDIR)):
        shelf(tmp_path / "shelf").filled(Counted())
