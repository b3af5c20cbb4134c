"""What counts as the same answer."""

import pytest
import torch
from torch import Tensor

from protege.search.handover.formats.agreement import Written, WrongAnswer, compared
from protege.search.handover.formats.gguf_tokenizer import kind_of, splitting
from protege.search.handover.formats.samples import batches, prompts, reference
from protege.spaces import Teacher
from protege.spaces.errors import Unsupported
from tests.tiny import ZOO


@pytest.fixture(scope="module")
def encoder() -> Teacher:
    return ZOO["bert-texts"].teacher()


@pytest.fixture(scope="module")
def decoder() -> Teacher:
    return ZOO["llama-causal-tied"].teacher()


def off_by(teacher: Teacher, error: float) -> Written:
    """An export whose every output is off by so much."""

    def forward(given: dict[str, Tensor]) -> Tensor:
        found: Tensor = teacher.model(**given)[0] + error
        return found

    return Written([], forward=forward)


def test_the_model_agrees_with_itself(encoder: Teacher) -> None:
    found = compared(encoder, off_by(encoder, 0), "float32")
    assert found == {"inputs": 6, "difference": 0.0, "cosine": 1.0, "same_class": 1.0}


def test_a_wrong_answer_in_float32_is_an_error(encoder: Teacher) -> None:
    with pytest.raises(WrongAnswer, match=r"differ by 0\.\d+ .*expected at most 0\.0001"):
        compared(encoder, off_by(encoder, 0.5), "float32")


def test_in_int8_the_difference_is_measured(encoder: Teacher) -> None:
    found = compared(encoder, off_by(encoder, 0.25), "int8")
    assert 0.05 < found["difference"] <= 0.25


def test_an_answer_that_is_not_finite_is_an_error_in_any_precision(encoder: Teacher) -> None:
    with pytest.raises(WrongAnswer, match="is not finite"):
        compared(encoder, off_by(encoder, float("nan")), "int8")


def test_other_tokens_are_an_error_in_float32(decoder: Teacher) -> None:
    wrong = Written([], generate=lambda _prompt, count: [9] * count)
    with pytest.raises(WrongAnswer, match="writes other tokens than the PyTorch model"):
        compared(decoder, wrong, "float32")
    assert compared(decoder, wrong, "int4")["equal"] < 1


def test_the_reference_is_what_transformers_generates(decoder: Teacher) -> None:
    prompt = prompts(decoder)[0]
    ours = reference(decoder.model, prompt)
    with torch.no_grad():
        written = decoder.model.generate(  # type: ignore[operator]
            torch.tensor([prompt]), max_new_tokens=len(ours.answer), do_sample=False
        )
    assert written[0, len(prompt) :].tolist() == [*ours.answer]


def test_samples_differ_in_length_and_hold_no_unknown_token(encoder: Teacher) -> None:
    first, second = batches(encoder)
    assert len(first["input_ids"]) != len(second["input_ids"])
    assert not (first["input_ids"] == encoder.processor.unk_token_id).any()


def test_byte_level_tokenizers_get_llama_cpps_name() -> None:
    level = {"type": "ByteLevel"}
    digits = {"type": "Digits", "individual_digits": True}
    llama = {"type": "Split", "pattern": {"Regex": r"\p{L}+|\p{N}{1,3}| ?"}}
    assert splitting(level) == "gpt-2"
    assert splitting({"pretokenizers": [digits, level]}) == "smollm"
    assert splitting({"pretokenizers": [llama, level]}) == "llama-bpe"
    with pytest.raises(Unsupported, match="splits texts by a pattern that is unknown here"):
        splitting({"type": "Split", "pattern": {"Regex": "x"}})


def test_only_kinds_that_llama_cpp_reads_have_a_name() -> None:
    assert kind_of({"model": {"type": "BPE", "byte_fallback": True}}) == "llama"
    with pytest.raises(Unsupported, match="of the kind Unigram"):
        kind_of({"model": {"type": "Unigram"}})
