"""``relforge publish``."""

from __future__ import annotations

from relforge.cli.verbs import pipeline_app

app = pipeline_app(
    until="publish",
    doc="Writes the release folder under dist/, and pushes it with --registry.",
    publishes=True,
)
