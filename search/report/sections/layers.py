"""Which layers and heads of the teacher matter."""

import json

import pandas as pd
import plotly.graph_objects as go

from protege.search.analysis.result import StudyResult
from protege.search.records.results import weights_folder
from protege.search.report.heads import heat_map
from protege.search.report.parts import NotShown, Plot, plot
from protege.search.report.sections.section import Section
from protege.search.report.style import LIGHT, blank
from protege.spaces import family_of
from protege.spaces.files.manifest import MANIFEST


def layers(front: StudyResult) -> pd.DataFrame:
    """Return how many students on the front keep each layer of the teacher.

    Students whose weights are not in the run folder are left out, and so are those that keep all
    layers.

    Returns:
        ``stack``, ``layer``, ``kept`` and ``students``, the number of students that dropped some
        layer of the stack.

    Raises:
        NotShown: No student on the front that dropped a layer has its weights in the run folder.
    """
    own = front.about.get("teacher", {}).get("architecture")
    if not own:
        raise NotShown("The study did not record its teacher.")
    depths = {stack: own[size] for stack, size in family_of(own["model_type"]).depths.items()}
    kept: dict[str, list[list[int]]] = {}
    for trial in front.students:
        path = weights_folder(front.folder, trial.number) / MANIFEST
        try:
            stacks = json.loads(path.read_bytes())["kept"]["layers"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        for stack, numbers in stacks.items():
            kept.setdefault(str(stack), []).append([int(number) for number in numbers])
    rows = []
    for stack, students in kept.items():
        depth = depths.get(stack, 0)
        cut = [numbers for numbers in students if len(numbers) < depth]
        rows += [
            (stack, layer, sum(layer in numbers for numbers in cut), len(cut))
            for layer in range(depth if cut else 0)
        ]
    if not rows:
        raise NotShown("No student on the front dropped layers and has its weights here.")
    return pd.DataFrame(rows, columns=["stack", "layer", "kept", "students"])


def figure(frame: pd.DataFrame) -> go.Figure:
    """Draw the share of students that keep each layer, from `layers`."""
    drawn = blank(260)
    for stack, part in frame.groupby("stack", sort=False):
        drawn.add_bar(
            x=part["layer"].tolist(),
            y=(part["kept"] / part["students"]).tolist(),
            name=str(stack).capitalize(),
            customdata=[
                f"{one} of {of}" for one, of in zip(part["kept"], part["students"], strict=True)
            ],
            hovertemplate="layer %{x}: kept by %{customdata} students<extra></extra>",
            marker={"color": LIGHT.accent if stack != "decoder" else LIGHT.faint},
        )
    drawn.update_layout(showlegend=len(set(frame["stack"])) > 1)
    drawn.update_xaxes(title_text="Layer of the teacher", dtick=1 + len(frame) // 24)
    drawn.update_yaxes(title_text="Kept by", tickformat=".0%", range=[0, 1.05])
    return drawn


def kept_layers(front: StudyResult) -> Plot | None:
    """Plot which layers are kept, or return None if unknown."""
    try:
        frame = layers(front)
    except NotShown:
        return None
    ordered = frame.sort_values("kept", kind="stable")
    says = (
        "Bar chart: of the students that dropped layers, the most keep layer "
        f"{ordered['layer'].iloc[-1]} ({ordered['kept'].iloc[-1]} of "
        f"{ordered['students'].iloc[-1]}), the fewest layer {ordered['layer'].iloc[0]} "
        f"({ordered['kept'].iloc[0]})."
    )
    return plot("layers", "Layers that students on the front keep", says, figure(frame))


def heads_and_layers(front: StudyResult) -> Section | None:
    """Return the section on layers and heads, folded; None if neither is known."""
    of_layers = kept_layers(front)
    maps = [heat_map(scores) for scores in front.heads]
    if not of_layers and not maps:
        return None
    words = (
        "A layer that most students keep matters most to the layer policy. The stronger a head's "
        "colour, the more it matters beside the others of its panel."
    )
    plots = [*([of_layers] if of_layers else []), *maps]
    return Section("layers-heads", "Which layers and heads matter", [words, *plots], folded=True)
