from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives.data import Example, Texts
from protege.spaces import BadInput


def hugging_face(columns: dict[str, Any]) -> Any:
    return datasets.Dataset.from_dict(columns)


def test_of_a_repeated_text_the_first_label_is_kept() -> None:
    texts = Texts.of(["a", "b", "A", " ", "b", "c"], [1, 2, 3, 4, 5, 6])
    assert texts.texts == ("a", "b", "c")
    kept = [example for part in texts.split(9, 9, 9) for example in part]
    assert {example.text: example.label for example in kept} == {"a": 1, "b": 2, "c": 6}


@given(
    pairs=st.lists(st.tuples(st.sampled_from(["a", "b", "c", " ", ""]), st.integers()), min_size=1)
)
def test_every_text_keeps_the_label_it_first_had(pairs: list[tuple[str, int]]) -> None:
    first: dict[str, int] = {}
    for text, label in pairs:
        if text.strip():
            first.setdefault(text, label)
    if len(first) < 2:
        return
    texts = Texts.of(*zip(*pairs, strict=True))
    kept = [example for part in texts.split(9, 9, 9) for example in part]
    assert {example.text: example.label for example in kept} == first
    assert texts.texts == tuple(first)


def test_there_are_as_many_labels_as_texts() -> None:
    with pytest.raises(BadInput, match="2 texts with 1 labels; expected one each"):
        Texts.of(["a", "b"], [1])


@pytest.mark.parametrize("wrong", [7, None, {"text": "b"}, ["b", 1]])
def test_what_is_no_text_is_named_by_its_place(wrong: Any) -> None:
    with pytest.raises(BadInput, match=r"texts\[1\]: expected a text, or a list of words; found"):
        Texts.of(["a", wrong])


def test_words_may_come_in_any_list() -> None:
    words = [["Ada", "wrote"], ("she",), np.array(["so"])]
    labels: list[Any] = [np.array([1, 0]), [2], ("O",)]
    assert list(Texts.of(words, labels)) == [  # type: ignore[arg-type]
        Example(("Ada", "wrote"), (1, 0)),
        Example(("she",), (2,)),
        Example(("so",), ("O",)),
    ]


def test_labels_are_numbers_of_pythons_own() -> None:
    labels: list[Any] = [np.int64(3), True]
    found = [example.label for example in Texts.of(["a", "b"], labels)]
    assert found == [3, 1]
    assert {type(label) for label in found} == {int}


COLUMNS: dict[str, list[Any]] = {
    "said": ["one", "two", "three"],
    "stars": [0, 1, 1],
    "id": [7, 8, 9],
}


@pytest.mark.parametrize("streamed", [False, True], ids=["held", "streamed"])
def test_a_dataset_is_read_again_and_again(*, streamed: bool) -> None:
    dataset = hugging_face(COLUMNS)
    if streamed:
        dataset = dataset.to_iterable_dataset()
    texts = Texts.from_dataset(dataset, text="said", label="stars")
    expected = Texts.of(COLUMNS["said"], COLUMNS["stars"])
    assert list(texts) == list(texts) == list(expected)
    assert texts == expected


def test_a_stream_need_not_say_which_columns_it_has() -> None:

    def rows() -> Iterator[dict[str, Any]]:
        yield from ({"text": str(number), "label": number % 2} for number in range(20))

    dataset = datasets.IterableDataset.from_generator(rows)
    assert dataset.column_names is None
    texts = Texts.from_dataset(dataset)
    assert texts.labelled
    assert len(texts.texts) == 20
    with pytest.raises(BadInput, match="no column 'said'; there are: text, label"):
        Texts.from_dataset(dataset, text="said")


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_the_format_of_a_dataset_makes_no_difference(kind: str) -> None:
    columns: dict[str, list[Any]] = {"words": [["Ada", "wrote"], ["she"]], "label": [[1, 0], [0]]}
    texts = Texts.from_dataset(hugging_face(columns).with_format(kind), text="words")
    assert texts == Texts.of(columns["words"], columns["label"])


