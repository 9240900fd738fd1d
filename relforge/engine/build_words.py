"""What a build is asked for, and the words in which ``docker buildx build`` is told."""

from __future__ import annotations

import shlex
from pathlib import Path

from pydantic import model_validator

from relforge.engine.cli import DockerCli
from relforge.frozen import Frozen
from relforge.manifest.site import CacheSite
from relforge.network import Proxy

_COMPRESSION = ("compression=zstd", "oci-mediatypes=true")


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


def build_argv(
    cli: DockerCli, request: BuildRequest, proxy: Proxy | None, *, progress: str
) -> list[str]:
    """The command, but for outputs, shared cache and context, which come last."""
    # Named always: a user's own choice (docker buildx use) may have no access to the engine's
    # images, from which the base comes; to another builder it is handed (``images``).
    argv = [*cli.argv("buildx", "build"), "--builder", request.builder, f"--progress={progress}"]
    argv += ["--provenance=false", "--sbom=false", "--file", str(request.dockerfile)]
    for name, folder in sorted(request.contexts.items()):
        argv += ["--build-context", f"{name}={folder}"]
    for name, place in sorted(request.images.items()):
        argv += ["--build-context", f"{name}={place}"]
    for reference in request.cache.from_:
        argv += ["--cache-from", csv("type=registry", f"ref={reference}")]
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


def image_output(request: BuildRequest) -> str:
    """``--output`` that leaves the image in the engine."""
    return csv("type=image", f"name={request.image_name}", *_COMPRESSION)


def _secret(name: str, path: Path) -> str:
    return csv(f"id={name}", f"src={path}")


def csv(*fields: str) -> str:
    """One option as buildx reads it: a line of CSV."""
    return ",".join('"' + f.replace('"', '""') + '"' if '"' in f or "," in f else f for f in fields)


def layout_output(request: BuildRequest, layout: Path) -> str:
    """``--output`` that writes an OCI layout folder."""
    rewrite = ("rewrite-timestamp=true",) if request.rewrite_timestamps else ()
    return csv("type=oci", f"dest={layout}", "tar=false", *_COMPRESSION, *rewrite)


def cache_to(request: BuildRequest) -> list[str]:
    """Where the steps of a build go, intermediate ones too; a cache that cannot be written fails no
    build."""
    if request.cache.to is None:
        return []
    place = f"ref={request.cache.to}"
    return [csv("type=registry", place, "mode=max", "oci-mediatypes=true", "ignore-error=true")]


def rebuild_script(cli: DockerCli, request: BuildRequest, proxy: Proxy | None = None) -> str:
    """A shell script that repeats the build into the engine, with readable progress.

    A proxy it takes from the environment of whoever runs it, and secrets where they still are:
    most live as long as the build.
    """
    argv = build_argv(cli, request.model_copy(update={"secrets": {}}), proxy, progress="plain")
    argv += ["--output", image_output(request), str(request.context)]
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
