"""``relforge card``."""

from __future__ import annotations

from relforge.cli.verbs import pipeline_app

app = pipeline_app(
    until="card",
    doc="Writes the model card from recorded evidence.",
)
