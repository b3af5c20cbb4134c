"""What is handed over arrives as it was, or is refused by one line."""

import threading
from pathlib import Path

import pytest
import torch

from protege.objectives.machine.pickling import read_pickle, write_pickle
from protege.spaces import BadInput


def test_what_is_handed_over_arrives_as_it_was(tmp_path: Path) -> None:
    class Local:
        """One that no module has."""

        def __init__(self) -> None:
            self.values = torch.arange(5)

    write_pickle((Local(), [3, 9]), tmp_path / "object.pt", "it", "mend it")
    local, stops = read_pickle(tmp_path / "object.pt")
    assert stops == [3, 9]
    assert torch.equal(local.values, torch.arange(5))


def test_what_cannot_leave_a_process_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    told = r"^it cannot be sent to another process \(.*\); mend it$"
    with pytest.raises(BadInput, match=told):
        write_pickle(threading.Lock(), tmp_path / "object.pt", "it", "mend it")
    assert not [*tmp_path.iterdir()]
