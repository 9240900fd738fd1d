"""What publish, promote, withdraw and release have in common: folders, targets, gate, report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relforge import redact
from relforge.cancel import CancelToken
from relforge.cli.common import Workplace, select, to_stderr
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.publishing.delivering import DeliveryReport
    from relforge.publishing.target import Step, Target

TargetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--target", "-t", help="A target of the site configuration, or 'all'.", metavar="NAME"
    ),
]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry", help="A registry that is no configured target.", metavar="HOST/NAME"
    ),
]
FolderOption = Annotated[
    list[Path] | None,
    typer.Option("--folder", help="A published release's folder, from anywhere.", metavar="DIR"),
]
PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", help="What a release must have (docs/verify.md).", metavar="FILE"),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")
]
PublishedOption = Annotated[
    Path | None,
    typer.Option(
        "--published",
        help="What relforge publish --json printed: promote that, and nothing else.",
        metavar="FILE",
    ),
]
RollbackOption = Annotated[
    bool, typer.Option("--rollback", help="If one target fails, take back what this run did.")
]


def folders(
    place: Workplace,
    *,
    devices: list[str] | None,
    releases: list[str] | None,
    models: list[str] | None,
    everything: bool,
    given: list[Path] | None,
) -> list[Path]:
    """The published folders that the options name. Raises RelforgeError (USAGE) for none."""
    if given:
        if devices or releases or models or everything:
            raise RelforgeError(
                "--folder goes with no --device, --release, --model or --all",
                code=ExitCode.USAGE,
                hint="leave out one or the other",
            )
        return given
    chosen = select(
        place.project, devices=devices, releases=releases, models=models, everything=everything
    )
    found = [place.dist / release.name for release in chosen]
    if everything:
        # Of --all, those that were never published have nothing to send.
        return [folder for folder in found if folder.is_dir()]
    for folder in found:
        if not folder.is_dir():
            raise RelforgeError(
                f"{folder.name} was not published here yet",
                code=ExitCode.USAGE,
                where=str(folder),
                hint=f"relforge publish --release {folder.name}",
            )
    return found


def targets(
    place: Workplace, names: Sequence[str] | None, registry: str | None
) -> tuple[Target, ...]:
    """The targets that the options name. Raises RelforgeError (USAGE) for none."""
    from relforge.publishing.choosing import choose

    found = choose(place.site, named(names, registry), home=place.home)
    if not found:
        known = ", ".join(sorted(place.site.publish.targets))
        raise RelforgeError(
            "no target is named",
            code=ExitCode.USAGE,
            where=str(place.site_file) if place.site_file else None,
            why=f"the site configuration has {known}"
            if known
            else "the site configuration has none",
            hint="--target NAME, --target all, or --registry HOST/NAME",
        )
    return found


def send(
    place: Workplace,
    folder: Path,
    chosen: Sequence[Target],
    steps: Sequence[Step],
    *,
    cancel: CancelToken | None,
    policy: Path | None = None,
    dry_run: bool = False,
    rollback: bool = False,
    reason: str = "",
    digest: str | None = None,
) -> DeliveryReport:
    """Sends one published folder to targets and says on stderr what came of it.

    Raises RelforgeError (PUBLISH) where ``digest`` is named and its image is another one.
    """
    from relforge.publishing.delivering import Delivering, deliver, preview
    from relforge.publishing.gate import Gate
    from relforge.publishing.journal import Journal
    from relforge.publishing.snapshot import snapshot
    from relforge.publishing.target import Doing

    with snapshot(folder, place.home) as kept:
        if digest is not None and kept.published.image_digest != digest:
            from relforge.publishing.handing import another_image

            raise another_image(folder, digest, kept.published.image_digest)
        gate = Gate(
            kept,
            place.site,
            home=place.home,
            policy=policy,
            roots=place.project.roots,
            line=to_stderr,
        )
        if dry_run:
            report = preview(kept.published, chosen, steps, gate)
            _say(report)
            return report
        how = Delivering(
            journal=Journal(place.home),
            gate=gate,
            doing=Doing(line=to_stderr, cancel=cancel, reason=reason),
            rollback=rollback,
        )
        return deliver(kept.published, chosen, steps, how, on_end=_say)


def _say(report: DeliveryReport) -> None:
    from relforge.ui import deliveries

    sys.stderr.write(redact.text(deliveries.text(report)))


def named(names: Sequence[str] | None, registry: str | None) -> list[str]:
    """The names of ``--target``, and ``--registry`` as one more."""
    return [*(names or ()), *([registry] if registry is not None else ())]
