"""Whether a card's commands may run without asking: when this home's own card stage wrote it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError


def require_consent(card: Path, home: Path, *, given: bool) -> None:
    """Raises RelforgeError (USAGE) for a card from elsewhere that nobody agreed to run."""
    if given or made_here(card.read_bytes(), home):
        return
    raise RelforgeError(
        "the card was not written here, and its commands would run on this machine",
        code=ExitCode.USAGE,
        where=str(card),
        why="no release of this home has a card with these very bytes",
        hint=f"read what would run: relforge card test {card} --dry-run; "
        "then run it with --yes, best on a machine that has nothing to lose",
    )


def made_here(text: bytes, home: Path) -> bool:
    """Whether a recorded result of the card stage is this text."""
    wanted = hashlib.sha256(text).hexdigest()
    for path in (home / "store" / "results" / "card").glob("*.json"):
        try:
            outputs = json.loads(path.read_bytes())["result"]["outputs"]
            if any(output["sha256"] == wanted for output in outputs):
                return True
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return False
