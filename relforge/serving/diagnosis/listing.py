"""The table of known causes as people read it."""

from __future__ import annotations

from relforge.serving.diagnosis.model import KnownCause
from relforge.serving.diagnosis.table import CAUSES

_HEAD = "| cause | what it means | field | known from |\n|---|---|---|---|\n"


def as_markdown() -> str:
    """One row for each cause, by id; what was only reported links the issues that it is known
    from."""
    rows = sorted(CAUSES, key=lambda known: known.id)
    return _HEAD + "".join(_row(known) for known in rows)


def _row(known: KnownCause) -> str:
    return f"| `{known.id}` | {known.explanation} | `{known.field}` | {_source(known)} |\n"


def _source(known: KnownCause) -> str:
    if known.provenance == "produced":
        return "produced"
    links = (f"[{_name(place)}]({place})" for place in known.seen)
    return "reported: " + ", ".join(links)


def _name(address: str) -> str:
    """``https://github.com/owner/name/issues/1`` as ``name#1``."""
    parts = address.split("/")
    return f"{parts[4]}#{parts[-1]}"
