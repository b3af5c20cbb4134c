"""Compare predicted with actual memory and time of a study with a teacher of 1.1B parameters.

The teacher is a random Llama with TinyLlama's sizes, saved in bfloat16 (loaded in float32: 4.4 GB).
The study has the three students of ``SearchSpace(layers=Choice(0.5, 1.0), …)``, 400
texts and default settings, except that training is 4 steps of 8 sequences. One fresh process
calibrates, a second reads the calibration from the cache, a third runs the study, a fourth trains
the largest student to the end, which a race may stop in the study. Their resident memory, which
includes memory-mapped files, is sampled ten times per second. Takes about 40 minutes on two idle
cores; ``--quick`` uses 34M parameters and takes a minute.
"""

import json
import multiprocessing
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from protege.objectives import Candidate, Distillation, Memory, Retention, Texts
from protege.objectives.quality.rungs import CandidateDistillation
from protege.search import Search
from protege.search.planning.calibrating import compute_outputs, with_calibration
from protege.search.planning.training_cost import check_training_cost, largest
from protege.search.session.session import claimed_folder, prepared_for
from protege.spaces import Choice, SearchSpace, Teacher
from protege.spaces.files.memory import resident_bytes
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts

SIZES: dict[str, Any] = {
    "num_hidden_layers": 22,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "vocab_size": 32_000,
}
"""The sizes of TinyLlama: 1.1B parameters."""

QUICK = SIZES | {
    "num_hidden_layers": 8,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_attention_heads": 8,
    "vocab_size": 8000,
}

TEXTS, WORDS = 400, 40
"""Texts, and words of each."""

TRIALS = 5
"""The teacher and four students: all of the space."""

SAMPLED_S = 0.1


def make(folder: Path, *, quick: bool) -> None:
    """Write the teacher and its texts."""
    words = [f"word{number}" for number in range(500)]
    known = {token: at for at, token in enumerate(["[PAD]", "[UNK]", "[EOS]", *words])}
    splits = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    splits.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[EOS]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=splits, model_max_length=512, **special)
    torch.manual_seed(0)
    config = LlamaConfig(
        **(QUICK if quick else SIZES),
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=2,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    chance = random.Random(0)
    lines = (" ".join(chance.choices(words, k=WORDS)) for _ in range(TEXTS))
    (folder / "texts.txt").write_text("\n".join(lines), encoding="utf-8")


def search(folder: Path) -> Search:
    """The study."""
    return Search(
        name="large",
        teacher=Teacher.load(folder / "teacher"),
        space=SearchSpace(layers=Choice(0.5, 1.0), intermediate=Choice(0.5, 1.0)),
        objectives=[Memory(), Retention()],
        distillation=Distillation(Texts.from_file(folder / "texts.txt"), steps=4, batch_size=8),
        storage=f"sqlite:///{folder.resolve()}/run/study.db",
    )


def calibrate(folder: Path) -> None:
    """Calibrate in this process; write the predictions and the time it took."""
    own, lines = search(folder), list[str]()
    shared = prepared_for(own)
    shared.stopwatch.tell = lines.append
    claimed_folder(own)
    began = time.monotonic()
    with_calibration(shared, own.students)
    _write(folder, {"told": lines, "seconds": time.monotonic() - began})


def run(folder: Path) -> None:
    """Run the study in this process; write the states of its trials."""
    front = search(folder).run(trials=TRIALS)
    _write(folder, {"states": [one.state.value for one in front.trials]})


def train(folder: Path) -> None:
    """Train the largest student to the end, without a race; write the predictions and the time."""
    own, lines = search(folder), list[str]()
    shared = prepared_for(own)
    shared.stopwatch.tell = lines.append
    claimed_folder(own)
    members = list(own.students.representatives)
    shared = replace(shared, batch_parts=check_training_cost(shared, members))
    shared = with_calibration(shared, own.students)
    compute_outputs(shared)
    member = largest(members, shared.teacher)
    assert member is not None
    began = time.monotonic()
    CandidateDistillation(Candidate(shared, member), [Retention()]).last()
    _write(folder, {"told": lines, "seconds": time.monotonic() - began})


def _write(folder: Path, record: dict[str, Any]) -> None:
    (folder / "taken.json").write_text(json.dumps(record), encoding="utf-8")


def watched(target: Callable[[Path], None], folder: Path) -> tuple[dict[str, Any], float]:
    """Run a function in a fresh process; return its record and its peak memory in GB."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=(folder,))
    process.start()
    peak = 0
    while process.is_alive():
        peak = max(peak, resident_bytes(Path(f"/proc/{process.pid}/status")))
        time.sleep(SAMPLED_S)
    if process.exitcode:
        raise RuntimeError(f"{target.__name__} ended with exit code {process.exitcode}")
    record: dict[str, Any] = json.loads((folder / "taken.json").read_text(encoding="utf-8"))
    return record, peak / 1e9


def told(lines: list[str], phase: str) -> tuple[float, float]:
    """Parse the predicted seconds and gigabytes of a phase from the study's messages."""
    line = next(line for line in lines if line.startswith(phase))
    value, unit, peak = re.findall(r"about ([\d.]+) (s|min|h), peak ([\d.]+) GB", line)[0]
    return float(value) * {"s": 1, "min": 60, "h": 3600}[unit], float(peak)


def compared(phase: str, lines: list[str], seconds: float, peak: float) -> Iterator[Figure]:
    """Yield the actual time and memory of a phase, and the predictions relative to them."""
    print(*lines, sep="\n", flush=True)
    told_s, told_gb = told(lines, phase)
    yield Figure.of(f"{phase}: seconds", [seconds], "s", f"{told_s:.0f} s predicted")
    yield Figure.of(f"{phase}: seconds predicted over actual", [told_s / seconds], "", "0.7 to 1.3")
    yield Figure.of(f"{phase}: peak memory", [peak], "GB", f"{told_gb:.1f} GB predicted")
    yield Figure.of(f"{phase}: memory predicted over actual", [told_gb / peak], "", "0.7 to 1.3")


def calibration(*, quick: bool) -> Iterator[Figure]:
    """Calibrate a new teacher, then again from the cache."""
    folder = _folder(quick=quick)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make(folder, quick=quick)
    taken, peak = watched(calibrate, folder)
    yield from compared("calibration", taken["told"], taken["seconds"], peak)
    again, _ = watched(calibrate, folder)
    first = f"{taken['seconds']:.0f} s in the first"
    yield Figure.of("second run: calibration", [again["seconds"]], "s", first)


def study(*, quick: bool) -> Iterator[Figure]:
    """Run the study with the cached calibration."""
    taken, peak = watched(run, _folder(quick=quick))
    states = taken["states"]
    for state in ("complete", "stopped", "failed"):
        what = f"{TRIALS} in all, one of them the teacher's"
        yield Figure.of(f"trials {state}", [states.count(state)], "", what)
    yield Figure.of("study: peak memory", [peak], "GB", "24 GiB = 25.8 GB")


def largest_student(*, quick: bool) -> Iterator[Figure]:
    """Build, heal, train and evaluate the largest student with the cached calibration."""
    taken, peak = watched(train, _folder(quick=quick))
    yield from compared("largest student", taken["told"], taken["seconds"], peak)


def _folder(*, quick: bool) -> Path:
    return FOLDER / ("large-quick" if quick else "large")


PARTS = {"calibration": calibration, "study": study, "largest": largest_student}

if __name__ == "__main__":
    run_parts("large", __doc__ or "", PARTS)
