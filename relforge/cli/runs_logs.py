"""``relforge runs logs``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import ProjectOption, SiteOption, to_stderr, workplace
from relforge.cli.runs_list import RunArgument
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.reading_runs import as_told, load_run, owner_gone
from relforge.evidence.run_folder import log_path
from relforge.evidence.runs import ReleaseRun, Run


def logs(
    run: RunArgument,
    release: Annotated[
        str | None, typer.Argument(help="Of this release of the run.", metavar="[RELEASE]")
    ] = None,
    stage: Annotated[str | None, typer.Argument(help="Of this stage.", metavar="[STAGE]")] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Print what happens until the run ends."),
    ] = False,
    errors: Annotated[
        bool,
        typer.Option("--errors", help="Of every release that failed: its error and that log."),
    ] = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Prints the log of a stage: the one that failed, else the newest.

    Of a run of one release the stage alone may be named. --follow reads what happens, across all
    stages and releases, until the run ends, and exits with 0 however that was.
    """
    home = workplace(project, site).home
    found = load_run(home, run)
    folder = home / "runs" / found.id
    told, at_work = as_told(found, folder) if found.state == "running" else (found, {})
    if release is not None and stage is None and len(told.releases) == 1:
        only = told.releases[0]
        if release != only.release and release in _logged(folder, only):
            release, stage = only.release, release
    if release is not None:
        from relforge.history.showing import of_release

        release = of_release(told, release).release
    if follow:
        if errors:
            raise RelforgeError(
                "--errors goes with no --follow", code=ExitCode.USAGE, hint="leave out one of them"
            )
        _follow(folder, release, stage)
        return
    chosen = [one for one in told.releases if release in (None, one.release)]
    if errors:
        _errors(folder, chosen, stage)
        return
    one, name = _which(told, folder, chosen, at_work, stage)
    others = [other.release for other in chosen if other.error is not None]
    if len(chosen) > 1:
        to_stderr(f"{name} of {one.release}")
        if len(others) > 1:
            to_stderr(f"{len(others)} releases failed: relforge runs logs {told.id} --errors")
    _print(_log(folder, one, name, told))


def _which(
    run: Run, folder: Path, chosen: list[ReleaseRun], at_work: dict[str, str], stage: str | None
) -> tuple[ReleaseRun, str]:
    """The release and stage whose log is meant."""
    if stage is not None:
        if len(chosen) > 1:
            raise RelforgeError(
                f"run {run.id} is of {len(chosen)} releases: of which one?",
                code=ExitCode.USAGE,
                hint=f"relforge runs logs {run.id} {chosen[0].release} {stage}",
            )
        return chosen[0], stage
    for one in chosen:
        for entry in one.stages:
            if entry.status == "failed" and log_path(folder, one.release, entry.name).exists():
                return one, entry.name
    written = [
        (log_path(folder, one.release, name).stat().st_mtime_ns, number, name)
        for number, one in enumerate(chosen)
        for name in _logged(folder, one)
    ]
    if not written:
        raise RelforgeError(
            f"run {run.id} wrote no log" + (f" of {chosen[0].release}" if len(chosen) == 1 else ""),
            code=ExitCode.USAGE,
            where=str(folder),
            why=_why_none(chosen, at_work),
            hint=f"relforge runs show {run.id}",
        )
    _, number, name = max(written)
    return chosen[number], name


def _why_none(chosen: list[ReleaseRun], at_work: dict[str, str]) -> str:
    named = {entry.status for one in chosen for entry in one.stages}
    if at_work:
        return "its stages have not said anything yet"
    return "every stage was reused or skipped" if named else "no stage of it was begun"


def _logged(folder: Path, one: ReleaseRun) -> list[str]:
    """The stages of a release, and its servers and builds, that wrote a log."""
    place = log_path(folder, one.release, "any").parent
    older = folder / "logs"
    return sorted(path.stem for path in (older if older.is_dir() else place).glob("*.log"))


def _log(folder: Path, one: ReleaseRun, name: str, run: Run) -> Path:
    path = log_path(folder, one.release, name)
    if not path.exists():
        import difflib

        known = _logged(folder, one)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        raise RelforgeError(
            f"there is no log of {name!r} of {one.release} in run {run.id}",
            code=ExitCode.USAGE,
            where=str(path.parent),
            why=f"there are: {', '.join(known) or 'none'}",
            hint=f"relforge runs logs {run.id} {one.release} {near[0]}"
            if near
            else f"relforge runs show {run.id}",
        )
    return path


def _errors(folder: Path, chosen: list[ReleaseRun], stage: str | None) -> None:
    for one in chosen:
        if one.error is None:
            continue
        failed = [entry.name for entry in one.stages if entry.status == "failed"]
        if stage is not None and stage not in failed:
            continue
        sys.stdout.write(f"==> {one.release}: {one.error}\n")
        for name in failed:
            path = log_path(folder, one.release, name)
            if path.exists():
                sys.stdout.write(f"==> {path}\n")
                _print(path)


def _print(path: Path) -> None:
    sys.stdout.flush()
    with path.open("r", encoding="utf-8", errors="replace") as log:
        shutil.copyfileobj(log, sys.stdout)


def _follow(folder: Path, release: str | None, stage: str | None) -> None:
    from relforge.history.following import Lines, events

    lines = Lines(release=release, stage=stage)
    try:
        for event in events(folder):
            for line in lines(event):
                sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    except KeyboardInterrupt:
        return  # the reader has seen enough; the run goes on
    if owner_gone(folder) and (run := load_run(folder.parents[1], folder.name)).state == "killed":
        to_stderr(f"the run is gone: {run.error}")
