"""Sends the folders of several releases to targets, one after another."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from relforge.ci.report import of_deliveries, of_error
from relforge.cli.common import Workplace, interruptible, print_json, to_stderr, workplace
from relforge.cli.delivering import folders, send, targets
from relforge.cli.reporting import telling
from relforge.errors import ExitCode, RelforgeError
from relforge.publishing.delivering import DeliveriesOutput, DeliveryReport, NotSent
from relforge.publishing.journal import Journal
from relforge.publishing.published import read_published
from relforge.publishing.target import Step
from relforge.ui.text import error as error_text


def send_all(
    steps: Sequence[Step],
    *,
    devices: list[str] | None,
    releases: list[str] | None,
    models: list[str] | None,
    everything: bool,
    given: list[Path] | None,
    names: list[str] | None,
    registry: str | None,
    policy: Path | None,
    dry_run: bool,
    rollback: bool,
    reason: str,
    as_json: bool,
    project: Path | None,
    site: Path | None,
    published: Path | None = None,
    junit: Path | None = None,
    summary: Path | None = None,
) -> int:
    """Returns the exit code of the first failure; one release stops no other."""
    title = f"relforge {'publish' if tuple(steps) == ('candidate',) else steps[-1]}"
    with telling(title, junit, summary) as told:
        place = workplace(project, site)
        told.at(place)
        handed = {} if published is None else _handed(published, devices, releases, models, given)
        found = list(handed) or folders(
            place,
            devices=devices,
            releases=releases,
            models=models,
            everything=everything,
            given=given,
        )
        withdrawing = "withdraw" in steps
        if withdrawing and place.site.publish.signing is None and not dry_run:
            to_stderr(
                "warning: this site has no signing key (publish.signing): the statement that the "
                "release is withdrawn is not signed, and readers who verify count no such statement"
            )
        reports: list[DeliveryReport] = []
        failed: list[NotSent] = []
        codes: list[int] = []
        with interruptible() as cancel:
            for folder in found:
                try:
                    wanted = names
                    if withdrawing and not names and registry is None:
                        wanted = _where_it_went(place, folder, codes)
                    chosen = targets(place, wanted, registry)
                    report = send(
                        place, folder, chosen, steps, cancel=cancel, policy=policy, dry_run=dry_run,
                        rollback=rollback, reason=reason, digest=handed.get(folder),
                    )  # fmt: skip
                except RelforgeError as error:
                    if len(found) == 1:
                        raise
                    told.suites.append(of_error(folder.name, error))
                    failed.append(
                        NotSent(folder=str(folder), error=error.what, exit_code=int(error.code))
                    )
                    codes.append(int(error.code))
                    sys.stderr.write(error_text(error) + "\n")
                    continue
                reports.append(report)
                codes.append(report.exit_code)
        told.suites += of_deliveries(reports)
        if as_json:
            print_json(
                DeliveriesOutput(releases=tuple(reports), not_sent=tuple(failed)).model_dump(
                    mode="json"
                )
            )
        return next((code for code in codes if code), 0)


def _handed(
    published: Path,
    devices: list[str] | None,
    releases: list[str] | None,
    models: list[str] | None,
    given: list[Path] | None,
) -> dict[Path, str]:
    """The folders that a file names, and the digests that their images must have."""
    if devices or releases or models or given:
        raise RelforgeError(
            "--published goes with no --folder, --device, --release or --model",
            code=ExitCode.USAGE,
            hint="leave out one or the other",
        )
    from relforge.publishing.handing import read_handed

    return read_handed(published)


def _where_it_went(place: Workplace, folder: Path, codes: list[int]) -> list[str]:
    """The targets that this host sent the release to; of one that the site no longer has, it is
    said that nothing can be taken back there."""
    known = place.site.publish.targets
    went = Journal(place.home).targets(read_published(folder).release)
    for name in went:
        if name not in known and "/" not in name:
            codes.append(int(ExitCode.PUBLISH))
            to_stderr(
                f"warning: {name}: the release went there, and the site configuration has no such "
                "target any more: nothing was taken back there"
            )
    return [name for name in went if name in known or "/" in name]
