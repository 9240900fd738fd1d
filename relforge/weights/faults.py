"""What can go wrong at a hub, in our words: what, where, why, and the next step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from relforge import redact
from relforge.errors import ExitCode, RelforgeError

Hub = Literal["huggingface", "modelscope"]


@dataclass(frozen=True)
class Repository:
    """One repository of one hub at its pinned revision. ``subject`` names the weights."""

    hub: Hub
    name: str
    revision: str
    subject: str

    def __str__(self) -> str:
        return f"{self.hub}: {self.name} at {self.revision}"


@dataclass(frozen=True)
class Asked:
    """What was asked, with whose token, and what the site says of it."""

    repository: Repository
    endpoint: str
    path: str
    into: str
    token_file: Path | None
    site_file: Path | None
    proxy: str | None
    """The proxy that was asked for it, if any."""


def hub_error(kind: str, text: str, asked: Asked) -> RelforgeError:
    """The error for a worker's fault (kinds: ``HubFault``); SOURCE, or ENVIRONMENT of this host."""
    repository, hub = asked.repository, asked.repository.hub
    file = f": {asked.path}" if asked.path else ""
    where = f"{asked.endpoint}/{repository.name} at {repository.revision}{file}"
    site = str(asked.site_file or "the site configuration")
    code = ExitCode.SOURCE
    if kind == "missing-extra":
        what = f"the client library of {hub} is not installed"
        hint = "pip install 'relforge[hub]'"
        code = ExitCode.ENVIRONMENT
    elif kind == "no-repository":
        what = f"{hub} has no repository {repository.name}"
        hint = "correct weights.repository in the model manifest"
    elif kind == "no-revision":
        what = f"{repository.name} has no revision {repository.revision}"
        hint = "correct weights.revision in the model manifest"
    elif kind == "no-file":
        what = f"{repository.name} has no file {asked.path}"
        hint = "correct weights.files in the model manifest"
    elif kind == "refused" and asked.token_file is None:
        what = f"{hub} does not give out {repository.name} without a token"
        hint = (
            f"ask for access on its page, and name a file with your token as "
            f"hubs.{hub}.token_file in {site}; if there is no such repository, correct "
            "weights.repository in the model manifest"
        )
    elif kind == "refused":
        what = f"{hub} does not give {repository.name} to the owner of this token"
        hint = f"ask for access on its page, or put another token into {asked.token_file}"
    elif kind == "unreachable":
        what = f"{hub} does not answer"
        check = f"check the proxy {asked.proxy}" if asked.proxy else "check the network"
        hint = (
            f"{check}, set hubs.{hub}.endpoint in {site} to a mirror, "
            f"or name a folder with the files under weights there"
        )
    elif kind == "disk":
        what = "the weights cannot be written"
        where = asked.into
        hint = "free disk space, or set another home in the site configuration"
        code = ExitCode.ENVIRONMENT
    else:
        what = f"fetching from {hub} failed"
        hint = "run the same command again: it continues where this one stopped"
    return RelforgeError(
        f"weights of {repository.subject}: {what}",
        code=code,
        where=where,
        why=redact.text(text),
        hint=hint,
    )
