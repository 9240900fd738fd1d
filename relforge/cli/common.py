"""Options and steps that several verbs share."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.project import (
    Project,
    builtin_root,
    find_project,
    find_site_file,
    home_folder,
    load_site,
)
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.patching.workarea import sweep
from relforge.stage import CancelToken

ProjectOption = Annotated[
    Path | None, typer.Option("--project", help="The project folder.", metavar="DIR")
]
SiteOption = Annotated[
    Path | None, typer.Option("--site", help="The site configuration.", metavar="FILE")
]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option("--device", "-d", help="A device: its default release.", metavar="NAME"),
]
ReleaseOption = Annotated[
    list[str] | None, typer.Option("--release", "-r", help="A release by name.", metavar="NAME")
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="Only releases of this model.", metavar="NAME"),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every release of the project.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
KeyPathOption = Annotated[
    Path | None,
    typer.Option(
        "--key-path", help="A private key file, or a folder of keys, to open sealed patch sets."
    ),
]


# A closed terminal ends a run like Ctrl-C does: containers and decrypted files go.
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Workplace:
    """The project, the site configuration and the home in force."""

    project: Project
    site: Site
    site_file: Path | None
    home: Path
    dist: Path


def workplace(project: Path | None, site: Path | None) -> Workplace:
    """Finds project, site configuration and home from where the user stands."""
    found = find_project(Path.cwd(), project)
    site_file = find_site_file(found, site)
    loaded = load_site(site_file)
    dist = loaded.dist or Path.cwd() / "dist"
    home = home_folder(loaded)
    if found.root == builtin_root() and not Path.cwd().is_relative_to(found.root):
        to_stderr(f"no project here: using the built-in one at {found.root}")
    for area in sweep(home):
        # Whatever a killed run had decrypted goes before anything else happens.
        to_stderr(f"removed {area}, left by a run that was killed")
    return Workplace(found, loaded, site_file, home, dist)


def select(
    project: Project,
    *,
    devices: list[str] | None,
    releases: list[str] | None,
    models: list[str] | None,
    everything: bool = False,
) -> list[Release]:
    """The releases that the options name, each once. Raises RelforgeError (USAGE) for none."""
    chosen: dict[str, Release] = {}
    for name in releases or ():
        chosen[name] = project.release(name)
    if everything:
        for name in project.release_files:
            chosen.setdefault(name, project.release(name))
    named = [project.device(name) for name in devices or ()]
    for release in list(chosen.values()) if releases and named else ():
        if project.device(release.device) not in named:
            raise RelforgeError(
                f"release {release.name} is not for the named device",
                code=ExitCode.USAGE,
                why=f"it is for {release.device}",
                hint="name the release alone",
            )
    wanted = {project.model(name).name for name in models or ()}
    if wanted:
        for name in project.release_files:
            release = project.release(name)
            fits = not named or project.device(release.device) in named
            if release.model in wanted and fits:
                chosen.setdefault(name, release)
    elif not releases:
        for device in named:
            release = project.default_release(device)
            chosen.setdefault(release.name, release)
    if not chosen:
        raise RelforgeError(
            "no release is named" if not wanted else "no release fits --device and --model",
            code=ExitCode.USAGE,
            hint="name one with --device or --release, or all with --all; list: relforge devices",
        )
    return list(chosen.values())


def to_stderr(line: str) -> None:
    """Progress of a verb that runs no pipeline."""
    sys.stderr.write(f"{line}\n")


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def interruptible() -> Iterator[CancelToken]:
    """A cancel token that Ctrl-C, SIGTERM and SIGHUP set; a second signal stops at once."""
    token = CancelToken()

    def handler(number: int, _frame: FrameType | None) -> None:
        if token.cancelled:
            raise KeyboardInterrupt
        sys.stderr.write("stopping (again to stop at once) ...\n")
        token.cancel(signal.Signals(number).name)

    before = {s: signal.signal(s, handler) for s in _ENDING_SIGNALS}
    try:
        yield token
    finally:
        for number, old in before.items():
            signal.signal(number, old)
