"""Batch norms of students: the statistics of what they read."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def batch_norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """Return the batch norms of a module by name."""
    return {name: one for name, one in module.named_modules() if isinstance(one, _BatchNorm)}


def train_batch_norms(module: nn.Module, rows: int = 2) -> None:
    """Let batch norms use and collect the statistics of a batch, and nothing else train.

    Dropout stays off. A network with random weights does not learn with the statistics of another.
    A batch of one row may have no variance, and gets the statistics collected so far.
    """
    module.eval()
    for one in batch_norms(module).values():
        one.train(rows > 1)


@contextmanager
def settling(module: nn.Module) -> Iterator[None]:
    """Set the statistics of batch norms to the mean over all batches of the block."""
    found = batch_norms(module).values()
    momenta = [one.momentum for one in found]
    for one in found:
        one.reset_running_stats()
        one.momentum = None
    train_batch_norms(module)
    yield
    for one, momentum in zip(found, momenta, strict=True):
        one.momentum = momentum
    module.eval()


def learnt_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and the statistics of batch norms by name; tied parameters once."""
    statistics = {
        f"{name}.{own}": getattr(one, own)
        for name, one in batch_norms(module).items()
        for own in BUFFERS
    }
    return dict(module.named_parameters()) | statistics
