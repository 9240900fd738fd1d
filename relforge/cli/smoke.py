"""``relforge smoke``."""

from __future__ import annotations

from relforge.cli.verbs import pipeline_app

app = pipeline_app(
    until="smoke",
    doc="Serves the built image and probes it; builds first what is missing.",
)
