"""``relforge patch lint``: what is wrong with a FlagScale checkout, or a folder of patches."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relforge.cli.common import (
    JsonOption,
    ProjectOption,
    SiteOption,
    interruptible,
    print_json,
    to_stderr,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.patching.lint.model import LintReport


def lint(
    path: Annotated[
        str | None,
        typer.Argument(
            help="A FlagScale clone, or a folder of patches (else: the clone around you).",
            metavar="[PATH]",
        ),
    ] = None,
    commit: Annotated[
        str | None,
        typer.Option("--commit", help="The commit to look at (else: HEAD).", metavar="COMMIT"),
    ] = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Reports what is wrong with a FlagScale checkout, or a folder of patches; exits 4 on errors.

    A checkout is read from git's objects, not from its working tree.
    """
    from relforge.patching.flagscale.repository import open_repository
    from relforge.patching.lint.checkout import lint_checkout
    from relforge.patching.lint.series import is_patches_folder, lint_series

    place = workplace(project, site)
    with interruptible() as cancel:
        if is_patches_folder(Path(path or ".")):
            if commit is not None:
                raise RelforgeError(
                    "a folder of patches has no commits",
                    code=ExitCode.USAGE,
                    where=path or ".",
                    hint="leave --commit out, or name a FlagScale clone",
                )
            report = lint_series(Path(path or "."))
        else:
            repository = open_repository(
                path, home=place.home, site=place.site, on_line=to_stderr, cancel=cancel
            )
            report = lint_checkout(repository, commit, home=place.home, cancel=cancel)
    if json_:
        print_json(report.model_dump(mode="json"))
    else:
        sys.stdout.write(_text(report))
    if report.counts.error:
        raise typer.Exit(int(ExitCode.SOURCE))


def _text(report: LintReport) -> str:
    from relforge.patching.lint.model import SEVERITIES

    lines = []
    for severity in SEVERITIES:
        found = [one for one in report.findings if one.severity == severity]
        if not found:
            continue
        lines.append(f"{severity}s ({len(found)})")
        for one in found:
            at = f"{one.path}: " if one.path else ""
            lines += [f"  {at}{one.message} [{one.id}]", f"    next: {one.remedy}"]
        lines.append("")
    counts = report.counts
    at = f" at {report.commit[:12]}" if report.commit else ""
    what = "entries" if report.kind == "checkout" else "patches"
    lines.append(
        f"{report.path}{at}: {counts.entries} {what} looked at; "
        f"{counts.error} errors, {counts.warning} warnings, {counts.note} notes"
    )
    return "\n".join(lines) + "\n"
