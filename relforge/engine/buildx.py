"""One BuildKit build: a Dockerfile and named contexts in, one OCI image layout out.

One run of ``docker buildx build`` writes the layout and the engine's copy of the image from the
same compressed layers, so both have the same manifest digest. That was the cheapest way measured:
saving the layout from the engine afterwards takes about twice as long as BuildKit's own second
exporter, and rewriting timestamps compresses every layer again, in each build, cached or not.

File times: without ``rewrite_timestamps`` a layer keeps the times of its files, so a Dockerfile
that wants the same digest twice sets them itself (``touch -d @$SOURCE_DATE_EPOCH`` at the end of
a RUN, and COPY of a folder that brings its parent folders along).
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from relforge import proc
from relforge.cancel import CancelToken
from relforge.engine.build_words import (
    BuildRequest,
    build_argv,
    cache_to,
    csv,
    image_output,
    layout_output,
    rebuild_script,
)
from relforge.engine.cli import DockerCli, EngineFacts, engine_facts, find_cli
from relforge.engine.images import EngineImage, find_image, load_into_engine
from relforge.engine.layout import ImageFacts, normalise, replace_folder
from relforge.engine.progress import Progress
from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, write_atomic
from relforge.frozen import Frozen
from relforge.leftovers import owned_folder
from relforge.manifest.site import EngineSite
from relforge.network import Proxy

_DISK_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_EXCERPT = re.compile(r"^(?P<file>\S+):(?P<line>\d+)$")


class BuildResult(Frozen):
    """A built image. ``seconds`` is wall time, ``export_seconds`` the part of it that wrote the
    layout and the engine's copy."""

    layout: Path
    image: ImageFacts
    engine_image_id: str
    image_name: str
    steps_cached: int
    steps_run: int
    seconds: float
    export_seconds: float
    log: Path
    rebuild_script: str
    builder: dict[str, str]
    """Versions of engine and buildx."""

    @property
    def image_digest(self) -> str:
        return self.image.digest


