"""The environment of a card's shells, and what they leave in the engine."""

from __future__ import annotations

import json
import os
import shlex
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import relforge
from relforge.card.execute.docker_needs import Surroundings
from relforge.engine.cli import DockerCli
from relforge.engine.client import connect
from relforge.engine.containers import LABEL_TOKEN, labels, remove_labelled
from relforge.manifest.site import EngineSite

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_COMPOSE = "com.docker.compose.project"
_LOG_LINES = 15


@dataclass
class EngineSide:
    """The engine as a card's shells see it: through a stand-in for docker that marks what is made.

    ``area``: a private folder for its files.
    """

    cli: DockerCli
    site: EngineSite
    area: Path
    there: Surroundings
    have: frozenset[str]
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def install(self, images: Mapping[str, str]) -> Path:
        """Writes the stand-in; returns the folder for PATH."""
        folder = self.area / "bin"
        folder.mkdir(exist_ok=True)
        settings = {
            "docker": str(self.cli.program),
            "labels": labels(self.token, run_id=f"card-test-{self.token[:12]}", release=""),
            "compose_project": self.compose_project,
            "runtimes": self.there.runtimes,
            "gpus": self.there.gpus,
            "writable": self.there.writable,
            "have": sorted(self.have),
            "images": dict(images),
            "refusals": str(self.area / "refusals"),
        }
        file = self.area / "docker.json"
        file.write_text(json.dumps(settings))
        package = str(Path(relforge.__file__).parents[1])
        # Isolated: the folder where the card stands is not looked at for modules.
        code = (
            f"import sys; sys.path.insert(0, {package!r}); "
            "from relforge.card.execute.shim import main; sys.exit(main(sys.argv[1:]))"
        )
        words = [sys.executable, "-I", "-S", "-c", code, str(file)]
        program = folder / "docker"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        program.chmod(0o755)
        return folder

    @property
    def compose_project(self) -> str:
        """The name under which ``docker compose`` files what it makes."""
        return f"cardtest{self.token[:12]}"

    def refusals(self) -> list[str]:
        """Reasons of what the stand-in did not run since this was asked for last."""
        file = self.area / "refusals"
        if not file.exists():
            return []
        lines = file.read_text().splitlines()
        file.unlink()
        return [str(json.loads(line)["reason"]) for line in lines]

    def containers(self) -> dict[str, str]:
        """The card's containers: id and state."""
        client = connect(self.site)
        try:
            rows = client.api.containers(all=True, filters={"label": f"{LABEL_TOKEN}={self.token}"})
            return {row["Id"]: row["State"] for row in rows}
        finally:
            client.close()

    def image_ids(self, ids: list[str]) -> tuple[str, ...]:
        """What containers were made of; of those that are gone, nothing."""
        from docker.errors import NotFound

        client = connect(self.site)
        found: dict[str, None] = {}
        try:
            for one in ids:
                with suppress(NotFound):
                    found[client.api.inspect_container(one)["Image"]] = None
        finally:
            client.close()
        return tuple(found)

    def last_words(self, ids: list[str]) -> str:
        """The end of the containers' logs."""
        from docker.errors import APIError

        client = connect(self.site)
        said = b""
        try:
            for one in ids:
                with suppress(APIError):
                    said += client.api.logs(one, tail=_LOG_LINES)
        finally:
            client.close()
        return said.decode("utf-8", "replace").strip()

    def clean(self) -> int:
        """Ends and removes the card's containers; how many there were."""
        client = connect(self.site)
        try:
            removed = remove_labelled(client, LABEL_TOKEN, self.token)
            return removed + remove_labelled(client, _COMPOSE, self.compose_project)
        finally:
            client.close()


def environment(folder: Path, engine: EngineSide | None, *, network: bool) -> dict[str, str]:
    """What the shells get: no variable of the user's that may hold a secret.

    ``folder``: the private area; the home of the shells lies in it.
    """
    home = folder / "home"
    home.mkdir(exist_ok=True)
    names = (*_PASSED_ON, *_PROXIES) if network else _PASSED_ON
    env = {name: os.environ[name] for name in names if name in os.environ}
    env |= {"HOME": str(home), "TERM": "dumb", "PAGER": "cat", "GIT_TERMINAL_PROMPT": "0"}
    if engine is not None:
        own = Path.home() / ".docker"
        if own.is_dir():
            env["DOCKER_CONFIG"] = str(own)
        env |= engine.cli.environment
        env["COMPOSE_PROJECT_NAME"] = engine.compose_project
        env["PATH"] = f"{folder / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
    return env
