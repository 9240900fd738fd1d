"""Weights: every file of the model on this host, hashed against its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Store
from relforge.files import Output, stamp
from relforge.frozen import Frozen
from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.project import Project
from relforge.manifest.weights import LocalWeights, OnRequestWeights, PinnedFile, ServerWeights
from relforge.plan import Planning, Subject
from relforge.stage import Job, Skip, Stage, StageContext, StageInputs, StageResult
from relforge.ui.text import size


class WeightFile(Frozen):
    """One pinned file."""

    path: str
    sha256: str


class WeightsInputs(StageInputs):
    """The model and its pinned files, whose hashes decide; none where nothing is pinned."""

    model: str
    files: tuple[WeightFile, ...]

    @property
    def hashes(self) -> dict[str, str]:
        return {file.path: file.sha256 for file in self.files}


class LocalInputs(WeightsInputs):
    """``folder`` is relative to the project."""

    folder: str


class HubInputs(WeightsInputs):
    """One revision of one repository; ``sizes`` in bytes, in the order of ``files``."""

    hub: Literal["huggingface", "modelscope"]
    repository: str
    revision: str
    sizes: tuple[int, ...]

    @property
    def pinned(self) -> dict[str, PinnedFile]:
        return {
            file.path: PinnedFile(sha256=file.sha256, size_bytes=size_bytes)
            for file, size_bytes in zip(self.files, self.sizes, strict=True)
        }


class OnRequestInputs(WeightsInputs):
    """Whom to ask for what.

    ``seen`` is empty where files are pinned. Else it has path, size and mtime of each file in the
    folder that the site configuration names: nothing better tells that other weights lie there.
    """

    contact: str
    ask_for: str
    seen: tuple[tuple[str, int, int], ...] = ()


class ServerInputs(WeightsInputs):
    """What the server fetches itself."""

    what: str


class WeightsResult(StageResult):
    """Where the weights lie on this host: ``outputs`` are the files of ``folder`` that are served.

    ``verified`` False: the manifest pins no hash, so nobody can say whether these are the right
    files; ``found`` then has the hashes that they had.
    """

    folder: Path
    total_bytes: int
    verified: bool = True
    origin: str = ""
    found: tuple[WeightFile, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The files' paths in ``folder``: what a server gets, and nothing else."""
        return tuple(str(output.path.relative_to(self.folder)) for output in self.outputs)


class Weights(Stage[WeightsInputs, WeightsResult]):
    """From the project, a hub, or the folder that the site configuration names for the model."""

    name = "weights"
    title = "weights"
    result_type = WeightsResult

    def plan(self, planning: Planning) -> WeightsInputs | Skip:
        subject = planning.subject
        model, weights = subject.model.name, subject.model.weights
        files = tuple(
            WeightFile(path=path, sha256=digest) for path, digest in sorted(weights.files.items())
        )
        if isinstance(weights, LocalWeights):
            return LocalInputs(model=model, files=files, folder=weights.path)
        if isinstance(weights, OnRequestWeights):
            return OnRequestInputs(
                model=model,
                files=files,
                contact=weights.contact,
                ask_for=weights.ask_for,
                seen=() if files else _seen(subject.site.weights.get(model), model),
            )
        if isinstance(weights, ServerWeights):
            return ServerInputs(model=model, files=(), what=weights.what)
        return HubInputs(
            model=model,
            files=files,
            hub=weights.kind,
            repository=weights.repository,
            revision=weights.revision,
            sizes=tuple(weights.pinned[file.path].size_bytes for file in files),
        )

    def run(self, job: Job[WeightsInputs], ctx: StageContext) -> WeightsResult:
        inputs = job.inputs
        if isinstance(inputs, ServerInputs):
            return _by_server(inputs, job, ctx)
        if (folder := job.env.site.weights.get(inputs.model)) is not None:
            return _from_site(job, ctx, folder)
        if isinstance(inputs, LocalInputs):
            return _result(
                Project(job.env.project_roots).path(inputs.folder),
                _hashed(job, ctx, Project(job.env.project_roots).path(inputs.folder)),
                origin=f"the project's folder {inputs.folder}",
            )
        if isinstance(inputs, HubInputs):
            return _from_hub(inputs, job, ctx)
        assert isinstance(inputs, OnRequestInputs)
        raise RelforgeError(
            f"weights of {inputs.model} are given out on request",
            code=ExitCode.SOURCE,
            where=f"model {inputs.model}, weights",
            why="the site configuration names no folder that holds them",
            hint=f"ask {inputs.contact} for {inputs.ask_for}; then add to "
            f"{job.env.site.file or 'the site configuration'}: "
            f"weights: {{{inputs.model}: /folder/of/the/files}}",
        )

    def unusable(self, result: WeightsResult, subject: Subject) -> str | None:
        named = subject.site.weights.get(subject.model.name)
        if named is not None and named != result.folder:
            return "the site configuration names another folder"
        weights = subject.model.weights
        if named is None and isinstance(weights, LocalWeights):
            # Another copy of the project may have left them, whose files are not this one's.
            try:
                here = subject.project.path(weights.path)
            except RelforgeError:
                return "the project's folder is not there"
            if here != result.folder:
                return "another copy of the project left them"
        return None

    def outcome(self, result: WeightsResult) -> str:
        text = f"{len(result.outputs)} files, {size(result.total_bytes)}"
        return text if result.verified else f"{text}; {result.reason}"


