"""The runner as one file that needs nothing but Python 3.8 and the runtime it is asked for."""

import io
import zipfile
from functools import cache
from importlib.resources import files

from protege.spaces.files.hashing import digest

_PACKAGE = "protege.objectives.latency.device"
_BEGIN = f"import sys\nfrom {_PACKAGE}.main import main\nsys.exit(main())\n"
_NEVER = (1980, 1, 1, 0, 0, 0)


@cache
def runner() -> bytes:
    """A zip archive that Python runs; the same bytes for the same sources."""
    sources = {"__main__.py": _BEGIN.encode()}
    folders = _PACKAGE.split(".")
    for depth in range(1, len(folders)):
        sources["/".join([*folders[:depth], "__init__.py"])] = b""
    for source in files(_PACKAGE).iterdir():
        if source.name.endswith(".py"):
            sources["/".join([*folders, source.name])] = source.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(sources):
            entry = zipfile.ZipInfo(name, _NEVER)
            archive.writestr(entry, sources[name])
    return buffer.getvalue()


def runner_name() -> str:
    """What the runner's file is called: by its content."""
    return f"protege-runner-{digest(runner())}.pyz"
