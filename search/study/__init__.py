"""The Optuna study; Optuna is used nowhere else."""

from optuna.study import Study

from protege.search.study.artifacts import Artifacts, Sent
from protege.search.study.claim import claimed
from protege.search.study.gaussian import MemberGP
from protege.search.study.importing import adopt, adoptable
from protege.search.study.ledger import Ledger, identify, open_ledger, open_study, trials_of
from protege.search.study.sampler import UniqueSampler
from protege.search.study.storage import database_path, read_study, shown
from protege.search.study.store import Store, bucket_and_prefix

__all__ = [
    "Artifacts",
    "Ledger",
    "MemberGP",
    "Sent",
    "Store",
    "Study",
    "UniqueSampler",
    "adopt",
    "adoptable",
    "bucket_and_prefix",
    "claimed",
    "database_path",
    "identify",
    "open_ledger",
    "open_study",
    "read_study",
    "shown",
    "trials_of",
]
