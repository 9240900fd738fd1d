"""``relforge eval``."""

from __future__ import annotations

from relforge.cli.verbs import pipeline_app

app = pipeline_app(
    until="evaluate",
    doc="Evaluates the served image against the reference; builds first what is missing.",
)
