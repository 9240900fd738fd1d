"""``relforge release``."""

from __future__ import annotations

from relforge.cli.verbs import pipeline_app

app = pipeline_app(
    until=None,
    doc="Builds, serves, evaluates, describes and publishes a release; then writes its record. "
    "With --target or --registry it is also sent and promoted there.",
    steps=("candidate", "promote"),
)
