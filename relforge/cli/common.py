"""Options and steps that several verbs share."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relforge import redact
from relforge.cancel import CancelToken
from relforge.cli import holding
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.project import Project, builtin_root, find_project
from relforge.manifest.site import Site
from relforge.manifest.site_file import find_site_file, home_folder, load_site
from relforge.workarea import sweep

if TYPE_CHECKING:
    from relforge.manifest.release import Release

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
ChangedSinceOption = Annotated[
    str | None,
    typer.Option(
        "--changed-since",
        help="Only releases that are not what they were at this commit of the project.",
        metavar="REV",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
KeyPathOption = Annotated[
    Path | None,
    typer.Option(
        "--key-path", help="A private key file, or a folder of keys, to open sealed patch sets."
    ),
]
KeyPassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        "--key-passphrase-file",
        help="Its first line opens protected private keys (else the terminal is asked).",
        metavar="FILE",
    ),
]
AllowUnsignedOption = Annotated[
    bool,
    typer.Option(
        "--allow-unsigned",
        help="Open a bundle also when it is unsigned, or signed by somebody not trusted here.",
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
    holding.use(home, to_stderr)
    for area in sweep(home):
        # Whatever a killed run had decrypted goes before anything else happens.
        to_stderr(f"removed {area}, left by a run that was killed")
    return Workplace(found, loaded, site_file, home, dist)


def own_project(place: Workplace, named: Path | None) -> None:
    """Raises RelforgeError (USAGE) where a verb would write into the built-in project unasked."""
    root = place.project.root
    if named is None and root == builtin_root() and not Path.cwd().is_relative_to(root):
        raise RelforgeError(
            "there is no project here to write into",
            code=ExitCode.USAGE,
            where=str(Path.cwd()),
            why="without one the built-in project is used, which comes with the program",
            hint="go to your project, or name it with --project; relforge init makes one",
        )


def all_alone(*others: Sequence[str] | None) -> None:
    """Raises RelforgeError (USAGE) where --all stands beside an option that names some."""
    if any(others):
        raise RelforgeError(
            "--all goes with no --device, --release or --model",
            code=ExitCode.USAGE,
            hint="leave out one or the other",
        )


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
    if everything:
        all_alone(devices, releases, models)
    for name in releases or ():
        chosen[name] = project.release(name)
    if everything:
        # Those of the built-in project come with the program; they are not the user's to build.
        for name in project.own_releases:
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


def chosen_names(
    place: Workplace,
    *,
    devices: list[str] | None,
    releases: list[str] | None,
    models: list[str] | None,
    everything: bool,
    changed_since: str | None,
) -> list[str]:
    """Names of the releases that the options name; with ``changed_since`` those of them that have
    changed, of all where none is named. Raises RelforgeError (USAGE) as ``select`` does, and for a
    commit that git does not know.
    """
    if everything or (changed_since is not None and not (devices or releases or models)):
        all_alone(devices, releases, models)
        names = list(place.project.own_releases)
    else:
        found = select(place.project, devices=devices, releases=releases, models=models)
        names = [release.name for release in found]
    if changed_since is None:
        return names
    from relforge.changed import changed_releases

    return changed_releases(place.project, place.site, names, changed_since, line=to_stderr)


def with_keys(
    place: Workplace, key_path: Path | None, key_passphrase_file: Path | None = None
) -> Workplace:
    """The workplace with the keys of ``--key-path`` before those of the site configuration.

    Says on stderr which of them other users can read.
    """
    changes: dict[str, Any] = {}
    if key_path is not None:
        changes["identities"] = (key_path.absolute(), *place.site.identities)
    if key_passphrase_file is not None:
        changes["key_passphrase_file"] = key_passphrase_file.absolute()
    site = place.site.model_copy(update=changes) if changes else place.site
    warn_of_exposed(*site.identities, passphrase_file=site.key_passphrase_file)
    return replace(place, site=site)


def warn_of_exposed(*keys: Path, passphrase_file: Path | None = None) -> None:
    """One line on stderr for each private key, or passphrase, that other users can read."""
    if not keys and passphrase_file is None:
        return
    from relforge.patching.keys import exposed_keys
    from relforge.patching.keys.passphrase import readable_by_others

    for finding in exposed_keys(keys):
        to_stderr(f"warning: {finding.path}: {finding.problem}; {finding.remedy}")
    if passphrase_file is not None and (mode := readable_by_others(passphrase_file)) is not None:
        to_stderr(
            f"warning: {passphrase_file}: other users of this machine can read the passphrase "
            f"(mode {mode:04o}); chmod 600 {passphrase_file}"
        )


def to_stderr(line: str) -> None:
    """Progress of a verb that runs no pipeline."""
    sys.stderr.write(f"{redact.text(line)}\n")


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    value = _without_secrets(value)
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        text = json.dumps(value, indent=2)  # a file name that is not UTF-8, escaped
    sys.stdout.write(f"{text}\n")


def _without_secrets(value: Any) -> Any:
    """The same; in the texts alone, as a number may hold the digits of a password."""
    if isinstance(value, str):
        return redact.text(value)
    if isinstance(value, dict):
        return {_without_secrets(key): _without_secrets(one) for key, one in value.items()}
    return [_without_secrets(one) for one in value] if isinstance(value, (list, tuple)) else value


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
