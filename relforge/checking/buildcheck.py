"""BuildKit's own check of many Dockerfiles, through one run of ``docker buildx bake --call check``.

Nothing is built: BuildKit reads each file and says what it thinks of it. ``build --check`` (buildx
0.15) does so for one file at a time, which takes several times as long; bake does from 0.16 on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relforge import proc
from relforge.checking.remarks import Remark
from relforge.engine.cli import find_cli
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import EngineSite

NAME = "BuildKit's check"
_MIN_BUILDX = (0, 16)
_TIMEOUT_S = 60.0
_NO_LINT = "unsupported request frontend.lint"
_NOT_FETCHED = "failed to resolve source metadata"
_UPGRADE = "install Docker 27 or newer, with buildx 0.16 or newer"
_UNREADABLE = "unreadable"
_EMPTY = "docker-image://scratch"
"""What BuildKit takes for a named context without asking the client for a folder's files."""


@dataclass(frozen=True)
class Answer:
    """What BuildKit says of one file; ``unknown``: why it cannot say all of it here."""

    remarks: tuple[Remark, ...]
    unknown: str | None = None


def answers(
    folder: Path, contexts: Mapping[str, tuple[str, ...]], site: EngineSite
) -> dict[str, Answer]:
    """What BuildKit says of files in *folder*: names, each with its named build contexts.

    Raises RelforgeError (ENVIRONMENT) where no engine answers, or one that is too old.
    """
    cli = find_cli(site)
    version = re.match(r"(\d+)\.(\d+)", cli.buildx_version)
    if version is None or (int(version[1]), int(version[2])) < _MIN_BUILDX:
        raise RelforgeError(
            f"buildx {cli.buildx_version} is too old: from 0.16 on it checks many files at once",
            code=ExitCode.ENVIRONMENT,
            hint=_UPGRADE,
        )
    targets = {
        name: {
            "context": ".",
            "dockerfile": name,
            "args": {"BASE_IMAGE": "scratch"},
            "contexts": dict.fromkeys(named, _EMPTY),
        }
        for name, named in contexts.items()
    }
    bake = {"group": {"default": {"targets": list(targets)}}, "target": targets}
    (folder / "bake.json").write_text(json.dumps(bake))
    options = ("--file", "bake.json", "--call", "check,format=json", "--progress", "quiet")
    done = proc.run(
        # The default builder, as builds take it.
        cli.argv("buildx", "bake", "--builder", "default", *options),
        code=ExitCode.ENVIRONMENT,
        cwd=folder,
        env=cli.environment,
        timeout_s=_TIMEOUT_S,
        check=False,  # it ends with 1 when it finds something
    )
    try:
        told = json.loads(done.stdout)["target"]
        return {name: _answer(told[name]["check"]) for name in contexts}
    except (ValueError, KeyError, TypeError):
        raise _no_answer(done) from None


def _answer(check: dict[str, Any]) -> Answer:
    remarks = [
        Remark(
            linter="BuildKit",
            rule=str(warning["ruleName"]),
            line=_line(warning),
            message=str(warning["detail"]),
            about=warning.get("url"),
        )
        for warning in check.get("warnings") or ()
    ]
    error = check.get("buildError")
    if error is None:
        return Answer(tuple(remarks))
    message = str(error["message"])
    if _NOT_FETCHED in message:
        return Answer(tuple(remarks), message)
    found = Remark(
        linter="BuildKit", rule=_UNREADABLE, line=_line(error), message=message, about=None
    )
    return Answer((*remarks, found))


def _line(told: dict[str, Any]) -> int:
    """Of what has none, the first."""
    ranges = (told.get("location") or {}).get("ranges") or [{"start": {"line": 1}}]
    return int(ranges[0]["start"]["line"])


def _no_answer(done: proc.Done) -> RelforgeError:
    failed = proc.failure(done, code=ExitCode.ENVIRONMENT, hint="scripts/engine up, or start yours")
    if _NO_LINT in (failed.why or ""):
        failed.what, failed.why = "the engine's BuildKit is too old to check", None
        failed.hint = _UPGRADE
    return failed
