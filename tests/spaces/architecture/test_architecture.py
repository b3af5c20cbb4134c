from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.spaces import Activation, Architecture, BadInput, Ends, First, Infeasible, Uniform
from protege.spaces.architecture.sizes import nearest
from tests.tiny import CASES

BERT = Architecture("bert", 12, 768, 12, 12, 64, 3072, 30522)
SMOL = Architecture("llama", 30, 576, 9, 3, 64, 1536, 49152)
RATIO = st.floats(0.01, 1.0)


def test_ratio_one_is_the_teacher_whatever_the_policies() -> None:
    for own in (BERT, SMOL):
        assert own.scaled(layer_policy=Ends(), width_policy=Activation()) == own


def test_a_policy_that_has_nothing_to_choose_makes_no_other_student() -> None:
    shallow = SMOL.scaled(layers=0.5, width_policy=Activation(), layer_policy=Ends())
    assert shallow == SMOL.scaled(layers=0.5, layer_policy=Ends())
    assert shallow != SMOL.scaled(layers=0.5, layer_policy=Uniform())
    narrow = SMOL.scaled(intermediate=0.5, layer_policy=Ends(), width_policy=Activation())
    assert narrow == SMOL.scaled(intermediate=0.5, width_policy=Activation())
    assert narrow != SMOL.scaled(intermediate=0.5, width_policy=First())


def test_bert_heads_follow_the_hidden_size() -> None:
    student = BERT.scaled(hidden=0.5, layers=1 / 3, intermediate=0.25)
    assert student.sizes() == {
        "num_hidden_layers": 4,
        "hidden_size": 384,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "head_dim": 64,
        "intermediate_size": 768,
        "vocab_size": 30522,
    }
    with pytest.raises(Infeasible, match="heads follow the hidden size; set hidden, not heads"):
        BERT.scaled(heads=0.5)


def test_llama_heads_go_by_groups() -> None:
    assert _heads(SMOL.scaled(heads=2 / 3)) == (6, 3)
    assert _heads(SMOL.scaled(kv_heads=1 / 3)) == (3, 1)
    assert _heads(SMOL.scaled(heads=1 / 9)) == (3, 3)
    multi_head = Architecture("llama", 4, 64, 8, 8, 8, 128, 96)
    assert _heads(multi_head.scaled(heads=0.5)) == (4, 4)


def _heads(one: Architecture) -> tuple[int, int]:
    return one.num_attention_heads, one.num_key_value_heads


def test_a_hidden_size_that_the_configuration_class_refuses_is_not_made() -> None:
    # LlamaConfig wants the hidden size to be a multiple of the heads, head_dim or not
    student = SMOL.scaled(hidden=0.75)
    assert student.hidden_size == 432
    assert SMOL.scaled(hidden=0.74, multiple_of=64).hidden_size % 9 == 0


def test_no_hidden_size_at_all_is_infeasible() -> None:
    # its own 40 channels are no multiple of 7 heads either
    odd = Architecture("llama", 4, 40, 7, 7, 10, 128, 96)
    with pytest.raises(Infeasible, match=r"7 heads in 7 groups: no hidden size near 28 in .* 16"):
        odd.scaled(hidden=0.7, multiple_of=16)


@pytest.mark.parametrize("knob", ["layers", "hidden", "heads", "kv_heads", "intermediate"])
@pytest.mark.parametrize("ratio", [0, -0.5, 1.01, float("nan"), "half"])
def test_a_ratio_outside_zero_to_one_is_refused_by_name(knob: str, ratio: Any) -> None:
    given: Any = {knob: ratio}
    expected = "number" if isinstance(ratio, str) else "ratio above 0 and at most"
    with pytest.raises(BadInput, match=f"^{knob}={ratio!r}: expected a {expected}"):
        SMOL.scaled(**given)


@given(layers=RATIO, hidden=RATIO, intermediate=RATIO, multiple_of=st.sampled_from([1, 8, 16, 64]))
@pytest.mark.parametrize("own", [BERT, SMOL], ids=["bert", "llama"])
def test_widths_are_multiples_near_the_ratio_or_the_whole(
    own: Architecture, layers: float, hidden: float, intermediate: float, multiple_of: int
) -> None:
    student = own.scaled(
        layers=layers, hidden=hidden, intermediate=intermediate, multiple_of=multiple_of
    )
    assert abs(student.num_hidden_layers - layers * own.num_hidden_layers) <= 1
    wanted = intermediate * own.intermediate_size
    assert student.intermediate_size == own.intermediate_size or (
        student.intermediate_size % multiple_of == 0
        and abs(student.intermediate_size - wanted) <= max(multiple_of, 1)
    )
    assert student.hidden_size == own.hidden_size or student.hidden_size % multiple_of == 0
    assert student.head_dim == own.head_dim
    assert student.vocab_size == own.vocab_size


@given(full=st.integers(1, 5000), of=st.integers(1, 100), kept=st.integers(1, 100))
def test_a_decimal_ratio_means_the_fraction_its_author_meant(full: int, of: int, kept: int) -> None:
    exact = full * kept / of
    assert abs(nearest(full, kept / of) - exact) <= 0.5 + 1e-9
    assert nearest(30, 0.1) == 3
    assert nearest(5, 0.5) == 3  # halves up


def test_the_key_tells_all_sizes_and_policies_apart() -> None:
    students = {
        SMOL.scaled(layers=0.5),
        SMOL.scaled(layers=0.5, layer_policy=Ends()),
        SMOL.scaled(hidden=0.5),
        SMOL.scaled(heads=1 / 3),
        SMOL.scaled(kv_heads=1 / 3),
        SMOL.scaled(intermediate=0.5),
        SMOL.scaled(intermediate=0.5, width_policy=Activation()),
        SMOL,
    }
    assert len({student.key() for student in students}) == len(students) == 8


def test_fields_name_policies_and_sizes() -> None:
    fields = SMOL.scaled(layers=0.5, layer_policy=Ends()).fields()
    assert fields["model_type"] == "llama"
    assert (fields["layer_policy"], fields["width_policy"]) == ("ends", "first")
    assert fields["num_hidden_layers"] == 15


def test_an_architecture_reads_as_one_line() -> None:
    half = SMOL.scaled(layers=0.5, layer_policy=Ends(), healing="none")
    assert str(half) == "15x576 heads 9/3 ffn 1536 vocab 49152 (ends, first)"
    assert (
        str(CASES["bert"].teacher().architecture) == "4x24 heads 6 ffn 40 vocab 96 (uniform, first)"
    )
