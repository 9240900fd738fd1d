"""What the stage build is made of: contexts that enter, the report that comes back, images."""

from __future__ import annotations

TOOLS = "dockerfiles/tools"
"""Programs that run inside builds, in the project."""
ALWAYS_THERE = ("build-wheels", "tools", "wheels")
"""Named contexts of every build, beside those of its sources."""
