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

from pydantic import model_validator

from relforge import proc
from relforge.cancel import CancelToken
from relforge.engine.cli import DockerCli, EngineFacts, engine_facts, find_cli
from relforge.engine.images import EngineImage, find_image, load_into_engine
from relforge.engine.layout import ImageFacts, normalise, replace_folder
from relforge.engine.progress import Progress
from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, write_atomic
from relforge.frozen import Frozen
from relforge.leftovers import owned_folder
from relforge.manifest.site import CacheSite, EngineSite
from relforge.network import Proxy

_DISK_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_EXCERPT = re.compile(r"^(?P<file>\S+):(?P<line>\d+)$")


class BuildRequest(Frozen):
    """Everything that one build reads.

    ``context`` is the main build context: an empty folder, made when missing. ``secrets`` are
    files by id; BuildKit leaves their content out of its cache keys and out of every layer.
    ``args`` and ``labels`` are public: they end in the image. ``image_name`` (with tag) is what
    the engine calls the result. ``layout`` is the folder to make, replaced when it exists.
    ``log`` is the full log; ``rebuild.sh`` beside it repeats the build without relforge.

    A site's proxy is no part of it: BuildKit knows its variables itself and keeps them out of
    keys, history and layers. They are named on the command line and taken from the environment,
    so that no argument list, log or script has their values.
    """

    dockerfile: Path
    context: Path
    contexts: dict[str, Path] = {}
    args: dict[str, str] = {}
    secrets: dict[str, Path] = {}
    labels: dict[str, str] = {}
    target: str | None = None
    source_date_epoch: int
    image_name: str
    layout: Path
    log: Path
    rewrite_timestamps: bool = False
    no_cache: bool = False
    cache_mounts: str | None = None
    """A namespace for this build's cache mounts. Without one, a build with ``no_cache`` begins with
    empty mounts, too, but leaves them so to everybody (seen with engine 26)."""
    builder: str = "default"
    """The buildx builder. Another than ``default`` does not see the engine's images."""
    images: dict[str, str] = {}
    """Images that such a builder is handed: by the name after FROM, ``oci-layout://FOLDER@DIGEST``."""
    cache: CacheSite = CacheSite()
    """Registries that steps are shared through."""
    sealed: bool = False
    """Some contexts were decrypted: nothing of this build leaves the engine's own BuildKit."""

    @model_validator(mode="after")
    def _sealed_stays(self) -> BuildRequest:
        if self.sealed and (self.builder != "default" or self.cache != CacheSite()):
            raise ValueError("a build of sealed sources has no remote builder and no shared cache")
        return self


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
        output = _layout_output(request, work / "layout")
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
    _run(cli, facts, part, [_csv("type=local", f"dest={dest}")], proxy, ctx_line, cancel)
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
    _run(cli, facts, request, [_image_output(request)], None, ctx_line, cancel)


def rebuild_script(cli: DockerCli, request: BuildRequest, proxy: Proxy | None = None) -> str:
    """A shell script that repeats the build into the engine, with readable progress.

    A proxy it takes from the environment of whoever runs it, and secrets where they still are:
    most live as long as the build.
    """
    argv = _argv(cli, request.model_copy(update={"secrets": {}}), proxy, progress="plain")
    argv += ["--output", _image_output(request), str(request.context)]
    words: list[str] = []
    for word in argv:
        # A flag and its value stay on one line.
        if word.startswith("-") or not words or word == argv[-1]:
            words.append(shlex.quote(word))
        else:
            words[-1] += " " + shlex.quote(word)
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in cli.env)
    secrets = "".join(
        f"[ ! -f {shlex.quote(str(path))} ] || "
        f'set -- "$@" --secret {shlex.quote(_secret(name, path))}\n'
        for name, path in sorted(request.secrets.items())
    )
    words.append('"$@"')
    return f"#!/bin/sh\nset -eu\n{exports}{secrets}exec " + " \\\n  ".join(words) + "\n"


def _argv(
    cli: DockerCli, request: BuildRequest, proxy: Proxy | None, *, progress: str
) -> list[str]:
    # Named always: a user's own choice (docker buildx use) may have no access to the engine's
    # images, from which the base comes; to another builder it is handed (``images``).
    argv = [*cli.argv("buildx", "build"), "--builder", request.builder, f"--progress={progress}"]
    argv += ["--provenance=false", "--sbom=false", "--file", str(request.dockerfile)]
    for name, folder in sorted(request.contexts.items()):
        argv += ["--build-context", f"{name}={folder}"]
    for name, place in sorted(request.images.items()):
        argv += ["--build-context", f"{name}={place}"]
    for reference in request.cache.from_:
        argv += ["--cache-from", _csv("type=registry", f"ref={reference}")]
    for key, value in sorted(
        {**request.args, "SOURCE_DATE_EPOCH": str(request.source_date_epoch)}.items()
    ):
        argv += ["--build-arg", f"{key}={value}"]
    for name, value in sorted((proxy.environment() if proxy else {}).items()):
        if value:
            argv += ["--build-arg", name]
    for name, path in sorted(request.secrets.items()):
        argv += ["--secret", _secret(name, path)]
    for key, value in sorted(request.labels.items()):
        argv += ["--label", f"{key}={value}"]
    if request.target:
        argv += ["--target", request.target]
    if request.no_cache:
        argv += ["--no-cache"]
    if request.cache_mounts:
        # Of the Dockerfile frontend itself, no argument of the Dockerfile.
        argv += ["--build-arg", f"BUILDKIT_CACHE_MOUNT_NS={request.cache_mounts}"]
    return argv


_COMPRESSION = ("compression=zstd", "oci-mediatypes=true")


def _image_output(request: BuildRequest) -> str:
    return _csv("type=image", f"name={request.image_name}", *_COMPRESSION)


def _secret(name: str, path: Path) -> str:
    return _csv(f"id={name}", f"src={path}")


def _csv(*fields: str) -> str:
    # buildx reads these options as one line of CSV.
    return ",".join('"' + f.replace('"', '""') + '"' if '"' in f or "," in f else f for f in fields)


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
    argv = _argv(cli, request, proxy, progress="rawjson")
    for output in outputs:
        argv += ["--output", output]
    for place in _cache_to(request) if keeps else ():
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


def _cache_to(request: BuildRequest) -> list[str]:
    """Where the steps of a build go, intermediate ones too; a cache that cannot be written fails no
    build."""
    if request.cache.to is None:
        return []
    place = f"ref={request.cache.to}"
    return [_csv("type=registry", place, "mode=max", "oci-mediatypes=true", "ignore-error=true")]


def _outputs(facts: EngineFacts, request: BuildRequest, layout: Path) -> list[str]:
    outputs = [_layout_output(request, layout)]
    if _two_outputs(facts, request):
        outputs.append(_image_output(request))
    return outputs


def _layout_output(request: BuildRequest, layout: Path) -> str:
    rewrite = ("rewrite-timestamp=true",) if request.rewrite_timestamps else ()
    return _csv("type=oci", f"dest={layout}", "tar=false", *_COMPRESSION, *rewrite)


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
