"""A run has one folder of its own, whatever the study is called and wherever it is stored."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives import Memory
from protege.search import Front, Search
from protege.search.cli.main import main
from protege.search.records.results import weights_folder
from protege.search.session.session import claimed_folder
from protege.search.storage.format import FORMAT
from protege.search.storage.locating import database_path, default_folder, folder_name, url_of_file
from protege.search.storage.run_folder import (
    MARKER,
    Marker,
    RunFolder,
    locate_run,
)
from protege.search.storage.storage import read_study
from protege.search.study.study import open_study
from protege.spaces import BadInput, Teacher
from tests import disks
from tests.search.toys import OBJECTIVES, PLAIN, go_on, opened, toy

NAMES = [
    "what?now",
    "per%cent",
    "100%41%zz",
    "a#b",
    "two words",
    " ends ",
    "größe-模型",
    "quo\"te's`",
    "a:b/c\\d",
    ".hidden",
    "-rf",
    "..",
    ".",
    "../../x",
    "/etc",
    "{braces}{0}",
    "$HOME;rm *",
    "a[v2]",
    "sqlite:///x.db",
    "e\u0301",
    "x" * 400,
    "模" * 150,
]


def slow(name: str) -> Any:
    """A name that is left to the full set of tests."""
    return pytest.param(name, marks=pytest.mark.slow)


PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), min_size=1)


def plain(folder: Path, teacher: Teacher, /, **changes: Any) -> Search:
    """A search in that folder that trains nothing."""
    return toy(folder, **({"teacher": teacher, "space": PLAIN, "objectives": [Memory()]} | changes))


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_of_any_name_is_one_folder_below_runs(name: str) -> None:
    path = default_folder(name, None)
    assert path.parent == Path("runs")
    assert not path.name.startswith((".", "-"))
    assert len(path.name.encode()) <= 200


@given(PRINTABLE, PRINTABLE)
def test_folders_of_two_names_are_two(one: str, other: str) -> None:
    assert (folder_name(one) == folder_name(other)) == (one == other)
    assert "/" not in folder_name(one)
    assert folder_name(one).isprintable()


@pytest.mark.parametrize("name", ["toy", "minilm-cpu", "seed_3", "größe 2", "v1.2+a=b"])
def test_usual_names_are_kept_as_they_are(name: str) -> None:
    assert folder_name(name) == name


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_a_path_in_a_url_is_read_back_as_it_was(text: str) -> None:
    path = Path("folder") / text
    assert database_path(url_of_file(path)) == path
    assert database_path(path) == path


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///runs/toy/study.db", "runs/toy/study.db"),
        ("sqlite:////tmp/study.db", "/tmp/study.db"),
        ("sqlite:///what?now/study.db", "what?now/study.db"),
        ("sqlite:///what%3Fnow/study.db", "what?now/study.db"),
        ("sqlite:///per%cent/study.db", "per%cent/study.db"),
        ("sqlite:///100%/a#b{c}.db", "100%/a#b{c}.db"),
        ("journal:///a?b=c/study.log", "a?b=c/study.log"),
        ("sqlite+pysqlite:///x y.db", "x y.db"),
    ],
)
def test_urls_of_files_are_read_as_they_are_meant(url: str, path: str) -> None:
    assert database_path(url) == Path(path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://study.db", r"expected three slashes, sqlite:///study\.db"),
        ("sqlite:///x.db?timeout=3", r"options of SQLite are not read; leave out \?timeout=3"),
        ("sqlite:///a%00b.db", "cannot have the character NUL"),
        ("postgresql://me:secret@host:port/name", "its port is not a whole number"),
        ("mysql://me:se/cr:et@host:/x", "expected|whole number|server"),
        ("study.db", "expected a URL such as sqlite:///"),
    ],
)
def test_urls_that_cannot_be_are_refused_without_their_password(url: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refusal:
        open_study(url, "toy", OBJECTIVES)
    assert "secret" not in str(refusal.value)


def test_postgres_is_another_word_for_postgresql() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(BadInput, match="the server does not let us in"):
        read_study("postgres://me:secret@127.0.0.1:1/none")


@pytest.mark.parametrize("name", [NAMES[0], *map(slow, NAMES[1:-1]), NAMES[-1]])
def test_a_study_of_any_name_is_stored_and_found_again(
    name: str, folder: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    search = plain(folder, teacher, name=name, folder="", storage="")
    front = search.run(trials=1)
    assert [path.name for path in folder.iterdir()] == ["runs"]
    assert [path.resolve() for path in (folder / "runs").iterdir()] == [front.folder.resolve()]
    own = search.run_folder.path
    for place in (search.place, own, str(own), front.folder / "study.db"):
        assert Front.read(place).trials == front.trials
    assert front.save().parent.resolve() == front.folder.resolve()


@pytest.mark.parametrize(
    "name", ["what?now", *map(slow, ["per%cent", "{braces}", "a#b", "100%41", "-x"])]
)
@pytest.mark.parametrize("given_as", ["folder", "path", "url", "raw url"])
def test_folders_and_storages_of_any_name_are_found_again(
    name: str, given_as: str, folder: Path, teacher: Teacher
) -> None:
    own = folder / name
    own.mkdir()  # so that there is no doubt what a raw URL means
    storage = {"path": own / "study.db", "raw url": f"sqlite:///{own}/study.db"}
    url = url_of_file(own / "study.db")
    given = {"storage": storage.get(given_as, "" if given_as == "folder" else url)}
    front = plain(folder, teacher, folder=own, **given).run(trials=1)
    assert sorted(path.name for path in folder.iterdir()) == [name]
    assert Front.read(own).trials == Front.read(url).trials == front.trials


@pytest.mark.parametrize("name", ["", "a\nb", "nul\0", "\x1b[31m", "\ud800"])
def test_names_that_cannot_be_printed_are_refused(
    name: str, folder: Path, teacher: Teacher
) -> None:
    with pytest.raises(BadInput, match="expected one or more printable characters"):
        plain(folder, teacher, name=name)


def test_two_studies_of_one_database_have_a_folder_each(folder: Path, teacher: Teacher) -> None:
    storage = f"sqlite:///{folder}/study.db"
    searches = {
        name: toy(folder, teacher=teacher, name=name, storage=storage, folder="", seed=seed)
        for seed, name in enumerate(["one", "two"])
    }
    fronts = {name: search.run(trials=2) for name, search in searches.items()}
    weights = {
        name: weights_folder(folder / "runs" / name, 1) / "model.safetensors" for name in searches
    }
    assert weights["one"].read_bytes() != weights["two"].read_bytes()
    for name, front in fronts.items():
        assert front.folder.resolve() == folder / "runs" / name
        by_name, by_folder = Front.read(storage, name), Front.read(folder / "runs" / name)
        assert by_name.trials == by_folder.trials == front.trials
        assert (by_name.name, by_folder.name) == (name, name)
        target = by_name.export(1, folder / f"export-{name}")
        assert (target / "model.safetensors").read_bytes() == weights[name].read_bytes()
    with pytest.raises(BadInput, match="found 2: one, two; name one of them, or give its run"):
        Front.read(storage)
    for number, options in enumerate((["--study", "two"], ["--study=two"])):
        to = folder / f"again-{number}"
        assert main(["export", storage, "--trial", "1", "--to", str(to), *options]) == 0
        assert (to / "model.safetensors").read_bytes() == weights["two"].read_bytes()


@pytest.mark.parametrize("given_as", ["folder", "storage"])
def test_a_folder_of_another_study_is_refused_and_both_are_named(
    given_as: str, run_folder: Path, teacher: Teacher
) -> None:
    before = (run_folder / MARKER).read_bytes()
    others = {"storage": {"storage": f"sqlite:///{run_folder}/study.db"}, "folder": {}}
    search = plain(run_folder, teacher, name="mine", **others[given_as])
    with pytest.raises(BadInput, match="the run folder of study 'toy', not of 'mine'"):
        search.run(trials=1)
    assert (run_folder / MARKER).read_bytes() == before


def test_a_folder_of_another_study_of_the_same_name_is_refused(
    folder: Path, teacher: Teacher
) -> None:
    plain(folder / "run", teacher, storage=folder / "one.db").run(trials=1)
    with pytest.raises(BadInput, match=r"the run folder of another study 'toy' \(run \w{8}, here"):
        plain(folder / "run", teacher, storage=folder / "two.db").run(trials=1)


@pytest.mark.parametrize("there", ["mine.txt", ".env", "artifacts/model.bin", "study.db-old"])
def test_a_folder_with_something_in_it_is_refused(
    there: str, folder: Path, teacher: Teacher
) -> None:
    path = folder / there
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(BadInput, match=r"not empty .* and not a run folder of protege; give study"):
        plain(folder, teacher).run(trials=1)
    assert [one.name for one in folder.iterdir()] == [Path(there).parts[0]]


def test_a_file_in_the_place_of_the_folder_is_refused(folder: Path, teacher: Teacher) -> None:
    (folder / "run").write_text("mine")
    with pytest.raises(BadInput, match="run: not a folder; give the study another one"):
        plain(folder / "run", teacher, storage=folder / "study.db").run(trials=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "damaged"),
        ("[]", "the record is damaged"),
        ("7", "damaged"),
        ("\x00\xff", "damaged"),
        (
            f'{{"format": {FORMAT}, "protege": "0.1.0", "study": 3, "run": "", "database": ""}}',
            "damaged",
        ),
        (f'{{"format": {FORMAT}, "protege": "0.1.0", "study": "toy"}}', "damaged"),
        ('{"format": "x", "protege": "0.1.0"}', "the record is damaged"),
        ('{"format": 9, "protege": "4.2.0"}', r"written by protege 4.2.0 in format 9; .* install"),
        (
            f'{{"format": {FORMAT - 1}, "protege": "0.1.0"}}',
            rf"in format {FORMAT - 1}; .* reads format {FORMAT} only: run the study",
        ),
    ],
)
def test_a_marker_that_is_damaged_or_of_another_format_is_one_line(
    text: str, message: str, folder: Path
) -> None:
    (folder / MARKER).write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=message):
        RunFolder(folder, "toy").claim()


def test_a_folder_is_claimed_once_and_bound_to_one_id(folder: Path) -> None:
    own = RunFolder(folder / "run", "toy")
    own.claim()
    own.claim()
    assert Marker.read(own.path) == Marker("toy")
    assert own.bind("a" * 32)
    assert not own.bind("a" * 32)
    assert own.is_of("a" * 32)
    with pytest.raises(BadInput, match="another study 'toy'"):
        own.bind("b" * 32)
    shutil.rmtree(own.path)
    with pytest.raises(BadInput, match="was removed or replaced meanwhile"):
        own.require("a" * 32)
    assert [path.name for path in folder.iterdir()] == []


def test_a_link_in_the_place_of_the_lock_is_not_followed(folder: Path, teacher: Teacher) -> None:
    (folder / "mine.txt").write_text("mine")
    search = plain(folder / "run", teacher)
    search.run(trials=1)
    (folder / "run" / "study.lock").unlink()
    (folder / "run" / "study.lock").symlink_to(folder / "mine.txt")
    with pytest.raises(BadInput, match="a symbolic link, which is not followed; remove it"):
        search.run(trials=2)
    assert (folder / "mine.txt").read_text() == "mine"


def test_a_database_and_its_run_folder_can_be_moved_together(
    folder: Path, teacher: Teacher
) -> None:
    old = folder / "old"
    front = plain(folder, teacher, storage=old / "all.db", folder="").run(trials=2)
    old.rename(folder / "new")
    for place in (folder / "new" / "all.db", folder / "new" / "runs" / "toy"):
        read = Front.read(place)
        assert read.trials == front.trials
        assert read.folder.resolve() == folder / "new" / "runs" / "toy"
    again = plain(folder, teacher, storage=folder / "new" / "all.db", folder="").run(trials=3)
    assert again.trials[:2] == front.trials


def test_a_folder_that_is_removed_while_the_study_runs_ends_it_in_one_line(
    folder: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, measured = Memory.measure, []

    def removing(self: Memory, candidate: Any) -> Any:
        measured.append(candidate)
        if len(measured) == 3:
            shutil.rmtree(folder / "run")
        return measure(self, candidate)

    for storage in ("", folder / "study.db", f"journal:///{folder}/study.log"):
        measured.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Memory, "measure", removing)
            with pytest.raises(BadInput, match=r"was removed|No such file|cannot be written"):
                plain(folder / "run", teacher, storage=storage).run(trials=6)
        shutil.rmtree(folder / "run", ignore_errors=True)


def test_a_folder_that_is_gone_is_made_anew_and_that_is_said(
    folder: Path, teacher: Teacher, caplog: pytest.LogCaptureFixture
) -> None:
    search = plain(folder / "run", teacher, storage=folder / "study.db")
    front = search.run(trials=2)
    shutil.rmtree(folder / "run")
    message = r"trial \d .*: on the front, but its weights are not in .*; restore the folder"
    with pytest.raises(BadInput, match=message):
        Front.read(folder / "study.db").export(front.members[0], folder / "to")
    assert search.run(trials=3).trials[:2] == front.trials
    assert "the run folder of study 'toy' was missing, and the weights" in caplog.text


def test_heads_before_the_run_do_not_bar_the_folder(folder: Path, teacher: Teacher) -> None:
    search = plain(folder / "run", teacher)
    (claimed_folder(search) / "heads.csv").write_text("heads")
    assert len(search.run(trials=1).trials) == 1
    assert (folder / "run" / "heads.csv").read_text() == "heads"


def test_a_run_on_a_read_only_disk_is_read_and_reported_elsewhere(
    tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str], teacher: Teacher
) -> None:
    with disks.small_disk(16) as disk:
        shutil.copytree(run_folder, disk / "run")
        disks.make_read_only(disk)
        before = Front.read(disk / "run")
        assert before.trials == Front.read(run_folder).trials
        page, to = tmp_path / "page", tmp_path / "to"
        number = str(before.members[0].number)
        for words in (
            ["report", str(disk / "run"), "--folder", str(page)],
            ["report", str(disk / "run" / "study.db"), "--folder", str(page)],
            ["pick", str(disk / "run"), "--budget", "memory_mb=1"],
            ["export", str(disk / "run"), "--trial", number, "--to", str(to)],
        ):
            assert main(words) == 0, capsys.readouterr().err
        assert {path.name for path in page.iterdir()} == {"index.html", "front.csv"}
        refused = {
            "report": ["report", str(disk / "run")],
            "export": ["export", str(disk / "run"), "--trial", number],
        }
        for words in refused.values():
            assert main(words) == 2
            said = capsys.readouterr().err
            assert "Read-only file system" in said
            assert said.count("\n") == 1
        for name in ("run", "new"):
            with pytest.raises(BadInput, match="Read-only file system"):
                plain(disk / name, teacher).run(trials=20)


def test_reading_makes_no_tables_in_a_database_of_something_else(folder: Path) -> None:
    (folder / "empty.db").touch()
    for name in ("empty.db",):
        with pytest.raises(BadInput, match="no study there"):
            Front.read(folder / name)
    assert (folder / "empty.db").read_bytes() == b""


def test_a_study_that_protege_did_not_make_is_left_alone(folder: Path, teacher: Teacher) -> None:
    go_on(opened(f"sqlite:///{folder}/study.db"), 2)
    before = (folder / "study.db").read_bytes()
    with pytest.raises(BadInput, match="study 'toy' was not made by protege; give another name"):
        plain(folder / "run", teacher, storage=folder / "study.db").run(trials=3)
    with pytest.raises(BadInput, match="study 'toy' was not made by protege"):
        Front.read(folder / "study.db")
    assert (folder / "study.db").read_bytes() == before


def test_the_marker_names_study_database_and_format(folder: Path, teacher: Teacher) -> None:
    plain(folder / "run", teacher, storage=folder / "study.db").run(trials=1)
    stored = json.loads((folder / "run" / MARKER).read_text(encoding="utf-8"))
    run = read_study(folder / "study.db").user_attrs["run"]
    assert stored.pop("protege")
    assert stored == {"format": FORMAT, "study": "toy", "run": run, "database": "../study.db"}
    assert locate_run(folder / "run").storage == f"sqlite:///{folder}/study.db"
