"""Draw the hypervolume over wall-clock of the recipe and of protege."""

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from studies.benchmarks.recipe_course import Course
from studies.picture import HEIGHT_PX, write_png

COLOURS = {"recipe": "#b4530a", "protege": "#1f5fa8"}


def figure(name: str, courses: Sequence[tuple[Course, Course]]) -> go.Figure:
    """Return a step line for each seed and search, of the students judged again."""
    drawn = go.Figure()
    ends = max(one.at_s for both in courses for course in both for one in course.own)
    for at, (who, colour) in enumerate(COLOURS.items()):
        for number, both in enumerate(courses):
            steps = [(0.0, 0.0), *both[at].volumes(both[at].judged), (ends, both[at].final)]
            x, y = zip(*steps, strict=True)
            drawn.add_scatter(
                x=[second / 60 for second in x],
                y=y,
                mode="lines",
                line={"shape": "hv", "color": colour},
                name=who,
                legendgroup=who,
                showlegend=not number,
            )
    title = f"{name}: front judged again on tweets, by when its students were finished"
    drawn.update_layout(
        title=title,
        height=HEIGHT_PX,
        template="plotly_white",
        xaxis_title="Wall-clock (minutes)",
        yaxis_title="Hypervolume",
        xaxis_rangemode="tozero",
        yaxis_rangemode="tozero",
    )
    return drawn


def draw(name: str, courses: Sequence[tuple[Course, Course]], path: Path) -> None:
    """Draw the courses into a PNG file."""
    write_png(figure(name, courses), path)
    print(f"Picture: {path}")
