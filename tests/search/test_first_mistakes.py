"""What a newcomer writes first: it works, or one error says what to write."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Distillation, Latency, LocalCPU, Memory, Retention, Texts, Workload
from protege.search import Front, Race, Search
from protege.spaces import BadInput, Teacher
from tests.search.toys import distillation, toy
from tests.tiny import texts

DATA = Texts.of(texts())


def anything(value: object) -> Any:
    """A value whose type no checker knows."""
    return value


def test_a_list_of_texts_is_texts() -> None:
    assert anything(Texts)(texts()) == DATA
    assert anything(Texts)(tuple(texts())) == DATA


def test_a_teacher_may_be_a_folder_and_an_objective_alone(
    teacher_folder: Path, folder: Path
) -> None:
    search = toy(folder, teacher=str(teacher_folder), objectives=[Memory()])
    alone = Search(
        name="toy",
        teacher=anything(teacher_folder),
        space=search.space,
        objectives=anything(Retention()),
        distillation=distillation(),
        baselines=anything("nowhere"),
        folder=folder,
    )
    assert isinstance(search.teacher, Teacher)
    assert alone.teacher.fingerprint == search.teacher.fingerprint
    assert [one.name for one in alone.objectives] == ["retention"]
    assert alone.baselines == ["nowhere"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Texts(anything("corpus.txt")), r"expected Texts.from_file\('corpus.txt'\) for a"),
        (lambda: Texts(anything(3)), r"Texts\(3\): expected a list of texts"),
        (lambda: Texts.of("corpus.txt"), r"'corpus.txt': expected a list of texts; from_file\("),
        (lambda: Texts.from_file(anything(3)), "path=3: expected a path, or text in quotes"),
        (lambda: anything(Texts.from_file)("a.csv", column="x"), r"from_file\(column=...\): "),
        (lambda: Distillation(anything(["a", "b"])), "data of type list: expected Texts, Images"),
        (lambda: Distillation(anything("c.txt")), r"expected Texts.from_file\('c.txt'\)"),
        (anything(Distillation), "missing a required argument: 'data'"),
        (lambda: anything(Distillation)(DATA, step=3), r"did you mean steps=\?"),
        (lambda: Distillation(DATA, steps=anything("9")), "steps='9': expected a whole number"),
        (lambda: Distillation(DATA, learning_rate=anything("3e-4")), "expected a number"),
        (lambda: Distillation(DATA, rungs=anything(0.5)), "rungs=0.5: expected shares of the"),
        (lambda: Distillation(DATA, rungs=anything(("a",))), "expected shares of the steps"),
        (lambda: Distillation(DATA, losses=anything(Memory())), "expected several losses, such"),
        (lambda: Retention(anything(0.9)), "data=0.9: expected examples, such as Texts.of"),
        (lambda: Memory(limit=anything("20MB")), "limit='20MB': expected a number or None"),
        (anything(Latency), "Latency: missing a required argument: 'target'"),
        (lambda: Latency(anything("cpu")), r"target='cpu': expected a target, such as LocalCPU"),
        (lambda: Latency(anything(LocalCPU)), "target=LocalCPU: expected a target, such as"),
        (lambda: Latency(LocalCPU(), anything(128)), "workload=128: expected a Workload, such"),
        (lambda: LocalCPU(threads=anything("a")), "threads='a': expected a whole number"),
        (lambda: anything(LocalCPU)(thread=1), r"did you mean threads=\?"),
        (lambda: Workload(anything("1")), "batch_size='1': expected a whole number"),
        (lambda: Race(eta=anything("3")), "eta='3': expected a number"),
    ],
)
def test_the_first_mistakes_with_data_and_objectives_say_what_to_write(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        make()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": None}, "teacher=None: expected a Teacher, a folder or a hub id"),
        ({"teacher": "/nowhere"}, "/nowhere: no such folder"),
        ({"space": None}, "space=None: expected a SearchSpace, such as SearchSpace"),
        ({"space": {"layers": 0.5}}, "expected a SearchSpace"),
        ({"distillation": DATA}, r"expected Distillation\(texts\) or None"),
        ({"race": "fast"}, r"race='fast': expected Race\(\) or None"),
        ({"seed": "a"}, "seed='a': expected a whole number"),
        ({"name": 3}, "name=3: expected text in quotes"),
        ({"folder": 3}, "folder=3: expected a path, or text in quotes"),
        ({"earlier": "runs/x"}, "earlier='runs/x': expected a list of runs"),
        ({"teachr": None}, r"Search\(teachr=...\): did you mean teacher=\?"),
    ],
)
def test_the_first_mistakes_with_a_search_say_what_to_write(
    teacher: Teacher, folder: Path, changes: dict[str, Any], message: str
) -> None:
    given = {"teacher": teacher, "objectives": [Memory(), Retention()], **changes}
    with pytest.raises(BadInput, match=message):
        toy(folder, **given)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("objective", ["retention", Retention, None, 3])
def test_what_is_no_objective_is_refused(teacher: Teacher, folder: Path, objective: object) -> None:
    for given in (objective, [objective]):
        with pytest.raises(BadInput, match=r"is no objective; give objects, such as \[Latency"):
            Search("toy", teacher, toy(folder).space, anything(given))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": "a"}, "trials='a': expected a whole number"),
        ({"trials": 2.5}, "trials=2.5: expected a whole number above 0"),
        ({"trials": None}, "trials=None: expected a whole number"),
        ({"trails": 3}, r"Search.run\(trails=...\): did you mean trials=\?"),
        ({"minutes": "5"}, "minutes='5': expected a number"),
        ({"engine": 2}, r"engine=2: expected an engine, such as LocalEngine\(jobs=2\)"),
    ],
)
def test_the_first_mistakes_with_a_run_say_what_to_write(
    teacher: Teacher, folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        toy(folder, teacher=teacher).run(**options)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda front: front.pick(memory_mb="15"), "memory_mb='15': expected a number, such as "),
        (lambda front: front.pick(memory_mb=True), "memory_mb=True: expected a number"),
        (lambda front: front.pick(15), "Front.pick: too many positional arguments"),
        (lambda front: front.export("three"), "no trial three in study 'toy'"),
        (lambda front: front.report(fodler="x"), r"did you mean folder=\?"),
        (lambda _: Front.read(anything(None)), "run=None: expected a path, or text in quotes"),
    ],
)
def test_the_first_mistakes_with_a_front_say_what_to_write(
    front: Front, use: Callable[[Any], object], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        use(front)
