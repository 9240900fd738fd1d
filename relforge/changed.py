"""Which releases are not what they were at an earlier commit: by their content keys.

A release is changed when any of its stages has another key now: whatever was edited, manifest,
lock, device, template or patch set, shows in a key, and what shows in none changes nothing. A plan
takes milliseconds, and hundreds of them seconds; so a release of which git says that no file it can
read is another one is not planned at all, and of the others the project as it was is laid out in a
work area and planned there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from relforge.ci.shell import FOLDER
from relforge.errors import RelforgeError
from relforge.evidence.store import Store
from relforge.executor.forked import in_slices, rare_collections
from relforge.manifest.earlier import earlier
from relforge.manifest.project import Project, normalised
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.manifest.site_file import home_folder
from relforge.pipeline import STAGES
from relforge.plan import make_plan
from relforge.subject import subject
from relforge.workarea import work_area

_OF_THIS_HOST = frozenset(stage.name for stage in STAGES if stage.check_only)
_LOCK = ".lock"


def changed_releases(
    project: Project,
    site: Site,
    names: Sequence[str],
    revision: str,
    *,
    line: Callable[[str], None] = lambda _line: None,
) -> list[str]:
    """Those of ``names`` that ``revision`` (of the project's git repository) did not have as they
    are now; ``line`` is told why. One with another file that cannot be planned, then or now, counts
    as changed.

    Raises RelforgeError (USAGE) for a revision or a project that git does not know.
    """
    with earlier(project, revision) as then:
        touched = touched_releases(project, names, then.differing())
        if not touched:
            return []
        with work_area(home_folder(site), "changed") as area:
            before = then.laid_out(area / "project")
            found = _changed(project, before, site, Store(area), touched)
    for name, why in found:
        line(f"{name}: {why}")
    return [name for name, _why in found]


def _changed(
    project: Project, before: Project, site: Site, store: Store, names: Sequence[str]
) -> list[tuple[str, str]]:
    def work(part: Sequence[str]) -> list[tuple[str, str]]:
        told = ((name, _why(name, project, before, site, store)) for name in part)
        return [(name, why) for name, why in told if why is not None]

    # What the first one loads, the processes of the others share.
    found = work(names[:1])
    with rare_collections():
        for part in in_slices(names[1:], work):
            found += part
    return found


def _why(name: str, project: Project, before: Project, site: Site, store: Store) -> str | None:
    if name not in before.release_files:
        return "new"
    try:
        new = _keys(name, project, site, store)
    except RelforgeError as error:
        return f"cannot be planned: {error.what}"
    try:
        old = _keys(name, before, site, store)
    except RelforgeError:
        return "could not be planned then"
    stages = [stage.name for stage in STAGES if new.get(stage.name) != old.get(stage.name)]
    return f"other inputs of {stages[0]}" if stages else None


def _keys(name: str, project: Project, site: Site, store: Store) -> Mapping[str, str]:
    found = subject(project, project.release(name), site)
    # What is said of a release names the very file of a bundle, whose ciphertext is another one
    # whenever it is sealed; the release is its content.
    contents = tuple(replace(one, where=one.content_sha256) for one in found.patch_sets)
    plan = make_plan(replace(found, patch_sets=contents), STAGES, store)
    return {s.name: s.key for s in plan.stages if s.key and s.name not in _OF_THIS_HOST}


def touched_releases(project: Project, names: Sequence[str], files: Iterable[str]) -> list[str]:
    """Those of ``names`` that may read one of ``files``, paths in the project: all of them, unless
    it is known whose a file is."""
    touch = _Touch(project, names)
    found: set[str] = set()
    for file in files:
        found |= touch.by(PurePosixPath(file))
        if len(found) == len(touch.names):
            break
    return [name for name in names if name in found]


class _Touch:
    """Whose a file is."""

    def __init__(self, project: Project, names: Sequence[str]) -> None:
        self.project = project
        self.names = frozenset(names)
        self._read: dict[str, Release | None] | None = None

    def by(self, file: PurePosixPath) -> frozenset[str]:
        match file.parts:
            case ("manifests", "releases", _) if file.suffix == ".yaml":
                return self.names & {file.stem.removesuffix(_LOCK)}
            case ("manifests", "models", _) if file.suffix == ".yaml":
                return self._of_model(file.stem)
            case ("manifests", "devices", _) if file.suffix == ".yaml":
                return self._of_device(file.stem)
            case ("manifests", "schema", *_) | (".github", *_) | (".gitlab-ci.yml",):
                return frozenset()
            case (folder, *_) if folder == FOLDER:
                return frozenset()  # what a job of a CI has just written
            case ("manifests" | "dockerfiles", *_):
                return self.names
        if file.suffix == ".md":
            return frozenset()  # for people: nothing is made of it
        return self._of_patch_set(file) or self.names

    def _of_model(self, name: str) -> frozenset[str]:
        try:
            named = any(one.model == name for one in self.project.references)
        except RelforgeError:
            named = True
        # A reference counts for every model that was made from its own.
        return self.names if named else self._where(lambda one: one.model == name)

    def _of_device(self, name: str) -> frozenset[str]:
        known = {normalised(stem) for stem in self.project.device_files}
        wanted = normalised(name)
        # One that is named by an alias is looked for in every device.
        return self._where(
            lambda one: (device := normalised(one.device)) == wanted or device not in known
        )

    def _of_patch_set(self, file: PurePosixPath) -> frozenset[str]:
        def reads(release: Release) -> bool:
            paths = (one.path for one in release.patches if one.repository is None)
            return any(file.is_relative_to(path) for path in paths)

        return self._where(reads, unread=False)

    def _where(self, reads: Callable[[Release], bool], *, unread: bool = True) -> frozenset[str]:
        """The releases that fit, and, with ``unread``, those that cannot be read."""
        if self._read is None:
            self._read = {name: self._release(name) for name in sorted(self.names)}
        return frozenset(
            name for name, one in self._read.items() if (unread if one is None else reads(one))
        )

    def _release(self, name: str) -> Release | None:
        try:
            return self.project.release(name)
        except RelforgeError:
            return None
