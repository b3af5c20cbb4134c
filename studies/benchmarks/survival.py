"""Count the trials that a study loses when its processes are killed or its database is stopped.

In a study of sixty quick trials, two in parallel, two hundred processes are killed: the study, a
worker or a latency runner gets SIGKILL at a random moment, and a killed study is started again.
After each kill the finished trials are compared with those before. In a second study PostgreSQL is
stopped for a minute.
"""

import os
import queue
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from protege.search import State, Trial
from protege.search.storage.storage import read_study
from protege.search.study.study import trials_of
from protege.spaces import BadInput
from studies.benchmarks.figures import Figure
from studies.benchmarks.lives import ForkServer, family, fork_server
from studies.benchmarks.parts import run_parts
from studies.benchmarks.postgres import Server, server

KILLS, TRIALS = 200, 60
AWAY_S = 60.0

KINDS = {"study": 0.5, "worker": 0.2, "runner": 0.3}
"""The probability of each kind of process to be killed."""

PATIENCE_S = 20.0
"""Seconds to wait for a process of the chosen kind before another is chosen."""

STUDY = """
from protege.objectives import Distillation, Latency, LocalCPU, Memory, Retention, Texts, Workload
from protege.objectives.latency import Plan
from protege.search import Search
from protege.spaces import Choice, Range, SearchSpace, Teacher

# too short for reliable latencies, which do not matter here
QUICK = Plan(warm_up_s=0.0, usual_pairs=5, pairs_s=0.01, candidate_s=5.0, back_off_s=())

search = Search(
    name="survival",
    teacher=Teacher.load("teacher"),
    space=SearchSpace(
        layers=Range(0.25, 1.0),
        hidden=Choice(1 / 3, 2 / 3, 1.0),
        intermediate=Range(0.2, 1.0, 0.2),
        multiple_of=4,
    ),
    objectives=[
        Memory(),
        Latency(LocalCPU(threads=1), Workload(batch_size=1, prompt_tokens=4), plan=QUICK),
        Retention(),
    ],
    distillation=Distillation(
        Texts.from_file("corpus.txt"),
        steps=6,
        batch_size=8,
        learning_rate=1e-2,
        max_tokens=16,
        selection=16,
    ),
    storage="{storage}",
    folder="run",
)
"""


def write_study(folder: Path, storage: str) -> Path:
    """Write a study file, a tiny teacher and its texts; return the path of the study file."""
    words = [f"word{number}" for number in range(90)]
    known = {token: at for at, token in enumerate(["[PAD]", "[UNK]", "[MASK]", *words])}
    splits = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    splits.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=splits, model_max_length=32, **special)
    torch.manual_seed(0)
    sizes = BertConfig(
        vocab_size=len(known),
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=6,
        intermediate_size=40,
        max_position_embeddings=32,
        pad_token_id=0,
    )
    BertForMaskedLM(sizes).save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    chance = random.Random(0)
    texts = (" ".join(chance.choices(words, k=chance.randint(2, 12))) for _ in range(60))
    (folder / "corpus.txt").write_text("\n".join(texts), encoding="utf-8")
    study = folder / "study.py"
    study.write_text(STUDY.format(storage=storage), encoding="utf-8")
    return study


def told(storage: str) -> dict[int, Trial]:
    """Return every finished trial by number; none of them may change later."""
    try:
        return {trial.number: trial for trial in trials_of(read_study(storage))}
    except BadInput:  # there is no study yet
        return {}


@dataclass
class Ordeal:
    """A study whose processes are killed repeatedly until it finishes.

    Attributes:
        lives: The fork server that runs it.
        words: Its command line.
        storage: Its storage URL.
        trials: The number of trials.
        kills: The number of processes to kill.
        chance: Draws processes and moments.
    """

    lives: ForkServer
    words: list[str]
    storage: str
    trials: int
    kills: int
    chance: random.Random
    killed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0), init=False)
    changed: set[int] = field(default_factory=set, init=False)
    """Finished trials that later changed or disappeared."""
    exits: list[str] = field(default_factory=list, init=False)

    @property
    def count(self) -> int:
        """Processes killed so far."""
        return sum(self.killed.values())

    def run(self) -> dict[int, Trial]:
        """Restart the study until it finishes; return its trials."""
        before: dict[int, Trial] = {}
        most = 0.85 * self.trials  # by when all kills are done, since the last trials may be quick
        while not self.exits:
            life = Life(self.lives, self.words)
            while life.goes_on:
                if self.count < self.kills:
                    ahead = (len(before) + 1) * self.kills > self.count * most
                    self._kill_one(life, 0.5 if ahead else 4.0)
                else:
                    time.sleep(0.1)
                before = self._compared(before)
            self.exits += life.exits
        return self._compared(before)

    def _kill_one(self, life: "Life", most_s: float) -> None:
        """Kill one of the study's processes after a random delay.

        Args:
            life: The current run.
            most_s: Maximum delay in seconds of killing the study; four times that of the others.
        """
        (kind,) = self.chance.choices([*KINDS], [*KINDS.values()])
        until = time.monotonic() + PATIENCE_S
        while life.goes_on and time.monotonic() < until:
            if kind in family(life.pid).values():
                time.sleep(self.chance.uniform(0.0, most_s if kind == "study" else most_s / 4))
                found = sorted(pid for pid, name in family(life.pid).items() if name == kind)
                if found:
                    with suppress(ProcessLookupError):  # it ended by itself
                        os.kill(self.chance.choice(found), signal.SIGKILL)
                        self.killed[kind] += 1
                return
            time.sleep(0.02)

    def _compared(self, before: dict[int, Trial]) -> dict[int, Trial]:
        now = told(self.storage)
        self.changed |= {number for number in before if now.get(number) != before[number]}
        return now


