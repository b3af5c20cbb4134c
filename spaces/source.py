"""Where a teacher comes from: a folder, or the id of one on the hub."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from protege.spaces.errors import BadInput, ProtegeError


def place_of(source: str | Path) -> str:
    """The source as transformers takes it; what is written as a path must be there."""
    place = Path(source).expanduser()
    written_as_path = isinstance(source, Path) or str(source).startswith((".", "/", "~"))
    if written_as_path and not place.is_dir():
        raise BadInput(f"{source}: no such folder; expected one with a checkpoint, or a hub id")
    return str(place)


def hub_id_of(place: str) -> str | None:
    """Return the hub id that a teacher was loaded by, or None if it came from a folder.

    A folder of the hub's own cache stands for the id that it was downloaded by.
    """
    path = Path(place)
    if not path.is_dir():
        return place
    repository = path.resolve().parent.parent.name
    kind, *names = repository.split("--")
    cached = kind == "models" and path.resolve().parent.name == "snapshots" and names
    return "/".join(names) if cached else None


@contextlib.contextmanager
def as_bad_input(source: str) -> Iterator[None]:
    """Turn what transformers raises for a path that is no model into one line."""
    try:
        yield
    except ProtegeError:
        raise
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(
            f"{source}: no teacher can be loaded from there; expected a folder with config.json "
            f"and weights, or a hub id ({reason})"
        ) from error
