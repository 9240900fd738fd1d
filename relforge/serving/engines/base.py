"""What a serving engine is to relforge: something that turns a release into a server's command."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NoReturn, Protocol

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.release import Release
from relforge.manifest.serve import ServeMount
from relforge.serving.place import Place


class ServerCommand(Frozen):
    """One node's server. ``files`` are texts that it reads, by absolute path in the container."""

    argv: tuple[str, ...]
    env: dict[str, str] = {}
    files: dict[str, str] = {}
    writes_weights: bool = False
    """It puts files into the folder of the weights itself."""
    mounts: tuple[ServeMount, ...] = ()
    """What it needs beside the release's own mounts."""
    meets_here: bool = False
    """The ranks of several nodes find each other at ``serve.rendezvous_port`` of this one."""
    answers: bool = True
    """False: it does its work and ends."""


class ServerTraits(Frozen):
    """What a kind of server has beside the plain OpenAI protocol; probes ask for nothing else."""

    name: str
    version_path: str | None = None
    """Answers ``{"version": ...}``."""
    metrics_path: str | None = None
    """Prometheus text."""
    metrics_optional: bool = False
    """They are only there when the server was told so."""
    running_requests: str = ""
    """The metric with the number of requests in work."""
    generated_tokens: str = ""
    """The metric that counts tokens written."""
    ignore_eos: bool = False
    """Knows ``ignore_eos``: writes on to ``max_tokens``."""
    logprobs: bool = False
    """Gives log-probabilities of the tokens of a completion."""
    echo: bool = False
    """Gives them for the prompt too, with ``echo``."""


PLAIN = ServerTraits(name="this server")


class ServingEngine(Protocol):
    """One kind of server."""

    @property
    def traits(self) -> ServerTraits:
        """What it can be asked for."""

    @property
    def health_path(self) -> str:
        """Answers 200 when the server says it is ready."""

    def health_port(self, release: Release) -> int:
        """The port that answers it."""

    def command(self, release: Release, model_path: str, place: Place) -> ServerCommand:
        """The server of the node at *place*, serving the folder *model_path*.

        Raises RelforgeError (USAGE) when the manifest sets an option that relforge sets itself, or
        asks for something that the engine, or relforge with it, cannot do.
        """


class OnePort:
    """Engines that answer all requests on ``serve.port``."""

    health_path = "/health"
    traits = PLAIN

    def health_port(self, release: Release) -> int:
        return release.serve.port


def options(args: Mapping[str, object]) -> Iterator[str]:
    """Options as argparse-style words, in the manifest's order.

    ``true`` is a bare flag, ``false`` its ``--no-`` form, lists and mappings are JSON.
    """
    for name, value in args.items():
        if value is True:
            yield f"--{name}"
        elif value is False:
            yield f"--no-{name}"
        else:
            yield f"--{name}"
            yield as_word(value)


def as_word(value: object) -> str:
    """An option's value as one word of a command line; lists and mappings are JSON."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, separators=(",", ":"), sort_keys=True)
    return str(value)


def refuse_own(release: Release, own: Mapping[str, str]) -> None:
    """Raises RelforgeError (USAGE) when ``serve.args`` sets an option that relforge sets itself.

    *own* maps such options to the fields of the manifest that say the same.
    """
    for name in release.serve.args:
        field = own.get(name.replace("_", "-"))
        if field is not None:
            raise RelforgeError(
                f"serve.args sets {name!r}, which relforge sets itself",
                code=ExitCode.USAGE,
                where=f"release {release.name}",
                hint=f"use {field} instead",
            )


def cannot(release: Release, what: str, why: str, hint: str) -> NoReturn:
    """Raises RelforgeError (USAGE): the engine does not do what the release asks for."""
    raise RelforgeError(
        f"engine {release.engine!r}: {what}",
        code=ExitCode.USAGE,
        where=f"release {release.name}, serve",
        why=why,
        hint=hint,
    )
