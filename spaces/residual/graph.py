"""Find the readers, writers and norms of a model's residual stream from one forward pass."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from protege.spaces.models.batches import Batch, given
from protege.spaces.models.layout import LaidOutModel, Layout


@dataclass(frozen=True)
class ResidualEdge:
    """Where a projection's output is added to the residual stream.

    Attributes:
        after: The next norm, whose input contains the output.
        before: The last norm that read the stream before the addition; empty if nothing is added,
            as in Gemma, which norms the output first.
        normed: Whether that stream is the output of ``before`` (post-LN) or its input (pre-LN).
    """

    after: str
    before: str = ""
    normed: bool = False


@dataclass(frozen=True)
class ResidualGraph:
    """The projections that read and write the residual stream, and the norms between them.

    Attributes:
        norms: The norms of the stream, in forward order.
        sources: For each norm, the projections that read its output or rows of it.
        joins: For each projection into the stream, its addition. Projections of parallel or scaled
            blocks, whose addition no norm sees separately, are left out.
        writers: All projections into the stream, in forward order.
        loose: Projections that read vectors of the stream's width but no norm's output.
        in_decoder: The norms and projections of a decoder.
        centred: Whether the norms subtract the mean (LayerNorm).
    """

    norms: tuple[str, ...]
    sources: Mapping[str, tuple[str, ...]]
    joins: Mapping[str, ResidualEdge]
    writers: tuple[str, ...]
    loose: tuple[str, ...]
    in_decoder: frozenset[str]
    centred: bool = False

    @classmethod
    def of(cls, teacher: LaidOutModel, batch: Batch) -> "ResidualGraph":
        """Trace one sequence of a batch through a teacher."""
        layout = teacher.layout
        one = {name: values[:1] for name, values in given(batch).items()}
        # without padding, because DeBERTa zeroes padding after the first norm
        one |= {name: torch.ones_like(one[name]) for name in one if name.endswith("_mask")}
        events = _events(teacher, one)
        norms = [e for e in events if e.kind == "norm"]
        sources, loose = _sources(events)
        joins = {e.name: join for i, e in enumerate(events) if (join := _join(events, i))}
        return cls(
            norms=tuple(dict.fromkeys(e.name for e in norms)),
            sources=sources,
            joins=joins,
            writers=tuple(dict.fromkeys(e.name for e in events if e.kind == "writer")),
            loose=tuple(dict.fromkeys(loose)),
            in_decoder=frozenset(e.name for e in events if e.in_decoder),
            centred=any(isinstance(norm, nn.LayerNorm) for norm, _ in layout.norms(teacher.model)),
        )

    def record(self) -> dict[str, Any]:
        """Return the graph as JSON values."""
        return {**asdict(self), "in_decoder": sorted(self.in_decoder)}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "ResidualGraph":
        """Restore the graph from `record`."""
        return cls(
            norms=tuple(record["norms"]),
            sources={norm: tuple(read) for norm, read in record["sources"].items()},
            joins={name: ResidualEdge(**join) for name, join in record["joins"].items()},
            writers=tuple(record["writers"]),
            loose=tuple(record["loose"]),
            in_decoder=frozenset(record["in_decoder"]),
            centred=record["centred"],
        )

    def last_writers(self, layout: Layout) -> dict[tuple[str, int | None], str]:
        """Return each layer's last projection into the stream, by stack and number."""
        places = {slot.name.rpartition(".")[0]: slot for slot in layout.slots}
        return {(places[name].stack, places[name].layer): name for name in self.writers}


@dataclass(frozen=True)
class _Event:
    """A call of a module, with its input and output."""

    kind: str
    name: str
    given: Tensor
    gave: Tensor
    in_decoder: bool


def _events(teacher: LaidOutModel, batch: Batch) -> list[_Event]:
    """Record the calls of all norms and projections of the stream, in forward order."""
    layout, model = teacher.layout, teacher.model
    names = {module: name for name, module in model.named_modules()}
    found: list[_Event] = []

    def recorder(kind: str, name: str, *, in_decoder: bool) -> Callable[..., None]:
        def hook(_module: nn.Module, given: tuple[Any, ...], gave: Any) -> None:
            if given and isinstance(gave, Tensor):
                found.append(_Event(kind, name, given[0], gave, in_decoder))

        return hook

    readers = (("reader", module, slot.stack) for module, slot in layout.readers(model))
    writers = (("writer", module, slot.stack) for module, slot, _ in layout.reading(model))
    with ExitStack() as handles, torch.inference_mode():
        for norm, in_decoder in layout.norms(model):
            hook = recorder("norm", names[norm], in_decoder=in_decoder)
            handles.enter_context(norm.register_forward_hook(hook))
        for kind, module, stack in (*readers, *writers):
            hook = recorder(kind, names[module], in_decoder=stack == "decoder")
            handles.enter_context(module.register_forward_hook(hook))
        run: Any = model
        run(**batch)
    return found


def _sources(events: list[_Event]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return the readers of each norm's output, and the projections that read no norm's output."""
    sources: dict[str, list[str]] = {e.name: [] for e in events if e.kind == "norm"}
    loose: list[str] = []
    gave: dict[int, str] = {}
    for event in events:
        if event.kind == "norm":
            gave[_storage(event.gave)] = event.name
        elif event.kind == "reader":
            # events keep all tensors alive, so memory addresses are unique
            norm = gave.get(_storage(event.given))
            (sources[norm] if norm else loose).append(event.name)
    return {norm: tuple(dict.fromkeys(readers)) for norm, readers in sources.items()}, loose


def _storage(tensor: Tensor) -> int:
    """Return the address of the storage, which views share (DeiT's heads read single tokens)."""
    return tensor.untyped_storage().data_ptr()


def _join(events: list[_Event], place: int) -> ResidualEdge | None:
    """Find the addition of the projection at an index of the events; None if not visible."""
    event = events[place]
    after = next((e for e in events[place + 1 :] if e.kind == "norm"), None)
    if event.kind != "writer" or after is None or after.given.numel() != event.gave.numel():
        return None
    given, gave = after.given.reshape(event.gave.shape).cpu(), event.gave.cpu()
    if torch.equal(given, gave):
        return ResidualEdge(after.name)
    norms = (e for e in reversed(events[:place]) if e.kind == "norm")
    # skip norms of other things than tokens, such as DeBERTa's norm of distances
    before = next((e for e in norms if e.given.numel() == gave.numel()), None)
    if before is None:
        return None
    for stream, normed in ((before.given, False), (before.gave, True)):
        if torch.allclose(given, gave + stream.reshape(gave.shape).cpu(), rtol=1e-4, atol=1e-4):
            return ResidualEdge(after.name, before.name, normed)
    return None
