"""The Optuna study; Optuna is used nowhere else."""

from protege.search.study.ledger import Ledger, identify, open_study, trials_of
from protege.search.study.sampler import UniqueSampler
from protege.search.study.storage import database_path, read_study

__all__ = [
    "Ledger",
    "UniqueSampler",
    "database_path",
    "identify",
    "open_study",
    "read_study",
    "trials_of",
]