class Life:
    """One run of the study, whose output a thread reads."""

    def __init__(self, lives: ForkServer, words: list[str]) -> None:
        self.exits: list[str] = []
        """Error messages and the exit code, unless it was killed."""
        says = lives.live(words)
        self.pid = int(next(says).removeprefix("child "))
        self._over: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(says,), daemon=True).start()

    @property
    def goes_on(self) -> bool:
        """Whether it still runs."""
        return self._over.empty()

    def _listen(self, says: Iterator[str]) -> None:
        heard = [word for word in says if word.startswith(("exit ", "protege: error"))]
        self.exits += heard if heard[-1:] != ["exit 0"] else heard[-1:]
        self._over.put(None)


def counted(found: dict[int, Trial], asked: int, changed: set[int]) -> tuple[int, int]:
    """Return the numbers of lost and of duplicate trials.

    Args:
        found: The final trials by number.
        asked: The number of trials asked for.
        changed: Finished trials that later changed or disappeared.
    """
    missing = set(range(asked)) - found.keys()
    return len(missing | changed), len(found) - len({trial.key for trial in found.values()})


def kills(*, quick: bool) -> Iterator[Figure]:
    """Kill two hundred processes during sixty trials."""
    trials, wanted = (8, 12) if quick else (TRIALS, KILLS)
    began = time.monotonic()
    with TemporaryDirectory() as made:
        folder = Path(made)
        storage = f"sqlite:///{folder}/run/study.db"
        words = ["run", str(write_study(folder, storage)), "--trials", str(trials), "--jobs", "2"]
        with fork_server(folder) as lives:
            ordeal = Ordeal(lives, words, storage, trials, wanted, random.Random(0))
            found = ordeal.run()
    if ordeal.exits != ["exit 0"]:
        raise RuntimeError(f"the study ended with {ordeal.exits}")
    lost, doubled = counted(found, trials, ordeal.changed)
    failed = [trial for trial in found.values() if trial.state is State.FAILED]
    for trial in failed:
        print(f"trial {trial.number} failed: {trial.reason}")
    yield _figure("kills", ordeal.count, "at least 200")
    for kind, count in ordeal.killed.items():
        yield _figure(f"kills ({kind})", count)
    yield _figure("distinct trials", len({one.key for one in found.values()}), f"{trials}")
    yield _figure("lost", lost, "0")
    yield _figure("doubled", doubled, "0")
    yield _figure("failed", len(failed), "0")
    yield Figure.of("seconds", [time.monotonic() - began], "s")


def away(*, quick: bool) -> Iterator[Figure]:
    """Stop PostgreSQL for a minute during a study."""
    trials, seconds = (6, 5.0) if quick else (20, AWAY_S)
    with TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)  # the server's user needs access
        with server(folder / "postgres") as database, fork_server(folder) as lives:
            study = write_study(folder, database.url)
            words = ["run", str(study), "--trials", str(trials), "--jobs", "2"]
            before, found, ended = _bereft(lives, words, database, seconds)
    if ended != ["exit 0"]:
        raise RuntimeError(f"the study ended with {ended}")
    changed = {number for number in before if found.get(number) != before[number]}
    lost, doubled = counted(found, trials, changed)
    yield Figure.of("database away", [seconds], "s")
    yield _figure("lost (database away)", lost, "0")
    yield _figure("doubled (database away)", doubled, "0")


def _bereft(
    lives: ForkServer, words: list[str], database: Server, seconds: float
) -> tuple[dict[int, Trial], dict[int, Trial], list[str]]:
    """Run a study and stop its database; return the trials before and after, and its exits."""
    life = Life(lives, words)
    while life.goes_on and len(told(database.url)) < 3:
        time.sleep(0.2)
    before = told(database.url)
    database.kill()
    time.sleep(seconds)
    database.start()
    while life.goes_on:
        time.sleep(0.2)
    return before, told(database.url), life.exits


def _figure(name: str, value: int, bar: str = "") -> Figure:
    return Figure.of(name, [float(value)], "", bar)


if __name__ == "__main__":
    run_parts("survival", __doc__ or "", {"kills": kills, "away": away})