def _by_server(inputs: ServerInputs, job: Job[WeightsInputs], ctx: StageContext) -> WeightsResult:
    """An empty folder, or one with what the server fetched before."""
    own = job.env.home / "server-weights" / inputs.model
    folder = job.env.site.weights.get(inputs.model, own)
    folder.mkdir(parents=True, exist_ok=True)
    reason = f"not verified: the server fetches {inputs.what} itself"
    ctx.line(f"{folder}: {reason}")
    return WeightsResult(
        folder=folder, total_bytes=0, verified=False, origin="the server", reason=reason
    )


def _from_hub(inputs: HubInputs, job: Job[WeightsInputs], ctx: StageContext) -> WeightsResult:
    from relforge.weights.faults import Repository
    from relforge.weights.fetching import fetch_missing
    from relforge.weights.store import WeightStore

    if inputs.revision == UNRESOLVED:
        raise RelforgeError(
            f"the weights of {inputs.model} are not pinned yet",
            code=ExitCode.SOURCE,
            where=f"model {inputs.model}, weights",
            why=f"nobody looked up the revision of {inputs.repository} and its files' hashes",
            hint=f"relforge weights pin --model {inputs.model}, where the hub can be reached; or "
            "name a folder that holds them under weights in the site configuration",
        )
    results = Store(job.env.home)
    store = WeightStore(results.root)
    repository = Repository(inputs.hub, inputs.repository, inputs.revision, inputs.model)
    fetch_missing(
        repository,
        inputs.pinned,
        store=store,
        home=job.env.home,
        site=job.env.site,
        cancel=ctx.cancel,
        line=ctx.line,
    )
    folder = store.folder_of(results.folder(job.stage, job.key), inputs.hashes)
    outputs = tuple(stamp(folder / f.path, sha256=f.sha256) for f in inputs.files)
    return _result(folder, outputs, origin=str(repository))


def _from_site(job: Job[WeightsInputs], ctx: StageContext, folder: Path) -> WeightsResult:
    from relforge.weights.folder import names_in

    model = job.inputs.model
    if not folder.is_dir():
        raise RelforgeError(
            f"weights of {model}: the folder is not there",
            code=ExitCode.SOURCE,
            where=str(folder),
            why=f"{job.env.site.file or 'the site configuration'} names it under weights",
            hint="mount or restore it, or correct the entry",
        )
    origin = "a folder of this site"
    if job.inputs.files:
        return _result(folder, _hashed(job, ctx, folder), origin=origin)
    outputs = []
    for name in names_in(folder, subject=model):
        ctx.cancel.check()
        outputs.append(stamp(folder / name))
        ctx.line(f"{outputs[-1].sha256}  {name}")
    reason = "not verified: the model manifest pins no hash"
    ctx.line(f"warning: {reason}")
    found = tuple(
        WeightFile(path=str(output.path.relative_to(folder)), sha256=output.sha256)
        for output in outputs
    )
    return _result(folder, tuple(outputs), origin=origin).model_copy(
        update={"verified": False, "reason": reason, "found": found}
    )


def _hashed(job: Job[WeightsInputs], ctx: StageContext, folder: Path) -> tuple[Output, ...]:
    from relforge.weights.folder import pinned_files

    return pinned_files(
        folder,
        job.inputs.hashes,
        subject=job.inputs.model,
        hint="correct weights.files in the model manifest",
        cancel=ctx.cancel,
        line=ctx.line,
    )


def _result(folder: Path, outputs: tuple[Output, ...], *, origin: str) -> WeightsResult:
    return WeightsResult(
        folder=folder,
        total_bytes=sum(output.size_bytes for output in outputs),
        origin=origin,
        outputs=outputs,
    )


def _seen(folder: Path | None, model: str) -> tuple[tuple[str, int, int], ...]:
    from relforge.weights.folder import names_in

    if folder is None or not folder.is_dir():
        return ()
    found = []
    for name in names_in(folder, subject=model):
        info = (folder / name).stat()
        found.append((name, info.st_size, info.st_mtime_ns))
    return tuple(found)
