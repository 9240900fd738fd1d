"""Charts of a release: what an evaluation found, and latency under load. Drawn by Matplotlib."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import FiniteFloat, ValidationError, model_validator
from typing_extensions import Self

from relforge.benching.chart import GRID, INK, SETTINGS, STYLES, library, svg, written
from relforge.benching.model import BenchReport
from relforge.errors import RelforgeError
from relforge.frozen import Frozen, content_key

_REVISION = 1
"""Counts up when the same figures are drawn in another way."""
_LABEL = 40
"""Longer names of tasks are cut."""


class Interval(Frozen):
    """A task's difference to its reference in points, and how much less is let through."""

    task: str
    difference: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    margin: FiniteFloat | None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.difference <= self.high:
            raise ValueError("the difference lies outside its interval")
        return self


class Chart(Frozen):
    """What is drawn; pure data, so that it can be drawn when it is wanted."""

    kind: Literal["evaluation", "bench"]
    title: str
    intervals: tuple[Interval, ...] = ()
    report: BenchReport | None = None

    @property
    def file(self) -> str:
        """Below the board: by what is drawn, so that the same figures are drawn once."""
        key = content_key({"chart": self.model_dump(mode="json"), "revision": _REVISION})
        return f"charts/{key[:32]}.svg"

    def draw(self) -> bytes:
        """The SVG. Raises RelforgeError (ENVIRONMENT) where Matplotlib is not installed."""
        if self.report is not None:
            return svg(self.report, self.title)
        return _forest(self.intervals, self.title)


def bench_chart(report: object, title: str) -> Chart | None:
    """Of a record's report; None where there is nothing to draw, or it is of another form."""
    try:
        found = BenchReport.model_validate(report)
    except ValidationError:
        return None
    return Chart(kind="bench", title=title, report=found) if found.levels else None


def evaluation_chart(tasks: object, title: str) -> Chart | None:
    """Of a record's tasks: those that were compared with a reference."""
    found = []
    for task in tasks if isinstance(tasks, (list, tuple)) else ():
        try:
            low, high = task["interval_points"]
            found.append(
                Interval(
                    task=str(task["task"]),
                    difference=task["difference_points"],
                    low=low,
                    high=high,
                    margin=task.get("margin_points"),
                )
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return Chart(kind="evaluation", title=title, intervals=tuple(found)) if found else None


def can_draw() -> bool:
    """Whether Matplotlib is there."""
    try:
        library("matplotlib.figure")
    except RelforgeError:
        return False
    return True


def _forest(intervals: tuple[Interval, ...], title: str) -> bytes:
    """A row for each task: the difference with its interval, no difference, and the margin."""
    matplotlib = library("matplotlib")
    figure_class = library("matplotlib.figure").Figure
    places = list(range(len(intervals)))
    with matplotlib.rc_context(SETTINGS):
        height = 1.5 + 0.35 * len(intervals)
        figure = figure_class(figsize=(7.0, height), layout="constrained", facecolor="white")
        panel: Any = figure.subplots()
        figure.suptitle(title, fontsize=10)
        panel.errorbar(
            [one.difference for one in intervals],
            places,
            xerr=[
                [one.difference - one.low for one in intervals],
                [one.high - one.difference for one in intervals],
            ],
            fmt=STYLES[0][1],
            color=STYLES[0][0],
            capsize=4,
            label="difference, with its interval",
        )
        panel.axvline(0, color=INK, linewidth=0.8)
        allowed = {p: -one.margin for p, one in enumerate(intervals) if one.margin is not None}
        if allowed:
            panel.plot(
                list(allowed.values()),
                list(allowed),
                marker="|",
                markersize=16,
                markeredgewidth=2,
                linestyle="none",
                color=STYLES[1][0],
                label="margin",
            )
        panel.set_yticks(places, labels=[_short(one.task) for one in intervals])
        panel.set_ylim(len(intervals) - 0.5, -0.5)
        panel.set_xlabel("points of right answers, against the reference")
        panel.grid(visible=True, axis="x", color=GRID, linewidth=0.6)
        panel.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        return written(figure, title)


def _short(text: str) -> str:
    return text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…"
