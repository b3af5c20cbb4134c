"""How a residual stream runs is read off one pass, and is the same on any other."""

import pytest
import torch
from torch.testing import assert_close

from protege.spaces import Teacher
from protege.spaces.models.tensors import TensorSpec
from protege.spaces.residual.graph import ResidualEdge, ResidualGraph
from protege.spaces.residual.states import ResidualStates, real_rows, run_through
from tests.spaces.healed import Flow, passed, plenty, same
from tests.tiny import ZOO, inputs_of

NORMED_AFTERWARDS = {
    *("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet", "electra"),
    *("deberta-v2", "bart", "nomic_bert", "jina_embeddings_v3"),
}
"""Post-LN: what is written is added to what a norm gave."""

NORMED_ALONE = {"gemma2", "gemma3_text", "olmo2", "olmo3"}
"""What is written is normed before it is added to anything."""

IN_NO_SUM = {"gpt_neox", "dinov2"}
"""Two projections are added at once, or each channel is scaled first."""


def kind_of(join: ResidualEdge | None) -> str:
    """How what a projection writes comes to the next norm."""
    if join is None:
        return "in no sum"
    if not join.before:
        return "alone"
    return "normed" if join.normed else "given"


def expected(teacher: Teacher, count: int) -> list[str]:
    """The kind of every projection into the stream, in the order they run."""
    name, config = teacher.config.model_type, teacher.config
    if name in IN_NO_SUM:
        return ["in no sum"] * count
    kind = "alone" if name in NORMED_ALONE else "normed" if name in NORMED_AFTERWARDS else "given"
    found = [kind] * count
    if name.startswith("modernbert"):  # its first layer has no norm before the attention
        found[0] = "normed"
    if name == "siglip_vision_model":  # nothing comes after the pooler
        found[-1] = "in no sum"
    if name == "opt" and not config.do_layer_norm_before:  # its positions are normed by nothing
        return ["in no sum", *["normed"] * (count - 1)]
    if name == "electra" and config.embedding_size != config.hidden_size:
        found[0] = "in no sum"  # a projection stands in between
    return found


def reads_no_norm(teacher: Teacher, slot: TensorSpec) -> bool:
    """Whether a projection in a layer reads what no norm gave."""
    name, config = teacher.config.model_type, teacher.config
    attends = "ffn" not in slot.axes and ".pos_" not in slot.name  # those read distances
    first = attends and slot.layer == 0
    if name in {"olmo2", "olmo3"}:
        return True
    if name == "deberta-v2":  # states of padding are set to zero behind the first norms
        has_convolution = bool(getattr(config, "conv_kernel_size", 0))
        return first or (attends and slot.layer == 1 and has_convolution)
    if name == "opt":
        return first and not config.do_layer_norm_before
    return name == "electra" and first and config.embedding_size != config.hidden_size


def test_every_projection_into_the_stream_joins_it_as_its_family_does(teacher: Teacher) -> None:
    """Before its norms, after them, alone, or in no sum that a norm sees."""
    wiring = ResidualGraph.of(teacher, inputs_of(teacher))
    assert [kind_of(wiring.joins.get(name)) for name in wiring.writers] == expected(
        teacher, len(wiring.writers)
    )
    found = teacher.layout.reading(teacher.model)
    own = {slot.name.removesuffix(".weight") for _, slot, _ in found}
    # torch's own attention reads that projection's weight, but never runs it
    assert own - {"head.attention.out_proj"} == set(wiring.writers)


def test_what_reads_the_stream_finds_the_norm_that_it_reads(teacher: Teacher) -> None:
    """Every reader in a layer has one norm, but where its family says otherwise."""
    wiring = ResidualGraph.of(teacher, inputs_of(teacher))
    norm_of = {reader: norm for norm, readers in wiring.sources.items() for reader in readers}
    for _, slot in teacher.layout.readers(teacher.model):
        name = slot.name.removesuffix(".weight")
        if slot.layer is not None and slot.number_at != (0, 0):
            assert (name in wiring.loose) == reads_no_norm(teacher, slot), name
            assert name in wiring.loose or norm_of[name] in wiring.norms
    assert len(set(wiring.loose)) == len(wiring.loose)