def test_a_list_of_mappings_is_a_dataset_too() -> None:
    texts = Texts.from_dataset([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    assert texts == Texts.of(["a", "b"], ["x", "y"])


def test_a_missing_column_is_told_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="dataset: no column 'text'; there are: said, stars, id"):
        Texts.from_dataset(hugging_face(COLUMNS))
    with pytest.raises(BadInput, match="no column 'mark'; there are: said, stars, id"):
        Texts.from_dataset(hugging_face(COLUMNS), text="said", label="mark")


def test_one_of_several_datasets_is_asked_for() -> None:
    several = datasets.DatasetDict(train=hugging_face(COLUMNS), test=hugging_face(COLUMNS))
    with pytest.raises(BadInput, match=r"several datasets, train, test; expected one of them"):
        Texts.from_dataset(several, text="said")


def test_a_bad_row_is_named_by_its_number() -> None:
    with pytest.raises(BadInput, match=r"dataset, row 1: expected a text, .*; found None"):
        Texts.from_dataset(hugging_face({"text": ["a", None]}))
    with pytest.raises(BadInput, match="dataset, row 1: expected values by column; found 'b'"):
        Texts.from_dataset([{"text": "a"}, "b"])


@pytest.mark.parametrize("wrong", [7, iter([{"text": "a"}, {"text": "b"}])])
def test_what_cannot_be_read_twice_is_refused(wrong: Any) -> None:
    with pytest.raises(BadInput, match="expected a dataset that can be read again and again"):
        Texts.from_dataset(wrong)


def test_an_empty_dataset_is_refused() -> None:
    with pytest.raises(BadInput, match="dataset: empty; expected one text per line, or per row"):
        Texts.from_dataset(hugging_face({"text": []}))


@pytest.mark.parametrize(
    ("content", "label", "where"),
    [
        ("b\udc80", 1, r"\[1\]: character 1 of"),
        (["b", "\ud800\ud800"], (1, 0), r"\[1\]: character 0 of"),
        ("b", "gut\udfff", r"\[1\]: character 3 of"),
        (["b", "c"], (1, "\ud83d"), r"\[1\]: character 0 of"),
    ],
)
def test_half_a_surrogate_pair_is_named_by_its_place(content: Any, label: Any, where: str) -> None:
    with pytest.raises(BadInput, match=f"texts{where}"):
        Texts.of(["a", content], [0, label])
    with pytest.raises(BadInput, match=r"dataset, row 1: .*cannot be encoded; replace or remove"):
        Texts.from_dataset([{"text": "a", "label": 0}, {"text": content, "label": label}])


def test_the_names_of_classes_are_the_datasets_own() -> None:
    names = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    made = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    assert Texts.from_dataset(made).classes == ("bad", "good")
    assert Texts.from_dataset(made.to_iterable_dataset()).classes == ("bad", "good")
    tags = datasets.Features(
        {"words": datasets.List(datasets.Value("string")), "tags": datasets.List(names)}
    )
    made = datasets.Dataset.from_dict({"words": [["a"], ["b"]], "tags": [[0], [1]]}, features=tags)
    assert Texts.from_dataset(made, text="words", label="tags").classes == ("bad", "good")
    assert Texts.from_dataset(hugging_face(COLUMNS), text="said", label="stars").classes == ()


SQUAD = {
    "question": ["who", "what"],
    "context": ["Ada wrote", "a note"],
    "answers": [{"text": ["Ada", "Ada"], "answer_start": [0, 0]}, {"text": [], "answer_start": []}],
}


def test_pairs_come_from_two_columns_with_the_first_of_their_answers() -> None:
    rows = [dict(zip(SQUAD, values, strict=True)) for values in zip(*SQUAD.values(), strict=True)]
    for dataset in (hugging_face(SQUAD), rows):
        data = Texts.from_dataset(dataset, "question", "answers", pair="context")
        assert list(data) == [Example(("who", "Ada wrote"), "Ada"), Example(("what", "a note"), "")]
    with pytest.raises(
        BadInput, match="no column 'passage'; there are: question, context, answers"
    ):
        Texts.from_dataset(rows, "question", pair="passage")


def test_scores_and_several_classes_are_labels() -> None:
    labels: list[Any] = [0.5, np.float32(0.25), ["joy", "fear"], []]
    found = [example.label for example in Texts.of(["a", "b", "c", "d"], labels)]
    assert found == [0.5, 0.25, ("joy", "fear"), ()]
