"""The docker command line that builds: found, checked, and told which engine to talk to.

The first ``docker`` on PATH is not trusted: many machines carry an old client, or one without
buildx, in front of the one that can build.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from relforge import proc
from relforge.engine.client import engine_host
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.site import EngineSite

MIN_BUILDX = (0, 13)
_PROBE_TIMEOUT_S = 20.0
_HINT = (
    "scripts/engine up (sets one up on Debian), or install Docker with buildx 0.13 or newer and "
    "name its client in engine.docker of the site configuration"
)

ImageStore = Literal["containerd", "classic"]


class EngineFacts(Frozen):
    """What the engine says about itself. Sizes are bytes; ``free_disk_bytes`` is None when the
    engine's data root is not on this host."""

    host: str
    server_version: str
    buildx_version: str
    image_store: ImageStore
    architecture: str
    data_root: str
    free_disk_bytes: int | None
    memory_bytes: int
    cpus: int
    runtimes: tuple[str, ...] = ()
    """Names of the container runtimes that it knows, such as those of vendors' toolkits."""
    default_runtime: str = ""


@dataclass(frozen=True)
class DockerCli:
    """A docker client that can build. ``env`` is what every call of it needs."""

    program: Path
    buildx_version: str
    buildx_plugin: Path
    env: tuple[tuple[str, str], ...]

    def argv(self, *words: str | Path) -> tuple[str, ...]:
        return (str(self.program), *(str(w) for w in words))

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.env)

    def shown(self, argv: Sequence[str | Path]) -> str:
        """The command with the environment it needs, ready to paste into a shell."""
        settings = " ".join(proc.shown([f"{key}={value}"]) for key, value in self.env)
        return f"{settings} {proc.shown(argv)}".strip()


def find_cli(site: EngineSite | None = None) -> DockerCli:
    """The first docker client with buildx 0.13 or newer: the site configuration's, else PATH's.

    Raises RelforgeError (ENVIRONMENT) naming every client that was looked at, and why not.
    """
    return _look_up(site)[0]


def engine_facts(site: EngineSite | None = None) -> EngineFacts:
    """Asks the engine once. Raises RelforgeError (ENVIRONMENT) when none answers."""
    cli, fresh = _look_up(site)
    info = fresh or _info(cli.program, cli.environment)
    errors = info.get("ServerErrors") or []
    if errors or not info.get("ServerVersion"):
        raise RelforgeError(
            "the container engine does not answer",
            code=ExitCode.ENVIRONMENT,
            where=engine_host(site),
            why="; ".join(str(e) for e in errors) or "it gave no server version",
            hint="scripts/engine up (starts one on Debian), or start your own",
        )
    status = [tuple(row) for row in info.get("DriverStatus") or []]
    contained = any(key == "driver-type" and "containerd" in value for key, value in status)
    root = str(info["DockerRootDir"])
    return EngineFacts(
        host=engine_host(site),
        server_version=str(info["ServerVersion"]),
        buildx_version=cli.buildx_version,
        image_store="containerd" if contained else "classic",
        architecture=_ARCHITECTURES.get(str(info["Architecture"]), str(info["Architecture"])),
        data_root=root,
        free_disk_bytes=_free_bytes(root) if engine_host(site).startswith("unix:") else None,
        memory_bytes=int(info["MemTotal"]),
        cpus=int(info["NCPU"]),
        runtimes=tuple(sorted(info.get("Runtimes") or {})),
        default_runtime=str(info.get("DefaultRuntime") or ""),
    )


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _free_bytes(root: str) -> int | None:
    try:
        return shutil.disk_usage(root).free
    except OSError:
        return None


_found: dict[tuple[object, ...], DockerCli] = {}


def _look_up(site: EngineSite | None) -> tuple[DockerCli, dict[str, Any] | None]:
    """The client, and the engine's answer when it was asked just now."""
    given = site or EngineSite()
    path = os.environ.get("PATH", os.defpath)
    settings: dict[str, str] = {}
    if host := given.host or os.environ.get("DOCKER_HOST"):
        settings["DOCKER_HOST"] = host
    if config := given.config_dir or os.environ.get("DOCKER_CONFIG"):
        settings["DOCKER_CONFIG"] = str(config)
    # The environment is part of the key so that a changed one is looked at again.
    key = (given.docker, path, *settings.items())
    if key in _found:
        return _found[key], None
    cli, info = _find(given.docker, path, settings)
    _found[key] = cli
    return cli, info


def _find(
    wanted: Path | None, path: str, settings: dict[str, str]
) -> tuple[DockerCli, dict[str, Any]]:
    rejected: list[str] = []
    for program in [wanted] if wanted else _clients(path):
        try:
            info = _info(program, settings)
        except RelforgeError as error:
            rejected.append(f"{program}: {error.what}")
            continue
        plugins = (info.get("ClientInfo") or {}).get("Plugins") or []
        buildx = next((p for p in plugins if p.get("Name") == "buildx"), None)
        if buildx is None:
            rejected.append(f"{program}: has no buildx")
            continue
        version = str(buildx.get("Version", "")).removeprefix("v")
        if not _new_enough(version):
            rejected.append(f"{program}: its buildx is {version or 'of unknown version'}")
            continue
        cli = DockerCli(program, version, Path(buildx["Path"]), tuple(settings.items()))
        return cli, info
    raise RelforgeError(
        "no docker client with buildx 0.13 or newer was found",
        code=ExitCode.ENVIRONMENT,
        where=str(wanted) if wanted else f"PATH={path}",
        why="; ".join(rejected) or "there is no program named docker",
        hint=_HINT,
    )


def _clients(path: str) -> Iterator[Path]:
    seen: set[Path] = set()
    for folder in path.split(os.pathsep):
        program = Path(folder or ".") / "docker"
        if program.is_file() and os.access(program, os.X_OK) and program.resolve() not in seen:
            seen.add(program.resolve())
            yield program.absolute()


def _new_enough(version: str) -> bool:
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= MIN_BUILDX


def _info(program: Path, settings: dict[str, str]) -> dict[str, Any]:
    # One call tells the client's plugins and the server's facts; the plugins also when no server
    # answers (the client then reports ServerErrors, some versions with exit status 1).
    argv: list[str | Path] = [program, "info", "--format", "{{json .}}"]
    done = proc.run(
        argv,
        code=ExitCode.ENVIRONMENT,
        env=settings,
        timeout_s=_PROBE_TIMEOUT_S,
        check=False,
        hint=_HINT,
    )
    try:
        info = json.loads(done.stdout)
    except ValueError:
        raise proc.failure(done, code=ExitCode.ENVIRONMENT, hint=_HINT) from None
    if not isinstance(info, dict):
        raise proc.failure(done, code=ExitCode.ENVIRONMENT, hint=_HINT)
    return info
