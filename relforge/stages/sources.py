"""Sources: upstream trees and wheels at their pins, every one ending in a hash."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from relforge.errors import ExitCode, RelforgeError
from relforge.files import stamp
from relforge.frozen import Frozen, content_key
from relforge.lock import LockedSource, LockedWheels
from relforge.manifest.source import SourceSpec
from relforge.patching.stored import Place, StoredPatches, fetch_place
from relforge.plan import Planning
from relforge.stage import (
    Job,
    Part,
    Resources,
    Skip,
    Stage,
    StageContext,
    StageInputs,
    StageResult,
)

if TYPE_CHECKING:
    from relforge.sources.api import ImportedSource

_GB = 10**9
_SPEC: TypeAdapter[SourceSpec] = TypeAdapter(SourceSpec)


class SourcesInputs(StageInputs):
    """The pins. ``patch_places``: what patch sets are read from, where they lie in a repository."""

    specs: dict[str, Any]
    locked: dict[str, LockedSource]
    wheels: LockedWheels
    build_wheels: LockedWheels
    patch_places: tuple[Place, ...] = ()


class TreeInStore(Frozen):
    """One source in the store. ``file`` is the archive or wheel it came from."""

    name: str
    tree: str
    file: Path | None


class SourcesResult(StageResult):
    """Trees in the store's repository, and two folders of wheels for the build."""

    trees: tuple[TreeInStore, ...]
    wheels: Path
    build_wheels: Path


class Sources(Stage[SourcesInputs, SourcesResult]):
    """Fetches by hash from wherever pip and git are configured to look."""

    name = "sources"
    title = "sources"
    result_type = SourcesResult

    def plan(self, planning: Planning) -> SourcesInputs | Skip:
        release, lock = planning.subject.release, planning.subject.lock
        if not release.sources and not lock.wheels.wheels:
            return Skip(kind="not-needed", reason="the release has no sources")
        return SourcesInputs(
            specs={n: s.model_dump(mode="json") for n, s in sorted(release.sources.items())},
            locked=dict(sorted(lock.sources.items())),
            wheels=lock.wheels,
            build_wheels=lock.build_wheels,
            patch_places=tuple(
                located.patches.place
                for located in planning.subject.patch_sets
                if isinstance(located.patches, StoredPatches)
            ),
        )

    def resources(self, inputs: SourcesInputs) -> Resources:  # noqa: ARG002
        return Resources(cpu_cores=2, disk_bytes=3 * _GB)

    def parts(self, inputs: SourcesInputs) -> tuple[Part, ...]:
        """Each source, each repository of patch sets, each set of wheels."""
        one = Resources(disk_bytes=_GB)
        return (
            *(_part(f"source {name}", raw, one) for name, raw in inputs.specs.items()),
            *(_part(f"patch sets of {place}", place, one) for place in inputs.patch_places),
            *(
                _part("wheels", wheels, one)
                for wheels in (inputs.wheels, inputs.build_wheels)
                if wheels.wheels
            ),
        )

    def run_part(self, part: Part, job: Job[SourcesInputs], ctx: StageContext) -> None:
        inputs = job.inputs
        for name, raw in inputs.specs.items():
            if _part(f"source {name}", raw).key == part.key:
                _import(name, raw, job, ctx)
        for place in inputs.patch_places:
            if _part(f"patch sets of {place}", place).key == part.key:
                _fetch(place, job, ctx)
        for wheels in (inputs.wheels, inputs.build_wheels):
            if _part("wheels", wheels).key == part.key:
                _download(wheels, job, ctx)

    def run(self, job: Job[SourcesInputs], ctx: StageContext) -> SourcesResult:
        from relforge.sources.api import files_of, store_of

        home = job.env.home
        trees = []
        for name, raw in job.inputs.specs.items():
            ctx.cancel.check()
            imported = _import(name, raw, job, ctx)
            locked = job.inputs.locked[name]
            ctx.line(f"{imported.tree}  {name} ({locked.identity})")
            if imported.tree != locked.tree:
                raise RelforgeError(
                    f"source {name} has another tree than the lock pins",
                    code=ExitCode.SOURCE,
                    where=locked.identity,
                    why=f"expected {locked.tree}, found {imported.tree}",
                    hint=f"lock again if that is meant: relforge lock --release {job.env.release}",
                )
            file = None
            if imported.sha256 and imported.file_name:
                file = files_of(home) / imported.sha256 / imported.file_name
            trees.append(TreeInStore(name=name, tree=imported.tree, file=file))
        for place in job.inputs.patch_places:
            ctx.cancel.check()
            _fetch(place, job, ctx)
            ctx.line(f"{place}: patch set")
        houses = [
            _download(wheels, job, ctx) for wheels in (job.inputs.wheels, job.inputs.build_wheels)
        ]
        locked_wheels = (*job.inputs.wheels.wheels, *job.inputs.build_wheels.wheels)
        hashes = {wheel.file_name: wheel.sha256 for wheel in locked_wheels}
        # The store's HEAD never changes; when somebody removed the store, it is gone.
        kept = [store_of(home).git_dir / "HEAD", *(t.file for t in trees if t.file is not None)]
        outputs = (
            *(stamp(path) for path in kept),
            *(
                stamp(path, sha256=hashes.get(path.name))
                for house in houses
                for path in sorted(house.iterdir())
            ),
        )
        return SourcesResult(
            trees=tuple(trees), wheels=houses[0], build_wheels=houses[1], outputs=outputs
        )

    def outcome(self, result: SourcesResult) -> str:
        houses = (result.wheels, result.build_wheels)
        wheels = sum(o.path.parent in houses and o.path.suffix == ".whl" for o in result.outputs)
        return f"{len(result.trees)} trees, {wheels} wheels"


def _part(name: str, made_of: Any, needs: Resources = Resources()) -> Part:  # noqa: B008 (frozen)
    return Part(key=content_key({"stage": "sources", "of": made_of}), name=name, needs=needs)


def _import(name: str, raw: Any, job: Job[SourcesInputs], ctx: StageContext) -> ImportedSource:
    from relforge.sources.api import import_source

    return import_source(
        name,
        _SPEC.validate_python(raw),
        home=job.env.home,
        site=job.env.site,
        ctx_line=ctx.line,
        cancel=ctx.cancel,
    )


def _fetch(place: Place, job: Job[SourcesInputs], ctx: StageContext) -> None:
    env = job.env
    fetch_place(place, home=env.home, site=env.site, ctx_line=ctx.line, cancel=ctx.cancel)


def _download(wheels: LockedWheels, job: Job[SourcesInputs], ctx: StageContext) -> Path:
    from relforge.sources.wheelhouse import download

    env = job.env
    return download(wheels, home=env.home, site=env.site, ctx_line=ctx.line, cancel=ctx.cancel)
