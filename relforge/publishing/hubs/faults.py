"""What can go wrong while writing to a hub, in our words: what, where, why, and the next step."""

from __future__ import annotations

from pathlib import Path

from relforge import redact
from relforge.errors import ExitCode, RelforgeError
from relforge.publishing.hubs.asking import Fault, FaultKind

_AGAIN = "run the same command again: it goes on from what is there"


def hub_error(
    fault: Fault, *, hub: str, place: str, doing: str, token_file: Path | None, changed_by: str = ""
) -> RelforgeError:
    """The error for a fault; ``doing`` says what was asked: ``commit 12 files to main``.

    ``changed_by`` says who changed what in the meantime, where that is known.
    """
    token = f"hubs.{hub}.token_file ({token_file})"
    what, hint = {
        "missing-extra": (
            f"the client library of {hub} is not installed",
            "pip install 'relforge[hub]'",
        ),
        "token": (
            f"{hub} does not accept the token",
            f"put a new token into {token}; then {_AGAIN}",
        ),
        "forbidden": (
            f"{hub} does not let the owner of this token do that",
            f"use a token that may write there, in {token}; else ask the owner of the namespace",
        ),
        "missing": (
            f"{hub} does not know that place",
            f"correct the target's repository, or put a token that may see it into {token}",
        ),
        "conflict": (
            f"the repository on {hub} was changed by somebody else meanwhile",
            "look at what they changed, then run the same command again: it starts from there",
        ),
        "rejected": (f"{hub} does not take it", "correct what the hub names, then publish again"),
        "busy": (f"{hub} is busy or out of order", f"wait, then {_AGAIN}"),
        "unreachable": (
            f"{hub} does not answer, or not to the end",
            f"check network and proxy, or hubs.{hub}.endpoint in the site configuration; {_AGAIN}",
        ),
        "slow": (f"{hub} takes too long", f"check the line; {_AGAIN}"),
        "disk": ("the client has no room to write", "free disk space in the temporary folder"),
        "broken": (f"writing to {hub} failed", _AGAIN),
    }[fault.kind]
    local: tuple[FaultKind, ...] = ("missing-extra", "disk")
    asked = f" (asked to wait {fault.after_s:g} s)" if fault.after_s else ""
    why = "; ".join(part for part in (f"{doing}: {fault.text}{asked}", changed_by) if part)
    return RelforgeError(
        what,
        code=ExitCode.ENVIRONMENT if fault.kind in local else ExitCode.PUBLISH,
        where=place,
        why=redact.text(why),
        hint=hint,
    )