def build(
    request: BuildRequest,
    *,
    site: EngineSite | None = None,
    proxy: Proxy | None = None,
    ctx_line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> BuildResult:
    """Runs the build and returns the image; ``proxy`` is what its steps reach others through.

    Raises RelforgeError: BUILD with the failing step, its line in the Dockerfile and its last
    words; ENVIRONMENT when the engine does not answer, cannot build, or its disk is full. Raises
    Cancelled. On every way out but success no layout is left behind.
    """
    started = time.monotonic()
    cli = find_cli(site)
    facts = engine_facts(site)
    _require_containerd(facts)
    script = rebuild_script(cli, request, proxy)
    write_atomic(request.log.parent / "rebuild.sh", script.encode(), mode=0o755)
    request.context.mkdir(parents=True, exist_ok=True)
    request.layout.parent.mkdir(parents=True, exist_ok=True)
    with owned_folder(request.layout.parent, f".{request.layout.name}") as work:
        outputs = _outputs(facts, request, work / "layout")
        progress = _run(cli, facts, request, outputs, proxy, ctx_line, cancel, keeps=True)
        image = normalise(work / "layout")
        try:
            replace_folder(work / "layout", request.layout)
        except OSError as error:
            raise cannot_write(request.layout, error) from error
    kept = _engine_copy(request, image, cli, site, cancel)
    return BuildResult(
        layout=request.layout,
        image=image,
        engine_image_id=kept.id,
        image_name=request.image_name,
        steps_cached=progress.steps_cached,
        steps_run=progress.steps_run,
        seconds=time.monotonic() - started,
        export_seconds=progress.export_seconds,
        log=request.log,
        rebuild_script=script,
        builder={"engine": facts.server_version, "buildx": facts.buildx_version},
    )


def build_layout(
    request: BuildRequest,
    *,
    site: EngineSite | None = None,
    proxy: Proxy | None = None,
    ctx_line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> ImageFacts:
    """Builds and writes the layout alone: the engine's image of that name stays what it is.

    Raises what ``build`` raises.
    """
    cli = find_cli(site)
    facts = engine_facts(site)
    _require_containerd(facts)
    request.context.mkdir(parents=True, exist_ok=True)
    request.layout.parent.mkdir(parents=True, exist_ok=True)
    with owned_folder(request.layout.parent, f".{request.layout.name}") as work:
        output = layout_output(request, work / "layout")
        _run(cli, facts, request, [output], proxy, ctx_line, cancel)
        image = normalise(work / "layout")
        try:
            replace_folder(work / "layout", request.layout)
        except OSError as error:
            raise cannot_write(request.layout, error) from error
    return image


def export_target(
    request: BuildRequest,
    *,
    target: str,
    dest: Path,
    site: EngineSite | None = None,
    proxy: Proxy | None = None,
    ctx_line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> Path:
    """Builds another target of the same request and writes its files to the new folder ``dest``.

    Shares every cached step with ``build``. Raises what ``build`` raises.
    """
    cli = find_cli(site)
    facts = engine_facts(site)
    _require_containerd(facts)
    part = request.model_copy(
        update={"target": target, "log": request.log.with_name(f"{request.log.stem}-{target}.log")}
    )
    script = rebuild_script(cli, part, proxy)
    write_atomic(part.log.parent / "rebuild.sh", script.encode(), mode=0o755)
    request.context.mkdir(parents=True, exist_ok=True)
    _run(cli, facts, part, [csv("type=local", f"dest={dest}")], proxy, ctx_line, cancel)
    return dest


def build_into_engine(
    request: BuildRequest,
    *,
    site: EngineSite | None = None,
    ctx_line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> None:
    """Builds an image that only this engine needs, under ``image_name``; no layout is written.

    Its steps reach nobody.

    Raises what ``build`` raises.
    """
    cli = find_cli(site)
    facts = engine_facts(site)
    _require_containerd(facts)
    request.context.mkdir(parents=True, exist_ok=True)
    _run(cli, facts, request, [image_output(request)], None, ctx_line, cancel)


def _run(
    cli: DockerCli,
    facts: EngineFacts,
    request: BuildRequest,
    outputs: list[str],
    proxy: Proxy | None,
    ctx_line: Callable[[str], None],
    cancel: CancelToken | None,
    *,
    keeps: bool = False,
) -> Progress:
    """``keeps``: what was done goes to the shared cache."""
    argv = build_argv(cli, request, proxy, progress="rawjson")
    for output in outputs:
        argv += ["--output", output]
    for place in cache_to(request) if keeps else ():
        argv += ["--cache-to", place]
    argv.append(str(request.context))
    request.log.parent.mkdir(parents=True, exist_ok=True)
    with request.log.open("w", encoding="utf-8") as log:
        log.write(f"$ {cli.shown(argv)}\n")
        progress = Progress(log, ctx_line)
        try:
            done = proc.run(
                argv,
                code=ExitCode.BUILD,
                env={**cli.environment, **(proxy.environment() if proxy else {})},
                check=False,
                cancel=cancel,
                on_line=progress.feed,
                log=request.log,
            )
        finally:
            progress.finish()
    if done.returncode != 0:
        raise _failure(request, progress, facts, done)
    return progress


def _outputs(facts: EngineFacts, request: BuildRequest, layout: Path) -> list[str]:
    outputs = [layout_output(request, layout)]
    if _two_outputs(facts, request):
        outputs.append(image_output(request))
    return outputs


def _two_outputs(facts: EngineFacts, request: BuildRequest) -> bool:
    # BuildKit takes several exporters since 0.13, which came with engine 26. Its image exporter
    # in the engine always unpacks, which excludes rewriting timestamps. Else the layout is loaded.
    major = facts.server_version.split(".", 1)[0]
    if request.builder != "default":
        return False  # what it exports as an image stays where it is
    return not request.rewrite_timestamps and (not major.isdigit() or int(major) >= 26)


def _engine_copy(
    request: BuildRequest,
    image: ImageFacts,
    cli: DockerCli,
    site: EngineSite | None,
    cancel: CancelToken | None,
) -> EngineImage:
    present = find_image(request.image_name, cli=cli)
    if present is not None and present.is_image(image):
        return present
    return load_into_engine(request.layout, request.image_name, site=site, cancel=cancel)


def _require_containerd(facts: EngineFacts) -> None:
    if facts.image_store != "containerd":
        raise RelforgeError(
            "the engine's classic image store cannot write an OCI image layout",
            code=ExitCode.ENVIRONMENT,
            where=facts.host,
            why=f"engine {facts.server_version} does not keep its images in containerd's store",
            hint='set {"features": {"containerd-snapshotter": true}} in the engine\'s daemon.json '
            "and restart it, or: scripts/engine up",
        )


def _failure(
    request: BuildRequest, progress: Progress, facts: EngineFacts, done: proc.Done
) -> RelforgeError:
    words = "\n".join(progress.words)
    step = progress.failed
    everything = words + ("\n".join(step.tail) + step.error if step else "")
    script = request.log.parent / "rebuild.sh"
    if _DISK_FULL.search(everything):
        return RelforgeError(
            "the disk ran full during the build",
            code=ExitCode.ENVIRONMENT,
            where=facts.data_root,
            why=words.strip().splitlines()[-1] if words.strip() else "no space left on device",
            hint="free space (docker image prune, docker buildx prune), then run the same command "
            "again: finished steps are kept",
            log=str(request.log),
        )
    place = str(request.dockerfile)
    for line in progress.words:
        if found := _EXCERPT.match(line.strip()):
            place = f"{request.dockerfile}:{found['line']}"
    if step is not None:
        rows = [_reason(step.error), *step.tail]
        what = f"the build failed at {step.name.splitlines()[0]}"
    else:
        rows = progress.words[-15:] or [f"docker ended with exit status {done.returncode}"]
        what = "the build failed"
    return RelforgeError(
        what,
        code=ExitCode.BUILD,
        where=place,
        why="\n".join(rows).strip(),
        hint=f"read the log; {shlex.quote(str(script))} repeats the build without relforge",
        log=str(request.log),
    )


def _reason(error: str) -> str:
    # The command itself is already in the step's name; its exit status is the news.
    found = re.search(r"did not complete successfully: (.*)$", error, re.DOTALL)
    return found[1] if found else error
