import re

from protege.spaces import FAMILIES, Task
from studies.families import BEGIN, END, PAGE, heads_of, table
from tests.tiny import ZOO


def test_the_page_has_the_table_that_the_families_make() -> None:
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    written, _, _ = rest.partition(END)
    assert written.strip() == table(), "run python -m studies.families"


def test_the_table_names_every_model_type_once() -> None:
    types = re.findall(r"`([^`]+)`", table().partition("\n")[2])
    assert sorted(types) == sorted(name for family in FAMILIES for name in family.model_types)
    assert set(types) == {case.model_type for case in ZOO.values()}


def test_the_heads_are_those_that_the_test_matrix_proves() -> None:
    for family in FAMILIES:
        proven = {case.task for case in ZOO.values() if case.model_type in family.model_types}
        base = {Task.FEATURES, Task.SENTENCES, Task.IMAGE_FEATURES}
        assert set(heads_of(family)) == proven - base, family.name


def test_a_row_says_what_can_be_cut() -> None:
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in table().splitlines()}
    assert (
        "| yes | yes | with width | - | yes | - | - | yes | masked LM, sequence, token, QA |"
        in rows["BERT"]
    )
    assert "| yes, each stack | yes | yes | - | yes | - | - | yes | seq2seq LM" in rows["T5"]
    assert "| yes | yes | yes | yes | - | yes | yes | yes | causal LM" in rows["Mixtral"]
    assert "| yes | yes | yes | - | in multiples | - | - | - | image |" in rows["DINOv2"]
