"""The folders of an entry for a device: its description and patches, one folder for a backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import TreeEntry
from relforge.manifest.project import normalised
from relforge.patching.flagscale.diff_yaml import DIFF_YAML, DiffYaml, read_diff_yaml
from relforge.patching.flagscale.early import digits_of, draft_of, yaml_name
from relforge.patching.flagscale.entry import is_patch
from relforge.patching.flagscale.names import ROOT_BACKEND, matching
from relforge.patching.flagscale.repository import Repository


@dataclass(frozen=True)
class Part:
    """One backend's folder of the entry. ``digits`` name the base of an early one.

    ``together`` are the backends of the entry where it is one for all of them.
    """

    backend: str
    where: str
    description: DiffYaml
    patches: tuple[TreeEntry, ...]
    digits: str | None = None
    together: tuple[str, ...] = ()

    @property
    def may_be_rooted(self) -> bool:
        """Whether the patches may be of FlagScale's own files, as they were until May 2025."""
        return self.backend != ROOT_BACKEND and self.backend not in self.description.backends_commit

    @property
    def described_in(self) -> str:
        """The file in which the folder describes itself."""
        return DIFF_YAML if self.digits is None else yaml_name(self.digits)


def parts_of(
    repository: Repository,
    asked: str,
    backends: Sequence[str],
    tasks: Sequence[str],
    commit: str,
) -> tuple[str, tuple[Part, ...]]:
    """The device's own name, and the folders of its entry in a commit. Raises RelforgeError."""
    where = f"{repository.shown}: hardware in {commit[:12]}"
    there = {
        name: repository.folders(commit, f"hardware/{name}")
        for name in repository.folders(commit, "hardware")
        if normalised(name) == normalised(asked)
    }
    fitting = [name for name, found in there.items() if set(backends) <= set(found)]
    device = matching(asked, fitting or there, where=where)
    if device is None:
        raise RelforgeError(
            f"there is no entry of {asked}",
            code=ExitCode.SOURCE,
            where=where,
            why=f"devices there: {', '.join(repository.folders(commit, 'hardware')) or 'none'}",
            hint="correct --device-type, or name the commit that holds the entry with --commit",
        )
    draft = None
    if device not in fitting:
        draft = draft_of(repository, commit, device, tasks, backends)
    if draft is not None:
        where = f"{repository.shown}: {draft.folder} in {commit[:12]}"
        said = DiffYaml(commit=draft.digits, task=(draft.task,))
        one = Part(ROOT_BACKEND, where, said, draft.patches, draft.digits, tuple(backends))
        return device, (one,)
    parts = []
    for backend in backends:
        folder = f"hardware/{device}/{backend}"
        part_where = f"{repository.shown}: {folder} in {commit[:12]}"
        rows = repository.listing(commit, folder)
        if not rows:
            raise RelforgeError(
                f"{device} has no entry for {backend}",
                code=ExitCode.SOURCE,
                where=part_where,
                why=f"it has {', '.join(there[device]) or 'none'}",
                hint="correct --backend, or name the commit that holds the entry with --commit",
            )
        parts.append(_part(repository, device, backend, rows, part_where))
    return device, tuple(parts)


def _part(
    repository: Repository, device: str, backend: str, rows: Sequence[TreeEntry], where: str
) -> Part:
    by_path = {row.path: row for row in rows}
    patches = tuple(by_path[path] for path in sorted(by_path) if is_patch(path))
    digits = digits_of(by_path)
    if DIFF_YAML not in by_path and digits is None:
        raise RelforgeError(
            f"the entry has no {DIFF_YAML}",
            code=ExitCode.SOURCE,
            where=where,
            why="nothing says which state of FlagScale it is made for",
            hint="name a commit with a whole entry: --commit",
        )
    if not patches:
        raise RelforgeError(
            "the entry is empty",
            code=ExitCode.SOURCE,
            where=where,
            why="it holds no *.patch and no *.patch.encrypted",
            hint="name a commit with a whole entry: --commit",
        )
    described_in = DIFF_YAML if digits is None else yaml_name(digits)
    data = b"{}"
    if described_in in by_path:
        ((_, data),) = repository.git.blobs([by_path[described_in]])
    description = read_diff_yaml(data, f"{where}: {described_in}", base=digits)
    made_for = description.device_type
    if made_for is not None and normalised(made_for) != normalised(device):
        raise RelforgeError(
            "the entry is made for another device",
            code=ExitCode.SOURCE,
            where=f"{where}: {described_in}",
            why=f"its device_type is {made_for}",
            hint=f"ask for {made_for}, or have the entry corrected",
        )
    return Part(backend, where, description, patches, digits)
