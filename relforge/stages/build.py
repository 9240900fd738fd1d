"""Build: one OCI image layout, whose manifest digest is the release's identity from here on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Store
from relforge.files import stamp
from relforge.frozen import Frozen, content_key, sha256_hex
from relforge.manifest.facts import BaseImage
from relforge.manifest.fileversion import known_files
from relforge.manifest.project import Project
from relforge.manifest.release import Compiled, Precompiled
from relforge.plan import Planning, Subject
from relforge.rendering import labels
from relforge.stage import Job, Resources, Skip, Stage, StageContext, StageInputs, StageResult
from relforge.stages.sources import SourcesResult
from relforge.trees import TreeRequest, checked_out
from relforge.ui.text import size

_GB = 10**9
TOOLS = "dockerfiles/tools"


class BuiltPackage(Frozen):
    """How one package got into the image; the record keeps it, the card words it."""

    source: str
    distribution: str
    tree: str
    native: str
    """``compiled`` here, ``precompiled`` elsewhere, ``prebuilt`` as a whole, or ``none``."""
    native_from: str | None = None
    """For precompiled code: the wheel it came from, with its sha256."""

    def describe(self) -> str:
        """One phrase for a table."""
        if self.native == "precompiled":
            return f"precompiled, from {self.native_from}"
        return {
            "compiled": "compiled in this build",
            "prebuilt": "prebuilt wheel, packed again",
            "none": "none",
        }[self.native]


class BuildInputs(StageInputs):
    """Everything that decides the image's bytes, as far as relforge controls it."""

    dockerfile_sha256: str
    architecture: str
    base: dict[str, Any]
    base_choice: str
    trees: dict[str, str]
    packages: tuple[BuiltPackage, ...]
    files: dict[str, str]
    """Wheels that enter as they are: source name and sha256."""
    wheels_sha256: str
    build_wheels_sha256: str
    tools: dict[str, str]
    source_date_epoch: int
    labels: dict[str, str]
    image_name: str
    pip_check_exceptions: tuple[str, ...]
    sealed_sources: tuple[str, ...]
    unshipped: tuple[str, ...]
    """Patched sources whose Python files the image may not ship."""


class BuildResult(StageResult):
    """The image. ``outputs`` are the blobs of its layout."""

    layout: Path
    image_name: str
    image_digest: str
    config_digest: str
    compressed_bytes: int
    unpacked_bytes: int
    architecture: str
    created: str
    labels: dict[str, str]
    layers: tuple[str, ...]
    base_how: str
    base_digest: str
    packages: tuple[BuiltPackage, ...]
    python: str
    python_packages: dict[str, str]
    debian_packages: dict[str, str]
    pip_check: tuple[str, ...]
    rebuild: str


