"""``protege dashboard`` serves a study that runs, in a real browser."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from protege.search import Front, Search, State
from protege.search.cli.main import main
from protege.search.storage.locating import url_of_file
from protege.search.study import serving
from protege.spaces import Teacher
from studies.benchmarks.chromium import Chromium, Tab
from tests.search.conftest import emptied
from tests.search.toys import WIDE, coordinated, distillation, toy

NAME = "<b>bold</b>|`code` *x* _y_ $z$ [a](b)"
"""The name of a study, with markup."""

WIDTH_PX = 1280


@contextmanager
def served(run: object, *options: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves the dashboard of a run, and the address that it prints."""
    line = [sys.executable, "-m", "protege.search.cli.main", "dashboard", str(run)]
    process = subprocess.Popen(
        [*line, *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        found = re.fullmatch(r"Dashboard: (http://127\.0\.0\.1:\d+/dashboard/studies/\d+)\n", first)
        assert found, (first, process.stderr and process.stderr.read())
        yield process, found[1]
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def asked(address: str, host: str = "", **given: Any) -> Any:
    """What a server answers, read from its JSON."""
    headers = {"Content-Type": "application/json"} | ({"Host": host} if host else {})
    with urlopen(Request(address, headers=headers, **given), timeout=60) as answer:
        return json.load(answer)


def raced(folder: Path, teacher: Teacher) -> Search:
    """A study in which candidates are stopped at rungs."""
    own = distillation(steps=9)
    return toy(folder, teacher=teacher, name=NAME, space=WIDE, distillation=own)


@pytest.fixture
def free() -> int:
    """A port that is free."""
    with socket.socket() as one:
        one.bind((serving.HOST, 0))
        return int(one.getsockname()[1])


def fits(page: Tab) -> bool:
    """Whether a page needs no horizontal scrolling, of its own or of its main part."""
    wide = page.evaluate(
        "[...document.querySelectorAll('html, body, #dashboard, main, main > div')]"
        f".map(one => one.scrollWidth).filter(width => width > {WIDTH_PX})"
    )
    return not list(wide)


@dataclass(frozen=True)
class Shown:
    """A study with its dashboard in a browser.

    Attributes:
        search: The study, which can go on.
        front: Its front when the dashboard was started.
        address: The page of the study.
        page: The browser's page.
        process: The server.
    """

    search: Search
    front: Front
    address: str
    page: Tab
    process: "subprocess.Popen[str]"

    def open(self, path: str, text: str) -> None:
        """Open a page of the study, and wait until it shows a text."""
        self.page.open(f"{self.address}{path}")
        self.page.wait(f"document.body && document.body.innerText.includes({json.dumps(text)})")


@pytest.fixture(scope="module")
def shown(teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A study in which some were stopped, in a browser."""
    with emptied() as folder:
        search = raced(folder, teacher)
        front = search.run(trials=12)
        if shutil.which("chromium") is None:
            pytest.skip("chromium is not installed")
        profile = tmp_path_factory.mktemp("profile")
        with served(folder) as (process, address), Chromium(profile) as browser:
            page = browser.tab(width_px=WIDTH_PX)
            yield Shown(search, front, address, page, process)
            assert page.console == []


PAGES = {
    "history": ("", "report.html", "document.querySelectorAll('.js-plotly-plot').length >= 8"),
    "analytics": ("/analytics", "Contour", "document.querySelectorAll('.main-svg').length > 4"),
    "complete": ("/trials?numbers=0", "which no student dominates", "true"),
    "pruned": ("/trials?numbers={stopped}", "Stopped by the race: outranked at step", "true"),
    "note": ("/note", "report.html", "true"),
}
"""Pages: the path, a text that is on it, and what is true when it is drawn."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_no_horizontal_scrolling(shown: Shown, name: str, tmp_path: Path) -> None:
    path, text, drawn = PAGES[name]
    stopped = next(one for one in shown.front.trials if one.state is State.STOPPED)
    shown.open(path.format(stopped=stopped.number), text)
    shown.page.wait(drawn)
    assert fits(shown.page)
    shown.page.screenshot(tmp_path / f"{name}.png")


@pytest.mark.slow
def test_the_list_of_studies_shows_a_name_with_markup_as_text(shown: Shown) -> None:
    shown.page.open(shown.address.partition("/studies/")[0])
    shown.page.wait(f"document.body && document.body.innerText.includes({json.dumps(NAME)})")
    assert fits(shown.page)


@pytest.mark.slow
def test_the_note_on_the_study_shows_names_as_text_and_leads_to_the_report(shown: Shown) -> None:
    shown.open("/note", "report.html")
    text = shown.page.evaluate("document.body.innerText")
    assert NAME in text
    assert all(student.label in text for student in shown.front.students)
    assert shown.page.evaluate("document.querySelectorAll('b, em, mjx-container').length") == 0
    links = "[...document.links].filter(one => one.text == 'report.html')"
    shown.page.open(shown.page.evaluate(f"{links}[0].href"))
    shown.page.wait("document.title && document.querySelectorAll('table').length > 1")


@pytest.mark.slow
def test_a_trial_has_its_card_learning_curve_and_model_card(shown: Shown) -> None:
    best = shown.front.students[0]
    shown.open(f"/trials?numbers={best.number}", f"model-card-t{best.number}.md")
    shown.page.wait("[...document.images].some(one => one.src.includes('/artifacts/'))")
    shown.page.wait("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    text = shown.page.evaluate("document.body.innerText")
    assert best.label in text
    assert "Finished, on the front." in text
    assert f"protege export {shown.front.folder} --trial {best.number}" in text


@pytest.mark.slow
def test_a_stopped_trial_is_pruned(shown: Shown) -> None:
    stopped = [one.number for one in shown.front.trials if one.state is State.STOPPED]
    shown.open("/trials", "Pruned")
    listed = "[...document.querySelectorAll('li, [role=button]')].map(one => one.innerText)"
    rows = [row for row in shown.page.evaluate(listed) if re.match(r"Trial \d+\s+Pruned", row)]
    assert {int(row.split()[1]) for row in rows} <= {*stopped}
    assert rows
    api = shown.address.replace("/dashboard/studies/", "/api/studies/")
    states = {one["number"]: one["state"] for one in asked(api)["trials"]}
    assert [number for number, state in states.items() if state == "Pruned"] == stopped


@pytest.mark.slow
def test_the_dashboard_follows_a_run(shown: Shown) -> None:
    found = shown.search.run(trials=14)
    shown.open("/trials?numbers=13", found.trials[13].label)
    shown.open("/note", "14 trials")
    shown.process.send_signal(signal.SIGINT)
    assert shown.process.wait(60) == 0


def test_a_study_without_a_finished_trial_is_served_and_ends_by_a_signal(
    folder: Path, teacher: Teacher, free: int
) -> None:
    with coordinated(toy(folder, teacher=teacher)):
        pass
    with served(folder, "--port", free) as (process, address):
        assert f":{free}/" in address
        studies = asked(address.replace("/dashboard/studies/", "/api/studies/"))
        assert {trial["state"] for trial in studies["trials"]} == {"Waiting"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143


def test_what_would_damage_a_study_or_comes_from_another_site_is_refused(run_folder: Path) -> None:
    with served(run_folder) as (_, address):
        api = address.replace("/dashboard/studies/", "/api/studies/")
        assert asked(api)["name"] == "toy"
        with pytest.raises(HTTPError, match="403") as refusal:
            asked(f"{api}/rename", data=b'{"study_name": "other"}', method="POST")
        assert "cannot be renamed" in refusal.value.read().decode()
        refusal.value.close()
        with pytest.raises(HTTPError, match="403") as refusal:
            asked(api, host="evil.example:8080")
        refusal.value.close()
        assert Front.read(run_folder).name == "toy"


def test_a_port_that_is_taken_and_a_missing_package_are_one_line(
    run_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as taken:
        taken.bind((serving.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["dashboard", str(run_folder), "--port", str(port)]) == 2
        said = capsys.readouterr().err
        assert f"port {port}: cannot be listened on" in said
        assert said.count("\n") == 1
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert main(["dashboard", str(run_folder)]) == 2
    said = capsys.readouterr().err
    assert 'optuna-dashboard is not installed; install it: pip install "protege[dashboard]"' in said
    assert main(["dashboard", url_of_file(run_folder / "none.db")]) == 2
    assert "no study there" in capsys.readouterr().err
