"""Files and folders that no other user of this machine can write.

Files that are executed, unpickled or locked must be in a folder that only this user can write to.
Otherwise another user could plant a program, or hold a lock forever.
"""

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from protege.spaces.errors import BadInput

OVERRIDE = "PROTEGE_RUNTIME_DIR"
"""Environment variable that overrides the private folder."""

_INSTEAD = f"set {OVERRIDE} to a folder of yours on this machine"

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def private_folder(choice: Iterable[Path] = ()) -> Path:
    """Return this user's folder on this machine for locks and executed programs.

    Tries these folders in order; by default the `candidates`.

    Raises:
        BadInput: No folder can be created, or it is not a folder that only this user can write to.
    """
    reasons = []
    for path in choice or candidates():
        try:
            _make(path)
        except OSError as error:  # read-only, or full: the next one
            reasons.append(f"{path} ({error.strerror})")
        else:
            return made_private(path)
    raise BadInput(f"no folder for locks can be made: {', '.join(reasons)}; {_INSTEAD}")


def candidates() -> Iterator[Path]:
    """Yield the candidates for this user's private folder, the preferred one first.

    Only ``$PROTEGE_RUNTIME_DIR`` if it is set; else ``/var/tmp/protege-UID``, ``/tmp/protege-UID``
    and ``~/.cache/protege/BOOT``, with BOOT the id of the running system. ``TMPDIR`` and
    ``XDG_RUNTIME_DIR`` are ignored, because they differ between jobs and sessions of one machine,
    which must share locks.
    """
    if override := os.environ.get(OVERRIDE):
        yield Path(override).expanduser().absolute()
        return
    user = f"protege-{os.getuid()}"
    for shared in (Path("/var/tmp"), Path("/tmp")):
        if _keeps_owners_apart(shared):
            yield shared / user
    yield _home() / ".cache" / "protege" / running_system()[:16]


def _home() -> Path:
    """Return the home folder in the user database, independent of ``HOME``."""
    import pwd  # not available on every platform

    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a container's user without an entry
        return Path.home()


def _keeps_owners_apart(folder: Path) -> bool:
    """Return whether other users cannot rename or remove this user's files in a folder."""
    try:
        found = folder.stat()
    except OSError:
        return False
    trusted = found.st_uid in {0, os.getuid()}
    return trusted and (not found.st_mode & _OTHERS_WRITE or bool(found.st_mode & stat.S_ISVTX))


def made_private(folder: Path) -> Path:
    """Create a folder with mode 0700 if absent, and check that no other user can access it.

    Raises:
        BadInput: The path is a symbolic link, another user's, or accessible to other users.
    """
    _made(folder, 0o077, _INSTEAD)
    if not _keeps_owners_apart(folder.parent):
        raise BadInput(f"{folder}: other users can replace what is in {folder.parent}; {_INSTEAD}")
    return folder


def made_own(folder: Path, instead: str) -> Path:
    """Create a folder with mode 0700 if absent, and check that no other user can write to it.

    ``instead`` is the advice on another folder in the error message.
    """
    return _made(folder, _OTHERS_WRITE, instead)


def _made(folder: Path, forbidden: int, instead: str) -> Path:
    try:
        _make(folder)
    except OSError as error:
        raise BadInput(f"{folder} cannot be made ({error.strerror}); {instead}") from error
    found = folder.lstat()
    mode = stat.S_IMODE(found.st_mode)
    wrong = ""
    if stat.S_ISLNK(found.st_mode):
        wrong = "is a symbolic link"
    elif not stat.S_ISDIR(found.st_mode):
        wrong = "is not a folder"
    elif found.st_uid != os.getuid():
        wrong = f"belongs to {user(found.st_uid)}, not to you"
    elif mode & forbidden:
        wrong = f"has mode {mode:03o}, so that other users can use it"
    if wrong:
        raise BadInput(
            f"{folder} {wrong}; expected a folder of yours with mode 700: remove it, or {instead}"
        )
    return folder


def _make(folder: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)


@contextmanager
def owner_only(folder: Path, *, private: bool) -> Iterator[None]:
    """Create the run folder and all files inside the block with access only for the owner.

    New files get mode 0600 and new folders 0700, also in child processes. Existing files keep their
    mode. Without ``private`` the umask of the process applies.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)  # shared with other runs
    before = os.umask(0o077) if private else None
    try:
        folder.mkdir(exist_ok=True)
        yield
    finally:
        if before is not None:
            os.umask(before)


def check_untampered(path: Path) -> None:
    """Check before unpickling that only this user can have written a file.

    Owner and mode are compared with those of a new file in the same folder, because network file
    systems may map owners, and some file systems have no modes.

    Raises:
        BadInput: Another user wrote the file, or could have.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".probe-")
    try:
        own = os.fstat(handle)
    finally:
        os.close(handle)
        Path(name).unlink(missing_ok=True)
    for one, is_kind in ((path, stat.S_ISREG), (path.parent, stat.S_ISDIR)):
        found = one.lstat()
        if not is_kind(found.st_mode):
            raise BadInput(f"{one}: expected no symbolic link; remove it, then run again")
        if found.st_uid != own.st_uid:
            raise BadInput(
                f"{one} belongs to {user(found.st_uid)}, not to you: it is not read; remove it, "
                "then run again"
            )
        if found.st_mode & _OTHERS_WRITE & ~own.st_mode:
            raise BadInput(
                f"{one} can be written by other users: it is not read; run: chmod go-w {one}"
            )


def user(uid: int) -> str:
    """Return the name of a user, or the id if there is none."""
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


@cache
def running_system() -> str:
    """Return an id of this boot of this machine, shared by its containers.

    It is a hash of the kernel's boot id, or of the host's name if there is none.
    """
    import hashlib
    import socket

    try:
        found = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        found = socket.gethostname()
    return hashlib.sha256(found.encode()).hexdigest()