class Build(Stage[BuildInputs, BuildResult]):
    """BuildKit through ``docker buildx``; sources enter as bind-mounted named contexts."""

    name = "build"
    title = "image build"
    needs = ("sources", "render", "unpatch")
    result_type = BuildResult

    def plan(self, planning: Planning) -> BuildInputs | Skip:
        from relforge.stages.render import RenderInputs

        subject = planning.subject
        release, lock = subject.release, subject.lock
        rendered = cast(RenderInputs, planning.inputs["render"])
        packages = tuple(self._packages(planning))
        used = {p.source for p in packages}
        for package in release.build.packages:
            if isinstance(package.native, Compiled):
                used.update(package.native.extra_sources)
        files = {
            package.native.wheel: lock.sources[package.native.wheel].sha256 or ""
            for package in release.build.packages
            if isinstance(package.native, Precompiled)
        }
        return BuildInputs(
            dockerfile_sha256=sha256_hex(rendered.dockerfile.encode()),
            architecture=subject.device.architecture,
            base=subject.device.base.model_dump(mode="json"),
            base_choice=subject.site.base_image,
            trees={name: lock.tree(name) for name in sorted(used)},
            packages=packages,
            files=files,
            wheels_sha256=content_key(lock.wheels),
            build_wheels_sha256=content_key(lock.build_wheels),
            tools=known_files(subject.project.path(TOOLS)),
            source_date_epoch=lock.source_date_epoch,
            labels=labels(subject),
            image_name=f"relforge/{release.name.lower()}:{content_key(lock)[:12]}",
            pip_check_exceptions=tuple(
                e.complaint for e in release.build.python.pip_check_exceptions
            ),
            sealed_sources=tuple(
                sorted(p.source for p in subject.patch_sets if p.sealed and p.source in used)
            ),
            unshipped=tuple(sorted(p.source for p in release.patches if p.ships != "python")),
        )

    def key(self, inputs: BuildInputs) -> str:
        # Sealed or plain, the tree is the same, and so is what is built of it.
        return super().key(inputs.model_copy(update={"sealed_sources": ()}))

    def _packages(self, planning: Planning) -> Iterator[BuiltPackage]:
        lock = planning.subject.lock
        for package in planning.subject.release.build.packages:
            native_from = None
            if isinstance(package.native, Precompiled):
                wheel = lock.sources[package.native.wheel]
                native_from = f"{wheel.file_name} (sha256 {wheel.sha256})"
            yield BuiltPackage(
                source=package.source,
                distribution=package.distribution,
                tree=lock.tree(package.source),
                native="prebuilt" if package.prebuilt else package.native.mode,
                native_from=native_from,
            )

    def resources(self, inputs: BuildInputs) -> Resources:  # noqa: ARG002
        return Resources(
            cpu_cores=2,
            memory_bytes=4 * _GB,
            disk_bytes=3 * _GB,
            engine_disk_bytes=8 * _GB,
            engine=True,
        )

    def secrets(self, inputs: BuildInputs, subject: Subject) -> tuple[str, ...]:  # noqa: ARG002
        return ("identities",) if inputs.sealed_sources else ()

    def run(self, job: Job[BuildInputs], ctx: StageContext) -> BuildResult:
        from relforge.engine.base_image import ensure_base
        from relforge.engine.buildx import BuildRequest, build, export_target

        inputs, env = job.inputs, job.env
        base_spec = BaseImage.model_validate(inputs.base)
        base = ensure_base(
            base_spec,
            architecture=inputs.architecture,
            site=env.site,
            home=env.home,
            ctx_line=ctx.line,
            cancel=ctx.cancel,
        )
        suite = base_spec.bootstrap.suite if base_spec.bootstrap else ""
        with _contexts(job, ctx) as contexts, _apt_secret(suite, job) as secrets:
            request = BuildRequest(
                dockerfile=job.upstream["render"].outputs[0].path,
                context=env.run_dir / "empty-context",
                contexts=contexts,
                args={"BASE_IMAGE": base.reference},
                secrets=secrets,
                target="image",
                source_date_epoch=inputs.source_date_epoch,
                image_name=inputs.image_name,
                layout=Store(env.home).folder("build", job.key) / "image",
                log=env.run_dir / "logs" / "buildkit.log",
            )
            with _pruned_afterwards(inputs, job, ctx):
                report = json.loads(
                    export_target(
                        request,
                        target="report",
                        dest=env.run_dir / "report",
                        site=env.site.engine,
                        ctx_line=ctx.line,
                        cancel=ctx.cancel,
                    )
                    .joinpath("report.json")
                    .read_bytes()
                )
                _check_pip(report["pip_check"], inputs.pip_check_exceptions, env.release)
                built = build(request, site=env.site.engine, ctx_line=ctx.line, cancel=ctx.cancel)
        from relforge.engine.images import unpacked_bytes

        return BuildResult(
            layout=built.layout,
            image_name=built.image_name,
            image_digest=built.image_digest,
            config_digest=built.image.config_digest,
            compressed_bytes=built.image.size_bytes,
            unpacked_bytes=unpacked_bytes(built.engine_image_id, built.image, site=env.site.engine),
            architecture=built.image.architecture,
            created=built.image.created or inputs.labels["org.opencontainers.image.created"],
            labels=built.image.labels,
            layers=tuple(layer.digest for layer in built.image.layers),
            base_how=base.how,
            base_digest=base.digest,
            packages=inputs.packages,
            python=report["python"],
            python_packages=report["packages"],
            debian_packages=report["debian"],
            pip_check=tuple(report["pip_check"]["complaints"]),
            rebuild=built.rebuild_script,
            outputs=tuple(
                stamp(path, sha256=path.name if len(path.name) == 64 else None)
                for path in sorted(built.layout.rglob("*"))
                if path.is_file()
            ),
        )

    def outcome(self, result: BuildResult) -> str:
        return f"{result.image_digest[:19]}, {size(result.compressed_bytes)}"


