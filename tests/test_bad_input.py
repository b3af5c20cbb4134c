"""What a user can get wrong: one line that says what, exit code 2, and nothing written or lost."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from protege.search import Front
from protege.search.cli.main import main
from tests import disks
from tests.search.toys import coordinated, toy
from tests.study_files import write_study
from tests.tiny import CASES, save, texts


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that a command which is refused says."""
    capsys.readouterr()  # what was said before
    assert main([str(word) for word in words]) == 2
    lines = capsys.readouterr().err.splitlines()
    # of trials that ended before
    lines = [line for line in lines if not line.startswith(("toy: ", "loading "))]
    assert len(lines) == 1
    start, _, message = lines[0].partition("protege: error: ")
    assert start == ""
    return message


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under the folder with its bytes; the lock says only who ran last."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in files if path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of two trials in ``run``; what is refused leaves it as it is."""
    folder = tmp_path_factory.mktemp("ran")
    assert main(["run", str(write_study(folder)), "--trials", "2"]) == 0
    return folder


BAD_STUDIES: dict[str, tuple[dict[str, object], str]] = {
    "no teacher there": (
        {"teacher": "/nowhere"},
        "/nowhere: no such folder; expected one with a checkpoint",
    ),
    "a teacher that is no model": ({"teacher": "{folder}"}, "no teacher can be loaded from there"),
    "a ratio of zero": (
        {"space": "SearchSpace(layers=Range(0.0, 1.0))"},
        r"layers=0.0: expected a ratio above 0 and at most 1",
    ),
    "a ratio above one": (
        {"space": "SearchSpace(hidden=1.5)"},
        r"hidden=1.5: expected a ratio above 0 and at most 1",
    ),
    "a space with no member": (
        {"space": "SearchSpace(heads=Choice(0.5))"},
        "has no student of",
    ),
    "the teacher alone": ({"space": "SearchSpace()"}, "has no student of"),
    "a limit that nothing can meet": (
        {"memory": "Memory(limit=0.001)"},
        r"memory_mb limit 0.001: no student can meet it; the smallest .* reaches 0\.0\d+",
    ),
    "no data": ({"data": "/nowhere.txt"}, r"/nowhere.txt: cannot be read \(No such file"),
    "empty data": ({"data": "{folder}/empty.txt"}, "empty.txt: empty; expected one text per line"),
    "data that is not UTF-8": (
        {"data": "{folder}/latin.txt"},
        r"latin.txt: not UTF-8 \(byte 2 is 0xe9\); convert it, for example with iconv",
    ),
    "no steps to speak of": ({"steps": -1}, "steps=-1: expected a whole number of at least 0"),
}


@pytest.mark.parametrize("kind", BAD_STUDIES)
def test_a_study_that_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    changes, message = BAD_STUDIES[kind]
    (tmp_path / "empty.txt").write_text(" \n\n")
    (tmp_path / "latin.txt").write_bytes("th\u00e9 au lait\n".encode("latin-1"))
    given = {name: str(value).format(folder=tmp_path) for name, value in changes.items()}
    study = write_study(tmp_path, **given)
    before = contents(tmp_path)
    assert re.search(message, refused(capsys, "run", study, "--trials", 3))
    assert contents(tmp_path) == before


def test_an_unsupported_model_type_is_refused_with_the_supported_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path)
    config = tmp_path / "teacher" / "config.json"
    fields = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(fields | {"model_type": "gptj"}), encoding="utf-8")
    message = refused(capsys, "run", study)
    assert "gptj" in message
    assert "bert" in message
    assert "llama" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "expected one Search at the top level, .* found 0"),
        ("def broken(:\n", r"not a Python file that can be run \(.*line 1"),
        ("\0", "not a Python file that can be run"),
    ],
    ids=["no study", "no syntax", "no text"],
)
def test_a_file_that_defines_no_study_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / "study.py").write_text(text)
    assert re.search(message, refused(capsys, "run", tmp_path / "study.py"))
    assert [path.name for path in tmp_path.iterdir()] == ["study.py"]


def test_a_study_file_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "run", tmp_path / "study.py")
    assert message.endswith("study.py: no such file; expected a Python file that defines a Search")


OTHERS = {
    "teacher": {"teacher": "{folder}/other"},
    "distillation.data": {"data": "{folder}/other.txt"},
    "space": {"space": "SearchSpace(layers=Range(0.5, 1.0))"},
    "objectives": {"memory": "Memory(precision='int8')"},
    "distillation": {"steps": "3"},
}


