"""The learning curve of a student as a small SVG image."""

from collections.abc import Mapping
from math import isfinite

from protege.search.records.plain import plotted
from protege.search.records.trial import Trial
from protege.search.records.wording import significant
from protege.search.report.style import FONT, LIGHT

WIDTH, HEIGHT = 640, 240
"""Size of a panel in pixels."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 36, 40


def learning_curve(trial: Trial) -> str:
    """Return the training loss by step, and the values at rungs, as an SVG image.

    Returns:
        One panel for the loss and one for the objective that selects the published rung; an empty
        string if the student was not trained.
    """
    losses = dict(enumerate(trial.training.losses, start=1)) if trial.training else {}
    panels = {"training loss": losses}
    if trial.rungs:
        panels[next(iter(next(iter(trial.rungs.values()))))] = trial.curve
    drawn = [_panel(title, points, at) for at, (title, points) in enumerate(panels.items())]
    found = [panel for panel in drawn if panel]
    if not found:
        return ""
    height = HEIGHT * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="{FONT}" font-size="13">'
        f'<rect width="100%" height="100%" fill="{LIGHT.paper}"/>{"".join(found)}</svg>\n'
    )


def _panel(title: str, points: Mapping[int, float], at: int) -> str:
    """Draw a line through points by step, in the panel at a place from above."""
    known = {step: value for step, value in sorted(points.items()) if isfinite(value)}
    if not known:
        return ""
    low, high = min(known.values()), max(known.values())
    first, last = min(known), max(known)
    wide, tall = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    top = at * HEIGHT + _TOP

    def place(step: int, value: float) -> tuple[float, float]:
        across = (step - first) / (last - first or 1)
        up = (value - low) / (high - low) if high > low else 0.5
        return _LEFT + across * wide, top + (1 - up) * tall

    placed = [place(step, value) for step, value in known.items()]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    dots = placed if len(placed) <= 20 else []
    marks = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" {_FILL}/>' for x, y in dots)
    below = top + tall
    return (
        f"{_text(_LEFT, top - 14, title, LIGHT.ink)}"
        f'<path d="M{_LEFT} {top}V{below}H{_LEFT + wide}" fill="none" stroke="{LIGHT.faint}"/>'
        f"{_text(_LEFT - 8, top + 5, significant(high), LIGHT.soft, 'end')}"
        f"{_text(_LEFT - 8, below, significant(low), LIGHT.soft, 'end')}"
        f"{_text(_LEFT, below + 20, f'step {first}', LIGHT.soft)}"
        f"{_text(_LEFT + wide, below + 20, f'step {last}', LIGHT.soft, 'end')}"
        f'<polyline points="{line}" fill="none" stroke="{LIGHT.accent}" stroke-width="1.8"/>{marks}'
    )


_FILL = f'fill="{LIGHT.accent}"'


def _text(x: float, y: float, text: str, color: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" fill="{color}" text-anchor="{anchor}">{plotted(text)}</text>'
