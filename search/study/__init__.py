"""The Optuna study; Optuna is used nowhere else."""

from optuna.study import Study

from protege.search.study.artifacts import Artifacts, Sent
from protege.search.study.claim import LOCK, claim_file, claimed, held
from protege.search.study.explaining import explained, shown_storage, undamaged
from protege.search.study.format import check_format, claimed_run, run_of, written_by
from protege.search.study.gaussian import MemberGP
from protege.search.study.importing import adopt, adoptable
from protege.search.study.ledger import Ledger, identify, open_ledger, open_study, trials_of
from protege.search.study.locating import database_path, is_url, shown, url_of_file
from protege.search.study.sampler import UniqueSampler
from protege.search.study.storage import read_study
from protege.search.study.store import Store, bucket_and_prefix

__all__ = [
    "LOCK",
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
    "check_format",
    "claim_file",
    "claimed",
    "claimed_run",
    "database_path",
    "explained",
    "held",
    "identify",
    "is_url",
    "open_ledger",
    "open_study",
    "read_study",
    "run_of",
    "shown",
    "shown_storage",
    "trials_of",
    "undamaged",
    "url_of_file",
    "written_by",
]