def test_the_wiring_is_the_same_whatever_is_read(teacher: Teacher) -> None:
    """Another batch, and padding in the sequence that is looked at, make no difference."""
    side = "left" if teacher.family.stacks.keys() == {"decoder"} else "right"
    other = ResidualGraph.of(teacher, plenty(teacher, rows=2, tokens=12, side=side))
    assert other == ResidualGraph.of(teacher, inputs_of(teacher))


def test_joins_hold_on_another_batch(flow: Flow) -> None:
    """What a norm is given is what was written, and the stream as it was, and nothing else."""
    batch = plenty(flow.teacher, rows=3, seed=8)
    streams = ResidualStates.of(flow.teacher, batch)
    seen = passed(
        flow.teacher.model, streams, [*flow.streams.wiring.norms, *flow.streams.wiring.writers]
    )
    for name, join in flow.streams.wiring.joins.items():
        sum_of = seen[name][1]
        if join.before:
            given, gave = seen[join.before]
            sum_of = sum_of + (gave if join.normed else given)
        assert_close(seen[join.after][0], sum_of, rtol=1e-4, atol=1e-4)


def test_the_streams_are_what_the_norms_were_given(flow: Flow) -> None:
    """Of real tokens alone, and stored tensors give them back."""
    streams = flow.streams
    seen = passed(flow.teacher.model, streams, list(streams.wiring.norms))
    assert all(torch.equal(streams.states[name], given) for name, (given, _) in seen.items())
    again = ResidualStates.of_tensors(streams.wiring, streams.tensors())
    assert same(dict(again.states), dict(streams.states))
    assert same(dict(again.batch), dict(streams.batch))


def test_the_last_projection_of_a_layer_is_its_feed_forward_s(flow: Flow) -> None:
    """Or its attention's, where experts come after that."""
    layout, wiring = flow.teacher.layout, flow.streams.wiring
    read = {
        slot.name.removesuffix(".weight"): unit
        for _, slot, unit in layout.reading(flow.teacher.model)
    }
    for (stack, layer), units in layout.sites.items():
        last = wiring.last_writers(layout)[stack, layer]
        assert read[last] == ("ffn" if "ffn" in units else "heads")


def test_a_decoder_without_tokens_of_its_own_has_the_mask_of_its_encoder() -> None:
    """It reads the same text one place further; one with its own has its own mask."""
    values = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    alone = {"attention_mask": mask}
    paired = {
        "attention_mask": mask,
        "decoder_input_ids": mask,
        "decoder_attention_mask": mask.flip(1),
    }
    assert_close(real_rows(values, alone, in_decoder=True), values[mask == 1])
    assert_close(real_rows(values, alone, in_decoder=False), values[mask == 1])
    assert_close(real_rows(values, paired, in_decoder=True), values[mask.flip(1) == 1])
    assert_close(real_rows(values.reshape(6, 2), alone, in_decoder=True), values[mask == 1])
    assert_close(real_rows(values[:, :2], alone, in_decoder=False), values[:, :2].reshape(-1, 2))


@pytest.mark.parametrize(
    "name", ["bert-masked", "llama-causal-grouped", "vit-image-classification"]
)
def test_a_head_is_run_only_where_its_own_states_are_needed(name: str) -> None:
    """What writes a vocabulary's logits would take longer than all the rest."""
    teacher = ZOO[name].teacher()
    streams = ResidualStates.of(teacher, plenty(teacher, rows=2))
    ran: list[str] = []
    heads = [n for n, m in teacher.model.named_children() if m is not teacher.model.base_model]
    for n in heads:
        teacher.model.get_submodule(n).register_forward_hook(lambda *_, n=n: ran.append(n))
    run_through(teacher.model, streams.wiring, streams.batch)
    assert ran == (heads if name == "bert-masked" else [])
