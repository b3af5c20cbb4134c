"""What a call is counted as, beside what the built model does."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from protege.objectives import Workload
from protege.objectives.latency.local.calls import call_of
from protege.objectives.latency.predictor.terms import Call
from protege.spaces import Architecture, Task
from tests.objectives.latency.laws import CALL, encoder
from tests.tiny import ZOO

PROMPT = Workload(batch_size=2, prompt_tokens=16)


def counted(call: Call, own: Architecture) -> dict[str, float]:
    names = ["one", "layers", "operations", "values", "read"]
    return dict(zip(names, call.terms(own).tolist(), strict=True))


def test_an_encoder_s_terms_are_the_four_of_its_sizes() -> None:
    layers, hidden, ffn, tokens = 3, 64, 96, 128
    products = layers * tokens * (8 * hidden**2 + 4 * hidden * ffn)
    assert counted(CALL, encoder(layers, hidden, ffn)) == {
        "one": 1,
        "layers": layers,
        "operations": products + 4 * layers * tokens**2 * hidden,
        "values": layers * tokens * (hidden + ffn),
        "read": 0,
    }


@pytest.mark.parametrize(
    "name",
    [
        "bert",
        "bert-masked",
        "mpnet-fill-mask",
        "modernbert-fill-mask",
        "llama-texts",
        "llama-causal-grouped",
        "gpt2-text-generation",
        "phi3-text-generation",
        "flan-t5-text2text-generation",
        "bart-text2text-generation",
    ],
)
def test_operations_are_those_that_the_model_does(name: str) -> None:
    teacher = ZOO[name].teacher()
    # the fused kernels of a processor are counted as nothing
    teacher.model.set_attn_implementation("eager")
    with torch.inference_mode(), FlopCounterMode(display=False) as done:
        call_of(teacher.model, PROMPT)()
    terms = counted(Call(PROMPT, teacher.task), teacher.architecture)
    # a pair's first token is a step, which reads what it multiplies by
    total = terms["operations"] + 2 * PROMPT.batch_size * terms["read"]
    assert total == pytest.approx(done.get_total_flops(), rel=0.03)


@pytest.mark.parametrize("name", ["llama-causal-grouped", "gpt2-text-generation"])
def test_a_step_reads_every_matrix_and_the_keys_and_values(name: str) -> None:
    teacher = ZOO[name].teacher()
    own = teacher.architecture
    work = Workload(batch_size=3, prompt_tokens=7, new_tokens=2)
    tables = {"embed_tokens", "wte", "wpe"}
    matrices = sum(
        parameter.numel()
        for place, parameter in teacher.model.named_parameters()
        if parameter.ndim == 2 and place.split(".")[-2] not in tables
    )
    if teacher.model.config.tie_word_embeddings:
        matrices += own.vocab_size * own.hidden_size
    cached = 2 * own.num_hidden_layers * own.num_key_value_heads * own.head_dim * 3 * (7 + 1)
    read = counted(Call(work, Task.GENERATION), own)["read"]
    assert read == 2 * (matrices + cached)


def test_only_the_experts_that_a_token_is_sent_to_count() -> None:
    own = ZOO["mixtral-text-generation"].teacher().architecture
    call = Call(Workload(prompt_tokens=8, new_tokens=2), Task.GENERATION)
    fewer = replace(own, num_experts=own.num_experts - 1)
    assert counted(call, fewer) == counted(call, own)
    twice = replace(own, num_experts_per_tok=2 * own.num_experts_per_tok)
    assert counted(call, twice)["operations"] > counted(call, own)["operations"]


def test_a_pair_s_decoder_runs_once_for_the_first_token_and_once_for_each_new_one() -> None:
    own = ZOO["bart-text2text-generation"].teacher().architecture
    call = Call(Workload(prompt_tokens=8, new_tokens=5), Task.TEXT_TO_TEXT)
    assert counted(call, own)["layers"] == own.num_hidden_layers + 6 * own.num_decoder_layers


def test_a_vocabulary_counts_where_there_is_a_head_over_it() -> None:
    def operations(task: Task, vocabulary: int) -> float:
        own = replace(encoder(2, 64, 96), vocab_size=vocabulary)
        return counted(Call(PROMPT, task), own)["operations"]

    more = {task: operations(task, 1100) - operations(task, 100) for task in Task}
    assert more[Task.FILL_MASK] == 2 * 2 * 16 * 64 * 1000
    assert more[Task.GENERATION] == 2 * 2 * 64 * 1000  # the last token of each sequence alone
    assert more[Task.FEATURES] == more[Task.TEXTS] == 0
