"""What ``relforge board --json`` prints."""

from __future__ import annotations

from relforge.frozen import Frozen


class BoardOutput(Frozen):
    """``out`` is the folder that was written; open its ``index.html``. ``states`` counts releases
    by their state, ``runs`` the runs of releases that the page tells of; sizes are bytes."""

    out: str
    releases: int
    states: dict[str, int]
    runs: int
    problems: int
    """Records that could not be read; the page names them."""
    files: int
    bytes: int
