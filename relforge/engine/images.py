"""Images in the engine, tied to a layout: found by id, loaded again when they are gone."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from relforge import proc
from relforge.cancel import CancelToken
from relforge.engine.cli import DockerCli, find_cli
from relforge.engine.layout import ImageFacts, describe, to_docker_archive
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.site import EngineSite


class EngineImage(Frozen):
    """An image of the engine. ``id`` is the manifest digest in containerd's store and the config
    digest in the classic one; it serves as the reference of a container. ``size_bytes`` is what
    the engine reports for it: compressed in containerd's store, unpacked in the classic one."""

    id: str
    labels: dict[str, str]
    architecture: str
    size_bytes: int
    env: tuple[str, ...] = ()
    """What the image sets, as NAME=value."""
    loaded: bool = False

    def is_image(self, facts: ImageFacts) -> bool:
        """Whether this is the very image of a layout; of several architectures the first."""
        return self.id in (facts.digest, facts.alone.digest, facts.config_digest)


def find_image(
    reference: str, *, site: EngineSite | None = None, cli: DockerCli | None = None
) -> EngineImage | None:
    """The engine's image of that name or id, or None. Raises RelforgeError (ENVIRONMENT) when
    the engine does not answer."""
    docker = cli or find_cli(site)
    argv = docker.argv("image", "inspect", "--format", "{{json .}}", reference)
    done = proc.run(
        argv, code=ExitCode.ENVIRONMENT, env=docker.environment, check=False, timeout_s=60
    )
    if done.returncode != 0:
        if b"No such image" in done.stderr:
            return None
        raise proc.failure(
            done,
            code=ExitCode.ENVIRONMENT,
            what="the container engine could not be asked for an image",
            hint="relforge doctor",
        )
    shown: dict[str, Any] = json.loads(done.stdout)
    return EngineImage(
        id=shown["Id"],
        labels=(shown.get("Config") or {}).get("Labels") or {},
        architecture=shown.get("Architecture", ""),
        size_bytes=shown.get("Size", 0),
        env=tuple((shown.get("Config") or {}).get("Env") or ()),
    )


def load_into_engine(
    layout: Path,
    name: str,
    *,
    site: EngineSite | None = None,
    cancel: CancelToken | None = None,
) -> EngineImage:
    """Makes sure that the engine has the layout's very image under ``name`` (with tag).

    Does nothing when it is there. Raises RelforgeError (ENVIRONMENT) when the engine refuses it,
    and when what it loaded is another image than the layout's.
    """
    docker = find_cli(site)
    facts = describe(layout)
    present = find_image(name, cli=docker)
    if present is not None and present.is_image(facts):
        return present
    _load(layout, name, docker, cancel)
    loaded = find_image(name, cli=docker)
    if loaded is None or not loaded.is_image(facts):
        raise RelforgeError(
            "the engine's copy of the image is not the one that was built",
            code=ExitCode.ENVIRONMENT,
            where=name,
            why=f"wanted {facts.digest} (config {facts.config_digest}), "
            f"the engine has {loaded.id if loaded else 'nothing of that name'}",
            hint=f"docker image rm {name}, then run the same command again",
        )
    return loaded.model_copy(update={"loaded": True})


def unpacked_bytes(
    name: str, image_id: str, facts: ImageFacts, *, site: EngineSite | None = None
) -> int:
    """How much disk the unpacked root file system takes, as the engine accounts for it.

    containerd's store lists an image with content and snapshots together, so the compressed
    blobs are taken off; it adds them up for every image that it lists, so only that name is asked
    for. Raises RelforgeError (ENVIRONMENT) when the engine lacks the image.
    """
    from relforge.engine.client import connect

    client = connect(site)
    try:
        for image in client.api.images(name=name):
            if image["Id"] == image_id:
                size = int(image["Size"])
                return size - facts.size_bytes if image_id == facts.digest else size
    finally:
        client.close()
    raise RelforgeError(
        "the engine does not have the image",
        code=ExitCode.ENVIRONMENT,
        where=name,
        why=f"it has nothing of that name with the id {image_id}",
    )


def _load(layout: Path, name: str, docker: DockerCli, cancel: CancelToken | None) -> None:
    read_fd, write_fd = os.pipe()
    failed: list[BaseException] = []

    def feed() -> None:
        try:
            with os.fdopen(write_fd, "wb") as sink:
                to_docker_archive(layout, name, sink)
        except BrokenPipeError:
            pass  # docker gave up; its own message says why
        except BaseException as error:  # noqa: BLE001 (carried to the caller's thread)
            failed.append(error)

    writer = threading.Thread(target=feed, name="image-archive", daemon=True)
    with os.fdopen(read_fd, "rb") as source:
        writer.start()
        done = proc.run(
            docker.argv("load", "--quiet"),
            code=ExitCode.ENVIRONMENT,
            env=docker.environment,
            stdin=source,
            check=False,
            cancel=cancel,
        )
    writer.join()
    if failed:
        raise failed[0]
    if done.returncode != 0:
        raise proc.failure(
            done,
            code=ExitCode.ENVIRONMENT,
            what="the engine could not load the image",
            hint="free disk space if it is full, then run the same command again",
        )
