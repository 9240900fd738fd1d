"""``relforge build``."""

from __future__ import annotations

from relforge.cli.verbs import pipeline_app

app = pipeline_app(
    until="build",
    doc="Builds the image of a release: an OCI image layout, and the same in the engine.",
)
