"""The legacy layout: ``hardware/<device>/<commit8>/<commit8>.patch[.encrypted]``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.project import normalised
from relforge.patching.flagscale.entry import EntryPatches, StoredFile
from relforge.patching.flagscale.found import Found
from relforge.patching.flagscale.names import HETERO, PATCH, SEALED, matching
from relforge.patching.flagscale.repository import Repository

_HETERO_LINE = re.compile(r"^\s*(?P<commit>[0-9a-f]{8,})\s*:\s*(?P<devices>.*\S)\s*$")


def find_legacy(
    repository: Repository,
    devices: Sequence[str],
    commit_id: str,
    *,
    on_line: Callable[[str], None],
) -> tuple[Found, ...]:
    """The entries of one device, or of several that ``hetero.txt`` lists together.

    An entry is taken from the working tree, else from the commit checked out, else from the newest
    commit before it that had one. Raises RelforgeError (SOURCE, USAGE).
    """
    base = repository.resolve(commit_id)
    found = tuple(_find_one(repository, device, base, on_line) for device in devices)
    names = [one.device for one in found]
    for name in names:
        if names.count(name) > 1:
            raise RelforgeError(f"--device-type names {name} twice", code=ExitCode.USAGE)
    if len(found) > 1:
        _check_together(repository, base[:8], names)
    return found


def read_hetero(data: bytes) -> list[tuple[str, tuple[str, ...]]]:
    """The lines ``<commit8>:  A_X100 B_Y100`` of ``hetero.txt``; others are passed over."""
    found = []
    for line in data.decode("utf-8", "replace").splitlines():
        if match := _HETERO_LINE.match(line):
            found.append((match["commit"][:8], tuple(match["devices"].split())))
    return found


def hetero_line(commit8: str, devices: Sequence[str]) -> bytes:
    """A line as FlagScale's tool writes it."""
    return f"{commit8}:  {' '.join(devices)}\n".encode()


def devices_with(repository: Repository, commit8: str) -> dict[str, str]:
    """Device folders that have an entry for a base in the checkout, each with where: a commit.

    An empty text stands for the working tree.
    """
    found: dict[str, str] = {}
    if repository.work_tree is not None:
        for folder in sorted((repository.work_tree / "hardware").glob(f"*/{commit8}")):
            if folder.is_dir():
                found[folder.parent.name] = ""
    for device in repository.folders(repository.head, "hardware"):
        if commit8 in repository.folders(repository.head, f"hardware/{device}"):
            found.setdefault(device, repository.head)
    return found


def _find_one(
    repository: Repository, asked: str, base: str, on_line: Callable[[str], None]
) -> Found:
    commit8 = base[:8]
    there = devices_with(repository, commit8)
    device = matching(asked, there, where=f"{repository.shown}: hardware")
    if device is None:
        earlier = _in_history(repository, asked, commit8)
        if earlier is None:
            raise _no_entry(repository, asked, commit8)
        device, commit = earlier
        on_line(
            f"hardware/{device}/{commit8} is no longer in the checkout; it is taken from commit "
            f"{commit[:12]}, the last one that had it"
        )
        files, where = _committed(repository, commit, device, commit8)
    elif there[device]:
        files, where = _committed(repository, there[device], device, commit8)
    else:
        files, where = _in_work_tree(repository, device, commit8)
    stored = _choose(files, commit8, where, on_line)
    git = repository.git
    return Found(
        device=device,
        patches=EntryPatches(f"{device}/{commit8}", where, (stored,), git),
        git_dir=git.git_dir,
        base_commit=base,
        base_tree=git.tree_of(base),
        epoch=git.commit_epoch(base),
    )


def _in_work_tree(
    repository: Repository, device: str, commit8: str
) -> tuple[dict[str, StoredFile], str]:
    assert repository.work_tree is not None
    folder: Path = repository.work_tree / "hardware" / device / commit8
    files = {file.name: StoredFile(file.name, file) for file in folder.iterdir() if file.is_file()}
    return files, str(folder)


