"""`PlottedResult`: the figures of a study as methods of its front."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.plain import printable
from protege.spaces import BadInput

if TYPE_CHECKING:  # Plotly is loaded when something is drawn
    from protege.search.report.parts import Figure


class PlottedResult(StudyResult):
    """A study result that draws its figures; base of `protege.search.Front`.

    Each method returns a Plotly figure. It raises `BadInput` if the study lacks the data.
    """

    def plot(self, x: str | None = None, y: str | None = None) -> "Figure":
        """Plot all trials over two axes, with the front, the teacher and the baselines.

        An axis is an objective, ``speedup`` or ``parameters_m``.

        Args:
            x: The horizontal axis; by default the first minimised objective.
            y: The vertical axis; by default the first maximised objective.
        """
        from protege.search.report import trade_off, views

        default_x, default_y = views.pairs(self.objectives.records)[0]
        axes = trade_off.axes(self)
        over, of = _named(axes, x) or default_x, _named(axes, y) or default_y
        return trade_off.front_figure(self, over, of)

    def plot_importance(self) -> "Figure":
        """Plot how much each size matters for each objective, by PED-ANOVA."""
        from protege.search.report.sections import importance

        return importance.figure(self, importance.importance(self))

    def plot_heat_map(self, objective: str) -> "Figure":
        """Plot an objective over depth and width, estimated from the finished students.

        Args:
            objective: Its name.
        """
        from protege.search.report.sections import heat_maps

        own = self._objective(objective) or self.objectives.records[0]
        return heat_maps.figure(heat_maps.heat_map(self, own), own, *heat_maps.axes(self))

    def plot_parallel(self) -> "Figure":
        """Plot sizes and objectives of the finished students as parallel coordinates."""
        from protege.search.report.sections import parallel

        return parallel.figure(self, parallel.parallel(self))

    def plot_sizes(self) -> "Figure":
        """Plot the sizes of the complete trials along the first minimised objective."""
        from protege.search.report import figures
        from protege.search.report.sections import sizes

        return figures.composition(*sizes.along(self))

    def plot_convergence(self) -> "Figure":
        """Plot the hypervolume over trials."""
        from protege.search.report import figures
        from protege.search.report.sections import convergence

        frame = convergence.progress(self)
        if frame.empty:
            raise BadInput("The hypervolume needs the teacher's own trial, which is not complete.")
        return figures.growth(frame)

    def plot_races(self) -> "Figure":
        """Plot the quality of each student at its rungs, with what became of it."""
        from protege.search.report.sections import races

        return races.race_figure(self, races.curves(self))

    def plot_latency(self, objective: str | None = None) -> "Figure":
        """Plot the distribution of each student's calls, relative to the teacher's.

        Args:
            objective: The latency; by default the first one with samples.
        """
        from protege.search.report.sections import distributions

        own = self._objective(objective) or distributions.sampled(self)
        return distributions.figure(distributions.distributions(self, own), own)

    def plot_latency_model(self, objective: str | None = None) -> "Figure":
        """Plot the latency that a model predicts for each student from the others.

        Args:
            objective: The latency; by default the first one with a model.
        """
        from protege.search.report.sections import latency

        own, model = latency.modelled(self, self._objective(objective))
        return latency.figure(latency.held_out(self, model), own)

    def plot_layers(self) -> "Figure":
        """Plot how many students on the front keep each layer of the teacher."""
        from protege.search.report.sections import layers

        return layers.figure(layers.layers(self))

    def plot_time(self) -> "Figure":
        """Plot the time of the study by phase."""
        from protege.search.report import figures
        from protege.search.report.sections import accounting

        frame = accounting.times(self.about.get("seconds", {}))
        if frame.empty:
            raise BadInput("The study has not recorded its time by phase.")
        return figures.bars(frame)

    def _objective(self, name: str | None) -> ObjectiveRecord | None:
        return _named(self.objectives.records, name)


def _named(axes: Sequence[ObjectiveRecord], name: str | None) -> ObjectiveRecord | None:
    """Return the axis of a name, or None for no name.

    Raises:
        BadInput: There is no such axis.
    """
    if name is None:
        return None
    for one in axes:
        if one.name == name:
            return one
    known = ", ".join(printable(one.name) for one in axes)
    raise BadInput(f"unknown objective {name!r}; this study has {known}")
