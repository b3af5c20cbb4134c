"""Storage URLs and the default names of run folders."""

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from protege.spaces import BadInput
from protege.spaces.errors import HIDDEN, without_secrets
from protege.spaces.files.hashing import digest

JOURNAL = "journal"
"""The scheme of Optuna's append-only file, which is safe on network file systems."""

FILES = ("sqlite", JOURNAL)
"""Schemes of storages that are files."""

_BEFORE_HOST = re.compile(r"^([\w+.-]*:/*)?.*@", re.DOTALL)
"""User and password in text that is not a valid URL."""

_EXPECTED = (
    "expected a URL such as sqlite:///runs/name/study.db, journal:///runs/name/study.log or "
    "postgresql://host/name"
)
_URL = re.compile(r"[A-Za-z][\w+.-]*://")
_OPTIONS = frozenset(
    ("timeout", "detect_types", "isolation_level", "check_same_thread", "cached_statements")
) | frozenset(("uri", "mode", "cache", "immutable", "nolock", "psow", "vfs"))
"""Options that SQLite or its driver reads from the query of a URL."""


RUNS = Path("runs")
"""The folder of all runs, in the working directory or beside a database."""

_LONGEST = 200
"""Maximum bytes of a folder name; file systems allow 255, and temporary names are longer."""

_ENCODED = re.compile(r"[^\w,+=@() .-]|^[ .-]|[ .-]\Z")
"""Characters encoded in folder names; dots and hyphens at the ends would hide a folder or look like
an option."""


def shown(storage: str | URL) -> str:
    """Return a storage URL for messages, without secrets.

    Password and query are hidden. In text that cannot be parsed, everything before the last ``@``
    is hidden.
    """
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError):
        return without_secrets(_BEFORE_HOST.sub(rf"\g<1>{HIDDEN}@", str(storage)))
    if url.get_backend_name() in FILES and not url.password:
        return without_secrets(str(storage))
    query = f"?{HIDDEN}" if url.query else ""
    return without_secrets(url.set(query={}).render_as_string(hide_password=True)) + query


def is_url(text: str) -> bool:
    """Return whether a text is a storage URL rather than a path."""
    return _URL.match(text) is not None and not Path(text).exists()


def url_of_file(path: Path) -> str:
    """Return the URL of a storage file: a journal if its content is one, else SQLite.

    Special characters are percent-encoded, so that `parsed_url` reads any path back.
    """
    scheme = JOURNAL if _is_journal(path) else "sqlite"
    quoted = re.sub(r"[%?#{}\x00-\x1f]", lambda found: f"%{ord(found[0]):02X}", str(path))
    return f"{scheme}:///{quoted}"


def parsed_url(storage: str | Path) -> URL:
    """Parse a storage URL, or the `Path` of a storage file.

    URLs of files are parsed here: SQLAlchemy decodes paths only since version 2.1, and takes
    everything after a question mark as options.

    Raises:
        BadInput: The text is not a storage URL.
    """
    text = url_of_file(storage) if isinstance(storage, Path) else storage
    scheme, separator, rest = text.partition("://")
    if separator and scheme.partition("+")[0] in FILES:
        return URL.create(scheme, database=_file_in(text, rest))
    try:
        url = make_url(text)
    except ArgumentError:
        raise BadInput(f"storage {shown(text)!r}: {_EXPECTED}") from None
    except ValueError:  # an invalid port
        raise BadInput(
            f"storage {shown(text)!r}: its port is not a whole number; {_EXPECTED}"
        ) from None
    if "@" in (url.host or ""):
        raise BadInput(f"storage {shown(text)}: write an @ in the password as %40")
    return url.set(drivername="postgresql") if url.drivername == "postgres" else url


def database_path(storage: str | Path) -> Path | None:
    """Return the file of a SQLite database or a journal, or None for a server.

    Raises:
        BadInput: The text is not a storage URL, or the database is in memory.
    """
    url = parsed_url(storage)
    if url.get_backend_name() not in FILES:
        return None
    if not url.database or url.database == ":memory:":
        raise BadInput(
            f"storage {shown(str(storage))!r}: in memory nothing is kept; expected a file or a "
            "server"
        )
    return Path(url.database)


def folder_name(name: str) -> str:
    """Return a safe folder name, unique for each study name.

    Characters other than letters, digits and harmless ones are percent-encoded, as are dots,
    hyphens and spaces at the ends.
    """
    found = _ENCODED.sub(_percent, name)
    if len(found.encode()) <= _LONGEST:
        return found
    cut = found.encode()[: _LONGEST - 20].decode(errors="ignore")
    return f"{cut}-{digest(name.encode(errors='surrogatepass'))}"


def default_folder(name: str, database: Path | None) -> Path:
    """Return the default run folder, ``runs/<name>``.

    It lies beside the database file, or in the working directory. By default the database lies in
    the run folder itself.
    """
    own = RUNS / folder_name(name)
    if database is None:
        return own
    beside = database.parent
    return beside if beside.parts[-2:] == own.parts else beside / own


def _is_journal(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError:
        return path.suffix == ".log"


def _file_in(text: str, rest: str) -> str:
    """Return the path in the URL of a file, from the part after ``sqlite://``."""
    if rest and not rest.startswith("/"):
        scheme = text.partition("://")[0]
        raise BadInput(f"storage {text!r}: expected three slashes, {scheme}:///{rest}")
    _, mark, query = rest[1:].rpartition("?")
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    if mark and names and _OPTIONS.issuperset(names):
        raise BadInput(
            f"storage {text!r}: options of SQLite are not read; leave out ?{query}, or write %3F "
            "for a question mark in a name"
        )
    found = _decoded(rest[1:])
    if "\0" in found:
        raise BadInput(f"storage {text!r}: a path cannot have the character NUL")
    return found


def _decoded(text: str) -> str:
    """Decode a path, unless it is not encoded or its folder exists as written."""
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text
    is_literal = Path(text).parent.is_dir() and not Path(decoded).parent.is_dir()
    return text if is_literal else decoded


def _percent(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode(errors="surrogatepass"))