def _committed(
    repository: Repository, commit: str, device: str, commit8: str
) -> tuple[dict[str, StoredFile], str]:
    folder = f"hardware/{device}/{commit8}"
    rows = repository.listing(commit, folder)
    shown = commit if commit == repository.head else commit[:12]
    return {row.path: StoredFile(row.path, row) for row in rows}, (
        f"{repository.shown}: {folder} in {shown}"
    )


def _choose(
    files: dict[str, StoredFile], commit8: str, where: str, on_line: Callable[[str], None]
) -> StoredFile:
    plain, sealed = files.get(commit8 + PATCH), files.get(commit8 + SEALED)
    if sealed is not None and plain is not None:
        # FlagScale's tool leaves what it decrypted; taking it would make any key the right one.
        on_line(
            f"warning: {plain.name} lies decrypted beside the sealed patch in {where}; it is not "
            "used. FlagScale's tool leaves such files: remove it"
        )
    chosen = sealed or plain
    if chosen is None:
        raise RelforgeError(
            "the entry is empty" if not files else "the entry has no patch",
            code=ExitCode.SOURCE,
            where=where,
            why=f"it should hold {commit8}{PATCH} or {commit8}{SEALED}"
            + (f"; it holds {', '.join(sorted(files)[:5])}" if files else ""),
            hint="ask the device's vendor, or fetch the repository again",
        )
    return chosen


def _in_history(repository: Repository, asked: str, commit8: str) -> tuple[str, str] | None:
    """The device's folder and the newest commit that had the entry."""
    done = repository.git.run(
        *("log", "--format=%x01%H", "--name-status", "--no-renames", "-m", "--first-parent"),
        *(repository.head, "--", f":(glob)hardware/*/{commit8}/*"),
        check=False,
    )
    commit, found = "", {}
    for row in done.stdout.decode("utf-8", "replace").splitlines():
        if row.startswith("\x01"):
            commit = row[1:]
        elif row.strip():
            status, _, path = row.partition("\t")
            device = path.split("/")[1]
            if normalised(device) == normalised(asked) and device not in found:
                found[device] = f"{commit}^" if status == "D" else commit
    device = matching(asked, found, where=f"{repository.shown}: hardware") or ""
    if not device:
        return None
    return device, repository.git.text("rev-parse", "--verify", found[device])


def _check_together(repository: Repository, commit8: str, names: Sequence[str]) -> None:
    listed = repository.read_current(HETERO)
    lines = read_hetero(listed[0]) if listed else []
    asked = {normalised(name) for name in names}
    for commit, devices in lines:
        if commit == commit8 and asked <= {normalised(device) for device in devices}:
            return
    here = [f"{c}: {' '.join(d)}" for c, d in lines if c == commit8]
    raise RelforgeError(
        "these devices are not made to work together",
        code=ExitCode.SOURCE,
        where=listed[1] if listed else f"{repository.shown}: {HETERO}",
        why=f"no line for {commit8} lists {' and '.join(names)}; it has "
        + ("; ".join(here) or "none for this commit")
        if listed
        else "the repository has no such file, which would list them together",
        hint="ask for one device at a time, or have the vendor publish them together "
        "(relforge patch --device-type A B)",
    )


def _no_entry(repository: Repository, asked: str, commit8: str) -> RelforgeError:
    devices = {
        name
        for name in (
            *repository.folders(repository.head, "hardware"),
            *_folders_in(repository.work_tree),
        )
        if normalised(name) == normalised(asked)
    }
    bases = sorted(
        {
            base
            for name in devices
            for base in repository.folders(repository.head, f"hardware/{name}")
        }
    )
    return RelforgeError(
        f"there is no patch of {asked} for {commit8}",
        code=ExitCode.SOURCE,
        where=f"{repository.shown}: hardware",
        why=f"{', '.join(sorted(devices))} has {', '.join(bases) or 'nothing'}"
        if devices
        else f"no folder there is called {asked}, in any spelling",
        hint=f"git -C {repository.shown} log --all --oneline -- 'hardware/*/{commit8}'",
    )


def _folders_in(work_tree: Path | None) -> list[str]:
    hardware = work_tree / "hardware" if work_tree is not None else None
    if hardware is None or not hardware.is_dir():
        return []
    return [one.name for one in hardware.iterdir() if one.is_dir()]
