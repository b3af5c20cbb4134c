from .artifacts import Artifacts as Artifacts
from .artifacts import Sent as Sent
from .claim import LOCK as LOCK
from .claim import claim_file as claim_file
from .claim import claimed as claimed
from .claim import held as held
from .explaining import explained as explained
from .explaining import shown_storage as shown_storage
from .explaining import undamaged as undamaged
from .format import check_format as check_format
from .format import claimed_run as claimed_run
from .format import run_of as run_of
from .format import written_by as written_by
from .gaussian import MemberGP as MemberGP
from .importing import adopt as adopt
from .importing import adoptable as adoptable
from .ledger import Ledger as Ledger
from .ledger import identify as identify
from .ledger import open_ledger as open_ledger
from .ledger import open_study as open_study
from .ledger import trials_of as trials_of
from .locating import database_path as database_path
from .locating import is_url as is_url
from .locating import shown as shown
from .locating import url_of_file as url_of_file
from .sampler import UniqueSampler as UniqueSampler
from .storage import StoredStudy as StoredStudy
from .storage import read_study as read_study
from .store import Store as Store
from .store import bucket_and_prefix as bucket_and_prefix

__all__ = [
    "LOCK",
    "Artifacts",
    "Ledger",
    "MemberGP",
    "Sent",
    "Store",
    "StoredStudy",
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
