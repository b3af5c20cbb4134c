"""What each process does that accelerate starts for a training: its share of every step.

Run as ``accelerate launch -m protege.objectives.distillation.rank FOLDER``; see `launched`.
"""

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from protege.objectives.distillation.launching import ALIVE, ERROR, SAYS, TOLD, halt
from protege.objectives.distillation.lesson import Targets
from protege.objectives.distillation.optimizing import Optimizers
from protege.objectives.distillation.precision import autocast
from protege.objectives.distillation.questions import Batch
from protege.objectives.distillation.training import State, Training, state_of
from protege.objectives.lease import working
from protege.objectives.parcel import unpacked
from protege.spaces import Embedder, ProtegeError
from protege.spaces.files.atomic import write_text
from protege.spaces.files.cache import write_tensors
from protege.spaces.files.locks import locked


def main() -> None:
    """Train from halt to halt until there are no more, or whoever asked is gone."""
    folder = Path(sys.argv[1])
    threading.Thread(target=_follow, args=(folder / ALIVE,), daemon=True).start()
    training, stops = unpacked(folder / TOLD)
    rank = Rank(training, _accelerator())
    if rank.is_first:
        training.announce = lambda says: write_text(folder / SAYS, says)
    try:
        for step, state in rank.run(stops):
            if rank.is_first:
                write_tensors(halt(folder, step), "", state)
    except ProtegeError as error:
        write_text(folder / ERROR, str(error))
        raise
    torch.distributed.destroy_process_group()


def _follow(lock: Path) -> None:
    """End this process, and what it was told, when the one that holds the lock has ended."""
    with locked(lock, shared=True):
        shutil.rmtree(lock.parent, ignore_errors=True)
        os._exit(1)


def _accelerator() -> Any:
    from accelerate import Accelerator
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    accelerator = Accelerator()
    if accelerator.distributed_type is DistributedType.MULTI_CPU:
        # accelerate asks for FSDP on devices alone; what it then does works here as well
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
        accelerator.state.distributed_type = DistributedType.FSDP
    return accelerator


@dataclass
class Rank:
    """One of the processes of a training.

    A batch is split among them as `Distillation.accumulate` splits it among passes, so that the
    gradient is that of the whole batch, as in a single process.

    Attributes:
        training: What all of them were told.
        accelerator: Of accelerate.
    """

    training: Training
    accelerator: Any
    _asked: tuple[Tensor, Targets, Batch] = field(init=False, repr=False)

    @property
    def is_first(self) -> bool:
        """Whether it is the one that speaks for all."""
        return bool(self.accelerator.is_main_process)

    def run(self, stops: list[int]) -> Iterator[tuple[int, State]]:
        """Train, and give after each of these steps where the training stands; the first has it."""
        training, settings = self.training, self.training.settings
        module = training.student.module
        if isinstance(module, Embedder):  # accelerate shards by these, and looks for them here
            layers: Any = module.transformer._no_split_modules  # noqa: SLF001
            module._no_split_modules = layers  # noqa: SLF001
        with ExitStack() as stack:
            optimizers = Optimizers(module, settings, (), stack, lazy=False)
            known = training.recall(training.taken_up) if training.taken_up else {}
            optimizers.shard(self.accelerator, module)
            if known:
                optimizers.load(known, len(training.losses))
            step = len(training.losses)
            pieces = settings.accumulate * self.accelerator.num_processes
            batches = training.questions.shuffled(
                settings.batch_size, training.seed, pieces, skip=step
            )
            for stop in stops:
                while step < stop:
                    # the first alone, and the others wait for it: they would wait inside as well
                    with working() if self.is_first else nullcontext():
                        self._learn(next(batches))
                        norm = optimizers.step()
                    step += 1
                    training.check(step, norm, self._of_nothing)
                    training.announce(f"distil {step}/{settings.steps}")
                yield step, state_of(module, (), optimizers, training.losses)

    def _learn(self, parts: list[Batch]) -> None:
        """Gradients of one step, over this process's parts of its batch."""
        training, count = self.training, self.accelerator.num_processes
        rows, total = sum(len(part.rows) for part in parts), 0.0
        for part in self._own(parts):
            with autocast(training.settings.precision, self.accelerator.device):
                targets = training.targets(part)
                answer = training.lesson.answer(training.student.module, part).float()
            # the mean over nothing is not a number, but all processes go back together
            loss = training.loss(answer, targets, part) if len(part.rows) else answer.sum() * 0
            share = loss * (len(part.rows) / rows)
            (share * count).backward()  # the mean over processes is taken
            total += float(share.detach())
            self._asked = answer.detach(), targets, part
        training.losses.append(self._summed(total))

    def _own(self, parts: list[Batch]) -> list[Batch]:
        """Every so manieth part, as many as every other process has: some with nothing scored."""
        count, device = self.accelerator.num_processes, self.accelerator.device
        own = parts[self.accelerator.process_index :: count]
        first = parts[0]
        nothing = replace(first, scored=torch.zeros_like(first.scored), rows=first.rows[:0])
        own += [nothing] * (-(-len(parts) // count) - len(own))
        return [part.to(device) for part in own]

    def _of_nothing(self) -> float:
        answer, targets, part = self._asked
        found = self.training.loss(torch.zeros_like(answer), targets, part)
        share = float(found) * len(part.rows) if len(part.rows) else 0.0
        return self._summed(share) / max(1.0, self._summed(len(part.rows)))

    def _summed(self, value: float) -> float:
        mine = torch.tensor(value, dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.reduce(mine, "sum"))


if __name__ == "__main__":
    main()