@pytest.mark.parametrize("part", OTHERS)
def test_a_study_is_not_gone_on_with_as_another(
    ran: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    save(CASES["bert-sentences"].teacher(seed=1), tmp_path / "other")
    (tmp_path / "other.txt").write_text("\n".join(texts(30)), encoding="utf-8")
    given = {name: value.format(folder=tmp_path) for name, value in OTHERS[part].items()}
    study = write_study(tmp_path, **({"teacher": ran / "teacher", "run": ran / "run"} | given))
    before = contents(ran)
    message = refused(capsys, "run", study, "--trials", 3)
    assert re.match(rf"study 'toy' was made otherwise: {part}[\w.]*: recorded ", message)
    assert contents(ran) == before


@pytest.mark.parametrize("command", ["report", "pick", "export"])
def test_a_run_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    message = refused(capsys, command, tmp_path / "run")
    assert "run" in message
    assert "no study there; expected a study.db or the run folder it is in" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["report", "pick", "export"])
def test_a_run_without_a_finished_trial_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with coordinated(toy(tmp_path / "run")) as coordinator:
        coordinator.study.ask()  # as far as a process gets that dies in its first trial
    before = contents(tmp_path)
    message = refused(capsys, command, tmp_path / "run")
    assert "no finished trial yet; run the study first, or for longer" in message
    assert contents(tmp_path) == before


def test_a_budget_that_is_none_is_refused(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ran / "run"
    assert "Unused Tokens: ['small']; see protege pick --help" in refused(
        capsys, "pick", run, "small"
    )
    assert "unknown objective 'small'; this study has memory_mb" in refused(
        capsys, "pick", run, "--budget", "small"
    )
    assert "budget memory-mb=small: expected an objective and a number" in refused(
        capsys, "pick", run, "--memory-mb", "small"
    )
    assert "unknown objective 'speed'" in refused(capsys, "pick", run, "--speed", "3")
    assert "no trial 99" in refused(capsys, "export", run, "--trial", 99)


def test_nothing_is_exported_over_what_is_there(
    ran: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    message = refused(capsys, "export", ran / "run", "--trial", 1, "--to", tmp_path)
    assert "not empty; export into a new folder" in message
    assert contents(tmp_path) == {"mine.txt": b"mine"}


BAD_HEADS: dict[str, tuple[list[str], str]] = {
    "no texts": (["{folder}/teacher"], "no data to measure its heads on; give --texts"),
    "no file of texts": (["{folder}/teacher", "--texts", "{folder}/no.txt"], "cannot be read"),
    "no teacher there": (
        ["{folder}/nobody", "--texts", "{folder}/corpus.txt"],
        "nobody: no such folder; expected one with a checkpoint",
    ),
    "one text": (["{folder}/teacher", "--texts", "{folder}/one.txt"], "1 texts: expected at least"),
    "no study": (["{folder}/nothing.py"], "expected a Python file that defines a Search"),
    "a study without data": (["{folder}/study.py"], "the study has no data; give --texts FILE"),
    "a file where the folder should be": (
        ["{folder}/teacher", "--texts", "{folder}/corpus.txt", "--to", "{folder}/one.txt"],
        "one.txt: not a folder",
    ),
}


@pytest.mark.parametrize("kind", BAD_HEADS)
def test_heads_that_cannot_be_ranked_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    words, message = BAD_HEADS[kind]
    study = write_study(
        tmp_path, space="SearchSpace(layers=Range(0.25, 1.0), width_policy=First())"
    )
    text = study.read_text(encoding="utf-8").replace(
        "import Choice, Range", "import Choice, First, Range"
    )
    begin, end = text.index("    distillation="), text.index("    folder=")
    text = (text[:begin] + text[end:]).replace("        Retention(),\n", "")
    study.write_text(text, encoding="utf-8")
    (tmp_path / "one.txt").write_text("w1 w2\n", encoding="utf-8")
    before = contents(tmp_path)
    assert message in refused(capsys, "heads", *(word.format(folder=tmp_path) for word in words))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_traceback_is_there_for_who_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    words = ["pick", str(tmp_path), "--memory-mb", "1"]
    assert main(["--debug", *words] if place == "before" else [*words, "--debug"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("protege: error: ")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of sixteen megabytes; a report alone takes five."""
    with disks.small_disk(16) as made:
        yield made


@pytest.mark.parametrize(
    "free_kb",
    [200, *(pytest.param(kb, marks=pytest.mark.slow) for kb in (0, 100, 300, 500, 1500))],
)
def test_a_full_disk_ends_a_study_that_goes_on_once_there_is_room(
    tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str], free_kb: int
) -> None:
    study = write_study(tmp_path, run=small_disk / "run")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(16 * 2**20 - free_kb * 1024))
    message = refused(capsys, "run", study, "--trials", 6)
    assert "no space left on the device; make room, then run the same line again" in message
    ballast.unlink()
    assert main(["run", str(study), "--trials", "6"]) == 0
    front = Front.read(small_disk / "run")
    assert [trial.number for trial in front.trials] == list(range(6))
    assert len({trial.key for trial in front.trials}) == 6
    assert not list(small_disk.rglob(".*"))
