"""What would be judged by the wrong score is refused by name, before anything is measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Distillation, Example, Parameters, Retention, Texts
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.search import Search, head_table
from protege.spaces import (
    BadInput,
    Cache,
    Choice,
    Ends,
    First,
    SearchSpace,
    Task,
    Teacher,
    Unsupported,
)
from tests.objectives.candidates import itself
from tests.objectives.distillation.tasks.kinds import told_apart
from tests.tiny import ZOO, batch, save, texts

REGRESSION = {"problem_type": "regression"}
SEVERAL = {"problem_type": "multi_label_classification"}


def named(*names: str) -> dict[str, Any]:
    return {"num_labels": len(names), "id2label": dict(enumerate(names))}


UNJUDGED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a score of each word": ("bert-tokens", {"num_labels": 1}, "answers with scores"),
    "several classes of each word": (
        "llama-tokens",
        SEVERAL,
        "answers with several classes for each input",
    ),
}

OF_PAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "entailment": ("bert-texts", named("CONTRADICTION", "neutral", "entailment")),
    "two classes of entailment": ("bart-text-classification", named("entailment", "no")),
    "paraphrases": ("electra-text-classification", named("not equivalent", "equivalent")),
    "cross-encoder before 6": (
        "bert-texts",
        {"sentence_transformers": {"version": "4.1.0", "activation_fn": "torch.nn.Identity"}},
    ),
}


@pytest.mark.parametrize("kind", UNJUDGED)
def test_a_study_of_it_is_refused_when_it_is_declared(kind: str) -> None:
    name, fields, found = UNJUDGED[kind]
    case = ZOO[name]
    teacher = replace(case, fields={**case.fields, **fields}).teacher()
    with pytest.raises(
        Unsupported, match=rf"tiny: .*{found}; retention of a model for {case.task}"
    ):
        Search(
            name="unjudged",
            teacher=teacher,
            space=SearchSpace(layers=Choice(0.5, 1.0)),
            objectives=[Parameters(), Retention()],
            distillation=Distillation(Texts.of(texts())),
        )


@pytest.mark.parametrize("kind", OF_PAIRS)
def test_single_texts_for_a_teacher_that_compares_two_are_refused(kind: str, cache: Cache) -> None:
    name, fields = OF_PAIRS[kind]
    case = ZOO[name]
    teacher = replace(case, fields={**case.fields, **fields}).teacher()
    single = Distillation(Texts.of(texts(20)), steps=1, batch_size=4, max_tokens=16)
    with pytest.raises(
        BadInput, match=r"no pair; this teacher for text-classification reads pairs"
    ):
        itself(teacher, cache, single).prepared.data.check()
    pairs = Texts.of((one, other) for one, other in zip(texts(20), texts(20)[::-1], strict=True))
    itself(teacher, cache, replace(single, data=pairs)).prepared.data.check()


def test_a_study_without_quality_is_not() -> None:
    case = ZOO["bert-tokens"]
    teacher = replace(case, fields={"num_labels": 1}).teacher()
    space = SearchSpace(
        layers=Choice(0.5, 1.0), layer_policy=Ends(), width_policy=First(), healing="none"
    )
    search = Search("sizes", teacher, space, [Parameters()])
    assert search.distillation is None


def test_heads_of_a_model_that_is_not_judged_are_refused_by_name() -> None:
    teacher = replace(ZOO["bert-tokens"], fields=SEVERAL).teacher()
    with pytest.raises(
        Unsupported, match=r"needs more than texts; .*answers with several classes for each input"
    ):
        head_table(teacher, texts())


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_cross_encoder_of_version_6_is_a_classifier_of_pairs(
    outputs: int, tmp_path: Path
) -> None:
    from sentence_transformers import CrossEncoder

    case = replace(ZOO["bert-texts"], fields={"num_labels": outputs})
    model = CrossEncoder(str(save(case.teacher(), tmp_path / "a")), device="cpu")
    model.save_pretrained(str(tmp_path / "b"))
    teacher = Teacher.load(tmp_path / "b")
    assert (teacher.task, teacher.pooling, teacher.reads_pairs) == (Task.TEXTS, None, True)
    with pytest.raises(BadInput, match="no pair; this teacher for text-classification reads pairs"):
        distillation_task(teacher).inputs(teacher, [Example("w1 w2")], 8)
    teacher = told_apart(teacher)
    inputs = distillation_task(teacher).inputs(teacher, [Example(("w1 w2", "w3"))], 8)
    assert inputs.batch([0]).inputs["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1]]


def test_modules_without_pooling_are_refused(tmp_path: Path) -> None:
    folder = save(ZOO["bert-sentences"].teacher(), tmp_path)
    (folder / "modules.json").write_text('[{"path": "", "type": "x.Transformer"}]')
    with pytest.raises(Unsupported, match=r"its modules\.json names no Pooling"):
        Teacher.load(folder)


@pytest.mark.parametrize("name", ["bert-sentences", "bert-masked", "t5-text2text-generation"])
def test_pairs_of_texts_are_refused(name: str, cache: Cache) -> None:
    teacher = ZOO[name].teacher()
    pairs = Texts.of((one, other) for one, other in zip(texts(20), texts(20)[::-1], strict=True))
    brief = Distillation(pairs, steps=1, batch_size=4, max_tokens=16)
    with pytest.raises(
        BadInput, match=r"a list of 2 texts .words, or a pair.: .* reads single texts"
    ):
        itself(teacher, cache, brief).prepared.data.check()
    with pytest.raises(BadInput, match="reads single texts; give Texts of strings"):
        distillation_task(teacher).inputs(teacher, [Example(("a", "b"), (0, 1))], 8)


@pytest.mark.parametrize("criterion", ["ablation", "gradient"])
@pytest.mark.parametrize("fields", [{"num_labels": 1}, REGRESSION, SEVERAL])
def test_heads_of_a_model_of_scores_differ(criterion: Any, fields: dict[str, Any]) -> None:
    """The softmax of one score is 1 whatever it is: by it every head would be worth nothing."""
    teacher = replace(ZOO["bert-texts"], fields=fields).teacher()
    found = head_table(teacher, [batch()], criterion)["importance"]
    assert (found > 1e-6).all()
    assert found.nunique() == len(found)