def _pruned_afterwards(
    inputs: BuildInputs, job: Job[BuildInputs], ctx: StageContext
) -> AbstractContextManager[None]:
    """Takes sealed sources out of BuildKit's cache; what the image ships anyway may stay."""
    from relforge.engine.sealed_cache import pruned_afterwards

    kept_back = set(inputs.sealed_sources) & set(inputs.unshipped)
    return pruned_afterwards(
        inputs.sealed_sources,
        steps=tuple(f"target=/src/{name}" for name in sorted(kept_back)),
        home=job.env.home,
        site=job.env.site.engine,
        line=ctx.line,
    )


@contextmanager
def _contexts(job: Job[BuildInputs], ctx: StageContext) -> Iterator[dict[str, Path]]:
    """The named build contexts; patched trees exist only while this is open."""
    sources = cast(SourcesResult, job.upstream["sources"])
    files = {tree.name: tree.file for tree in sources.trees}
    project = Project(job.env.project_roots)
    with ExitStack() as stack:
        area = stack.enter_context(
            checked_out(
                [TreeRequest(name=n, tree=t) for n, t in job.inputs.trees.items()],
                job=job,
                epoch=job.inputs.source_date_epoch,
                ctx=ctx,
            )
        )
        contexts = {name: area / name for name in job.inputs.trees}
        for name in job.inputs.files:
            file = files[name]
            assert file is not None
            # The folder of the file store holds this one file, under its own name.
            contexts[name] = file.parent
        contexts["wheels"] = sources.wheels
        contexts["build-wheels"] = sources.build_wheels
        contexts["tools"] = project.path(TOOLS)
        yield contexts


@contextmanager
def _apt_secret(suite: str, job: Job[BuildInputs]) -> Iterator[dict[str, Path]]:
    """The site's Debian mirror for build steps; a secret mount leaves no trace in any layer."""
    from relforge.engine.apt import SECRET_ID, build_sources
    from relforge.workarea import work_area

    text = build_sources(suite, job.env.site) if suite else None
    if text is None:
        yield {}
        return
    # In a work area, so that credentials in it go after kill -9 too.
    with work_area(job.env.home, "apt") as area:
        path = area / "apt-sources.list"
        path.write_text(text)
        yield {SECRET_ID: path}


def _check_pip(check: dict[str, Any], accepted: tuple[str, ...], release: str) -> None:
    complaints = set(check["complaints"])
    unknown = sorted(complaints - set(accepted))
    stale = sorted(set(accepted) - complaints)
    if not unknown and not stale:
        return
    why = [f"not listed: {c}" for c in unknown] + [f"listed, but not found: {c}" for c in stale]
    raise RelforgeError(
        "pip check inside the image does not say what the manifest lists",
        code=ExitCode.BUILD,
        where=f"release {release}, build.python.pip_check_exceptions",
        why="\n".join(why),
        hint="correct the packages, or list the complaint with the reason why it is harmless",
    )
