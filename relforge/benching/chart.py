"""A benchmark as an SVG picture: latencies and throughput against the load."""

from __future__ import annotations

import importlib
import io
from typing import Any

from relforge.benching.model import BenchReport, Latency, LevelFigures
from relforge.errors import ExitCode, RelforgeError

# Told apart also without colour, by marker; the colours are those of Okabe and Ito (2008), which
# people with any common kind of colour blindness tell apart.
STYLES = (("#0072B2", "o", "-"), ("#D55E00", "s", "--"), ("#009E73", "^", ":"))
INK = "#24292f"
GRID = "#d0d7de"
# Text as outlines, so that it looks the same where a font is missing; no date and a fixed salt for
# the ids, so that the same figures give the same bytes. The ground is opaque: dark ink on a dark
# page would not be read.
SETTINGS: dict[str, Any] = {
    "text.parse_math": False,  # a name with two dollar signs in it is no formula
    "svg.fonttype": "path",
    "svg.hashsalt": "relforge",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def svg(report: BenchReport, title: str) -> bytes:
    """Three panels over the number of concurrent requests: first token, gaps, output tokens/s.

    Raises RelforgeError (ENVIRONMENT) where Matplotlib is not installed.
    """
    matplotlib = library("matplotlib")
    figure_class = library("matplotlib.figure").Figure
    figures = [level.figures for level in report.levels]
    with matplotlib.rc_context(SETTINGS):
        figure = figure_class(figsize=(10.5, 3.6), layout="constrained", facecolor="white")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
        figure.suptitle(title, fontsize=10)
        first, gaps, rate = figure.subplots(1, 3)
        _latency(first, figures, [level.ttft for level in figures], "time to first token, ms")
        _latency(gaps, figures, [level.itl for level in figures], "time between tokens, ms")
        rate.plot(
            [level.concurrency for level in figures],
            [level.output_tokens_per_s for level in figures],
            color=STYLES[0][0],
            marker=STYLES[0][1],
        )
        rate.set_ylabel("output tokens/s")
        for panel in (first, gaps, rate):
            _axes(panel, figures)
        for panel in (first, gaps):
            panel.legend(frameon=False)
        return written(figure, title)


def written(figure: Any, title: str) -> bytes:
    """A figure as SVG, within the settings above."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Title": title, "Date": None, "Creator": None})
    return file.getvalue()


def _latency(panel: Any, figures: list[LevelFigures], latencies: list[Latency], label: str) -> None:
    loads = [level.concurrency for level in figures]
    for number, percentile in enumerate(latencies[0].percentiles):
        colour, marker, line = STYLES[number % len(STYLES)]
        panel.plot(
            loads,
            [latency.at(percentile.p) for latency in latencies],
            color=colour,
            marker=marker,
            linestyle=line,
            label=f"p{percentile.p:g}",
        )
    panel.set_ylabel(label)


def _axes(panel: Any, figures: list[LevelFigures]) -> None:
    loads = [level.concurrency for level in figures]
    if len(loads) > 1:
        panel.set_xscale("log", base=2)
    panel.set_xticks(loads, labels=[str(load) for load in loads])
    panel.minorticks_off()
    panel.set_xlabel("concurrent requests")
    panel.set_ylim(bottom=0)
    panel.grid(visible=True, color=GRID, linewidth=0.6)
    panel.set_axisbelow(True)


def library(module: str) -> Any:
    """A module of Matplotlib. Raises RelforgeError (ENVIRONMENT) where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RelforgeError(
            "the chart of a benchmark needs Matplotlib",
            code=ExitCode.ENVIRONMENT,
            why=str(error),
            hint="pip install 'relforge[bench]'",
        ) from error
