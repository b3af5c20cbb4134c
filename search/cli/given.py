"""What command lines name: numbers, studies, runs."""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, Token, validators

from protege.spaces.errors import BadInput

if TYPE_CHECKING:  # each command imports what it runs: help is printed at once
    from protege.search.front.front import Front
    from protege.search.search import Search


def _whole(_: object, tokens: Sequence[Token]) -> int:
    """Parse a whole number; cyclopts alone would round 1.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not a whole number") from None


Whole = Annotated[int, Parameter(converter=_whole)]
Count = Annotated[Whole, Parameter(validator=validators.Number(gte=1))]


def front_of(run: str, study: str | None = None) -> "Front":
    """Read the front of a run folder, a study.db, a storage URL, or a study file."""
    from protege.search.front.front import Front

    if run.endswith(".py"):
        search = search_in(Path(run))
        return Front.read(search.place, search.name)
    return Front.read(run, study)


def search_in(path: Path) -> "Search":
    """Run a study file and return the `Search` that it defines at the top level.

    Raises:
        BadInput: The file is missing or no Python, or defines not exactly one `Search`.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected a Python file that defines a Search")
    # a study may import modules beside it and in the working directory
    sys.path[:0] = [str(path.resolve().parent), str(Path.cwd())]
    try:
        compile(path.read_bytes(), str(path), "exec")
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{path}: not a Python file that can be run ({error})") from error
    from protege.search.search import Search
    from protege.search.session.identity import STUDY_MODULE

    defined = runpy.run_path(str(path), run_name=STUDY_MODULE)

    searches = [value for value in defined.values() if isinstance(value, Search)]
    if len(searches) != 1:
        raise BadInput(
            f"{path}: expected one Search at the top level, such as search = Search(...), "
            f"found {len(searches)}"
        )
    return searches[0]
