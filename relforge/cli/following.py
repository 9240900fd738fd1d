"""What follows the last stage of a release: its record, its signature, and the targets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.cancel import CancelToken
from relforge.cli.common import Workplace
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.record import write_record
from relforge.evidence.runs import Asked
from relforge.evidence.store import Store
from relforge.files import held_lock
from relforge.manifest.site import Site
from relforge.publishing.choosing import choose
from relforge.running.walk import Walk
from relforge.stage import StageResult
from relforge.ui import summary

if TYPE_CHECKING:
    from relforge.publishing.delivering import TargetOutcome
    from relforge.publishing.target import Step, Target


class NotSentError(RelforgeError):
    """Targets that did not get a release; the report was printed when they were tried."""


class Following:
    """Called in threads, once for each release; ``sent`` is what came of its targets."""

    def __init__(self, place: Workplace, asked: Asked) -> None:
        """Raises RelforgeError (USAGE) for unknown targets, and for targets that nothing that is
        run makes a release for."""
        if asked.targets and asked.until not in (None, "publish"):
            raise RelforgeError(
                "there is nothing to send",
                code=ExitCode.USAGE,
                why=f"--until {asked.until} ends before the release is published",
                hint="leave out --until, or the targets",
            )
        self.place, self.asked = place, asked
        self.targets: tuple[Target, ...] = choose(place.site, asked.targets, home=place.home)
        self.sent: dict[str, tuple[TargetOutcome, ...]] = {}

    def __call__(self, cancel: CancelToken) -> Callable[[Walk, str], RelforgeError | None]:
        """For a run that this token ends."""

        def follow(walk: Walk, run_id: str) -> RelforgeError | None:
            self._record(walk, run_id, cancel)
            if len(self.asked.releases) == 1:
                sys.stderr.write(summary.text(walk.outcome(run_id), walk.plan))
            return self._send(walk, cancel) if self.targets else None

        return follow

    def _record(self, walk: Walk, run_id: str, cancel: CancelToken) -> None:
        place = self.place
        # Two runs that published the same folder write and sign its record one after the other.
        lock = place.home / "locks" / f"record-{walk.name}"
        with held_lock(lock, purpose=f"record of {walk.name}", cancel=cancel):
            record = write_record(
                walk.plan, run_id, walk.entry, walk.results,
                dist=place.dist, store=Store(place.home),
            )  # fmt: skip
            if record is not None:
                _seal(record.parent, walk.results, place.site)

    def _send(self, walk: Walk, cancel: CancelToken) -> RelforgeError | None:
        from relforge.cli.delivering import send

        place = self.place
        report = send(place, place.dist / walk.name, self.targets, self._steps, cancel=cancel)
        self.sent[walk.name] = report.outcomes
        if not report.exit_code:
            return None
        return NotSentError(
            "it was not sent to every target",
            code=ExitCode(report.exit_code),
            hint=f"relforge promote --release {walk.name}",
        )

    @property
    def _steps(self) -> tuple[Step, ...]:
        known: tuple[Step, ...] = ("candidate", "promote", "withdraw")
        return tuple(step for step in known if step in self.asked.steps)


def _seal(folder: Path, results: Mapping[str, StageResult], site: Site) -> None:
    """Signs the written record, with the key that signed the rest; asks for its passphrase only
    where there is something to sign."""
    from relforge.attesting.sealing import is_sealed, seal_release
    from relforge.attesting.signing import SigningKey
    from relforge.patching.keys import load_signer, passphrase_from
    from relforge.stages.attest import AttestResult

    attested = results.get("attest")
    signed = attested.signed if isinstance(attested, AttestResult) else None
    public = load_signer("maker", signed.public_pem.encode()).public_key if signed else None
    if is_sealed(folder, public):
        return
    seal_release(
        folder, SigningKey.load(site, passphrase=passphrase_from(None)) if signed else None
    )
