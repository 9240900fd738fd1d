"""The docker of a card's shell: the real one, watched. Standard library only.

It marks what the card makes, so that exactly that is removed at the end; refuses what is not to be
run, now that variables have their values; takes away ``-t`` where no terminal is; and shows what
was refused and which images containers were made of to the test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relforge.card.engine_words import Given
from relforge.card.execute.docker_needs import Surroundings, docker_needs, is_container_verb
from relforge.card.execute.docker_words import DockerCall, parse

REFUSED = 126


def main(words: Sequence[str]) -> int:
    """``words``: the settings file, then what the card gives to docker. Only returns to refuse."""
    settings: dict[str, Any] = json.loads(Path(words[0]).read_text())
    given = list(words[1:])
    call = parse(given)
    if call is not None:
        refused = _refused(call, settings)
        if refused is not None:
            with Path(settings["refusals"]).open("a") as file:
                file.write(json.dumps({"kind": refused[0], "reason": refused[1]}) + "\n")
            sys.stderr.write(f"relforge card test: not run: {refused[1]}\n")
            return REFUSED
        given = _rewritten(given, call, settings)
    os.execv(settings["docker"], [settings["docker"], *given])  # noqa: S606
    raise AssertionError("unreachable")


def _refused(call: DockerCall, settings: dict[str, Any]) -> tuple[str, str] | None:
    there = Surroundings(
        runtimes=tuple(settings["runtimes"]),
        gpus=settings["gpus"],
        writable=tuple(settings["writable"]),
    )
    for need in docker_needs(call, there, str(Path.cwd())):
        if need.kind not in settings["have"]:
            return need.kind, need.reason
    if is_container_verb(call) and "host" not in settings["have"]:
        names = call.operands if call.verb not in ("exec", "commit") else call.operands[:1]
        for name in names:
            if not _is_ours(name, settings):
                return "host", f"docker {call.verb}: the container {name} is not the card's"
    return None


def _is_ours(name: str, settings: dict[str, Any]) -> bool:
    """Also when there is none of that name: docker says so itself."""
    shown = subprocess.run(
        [settings["docker"], "container", "inspect", "--format", "{{json .Config.Labels}}", name],
        capture_output=True,
        text=True,
        check=False,
    )
    if shown.returncode != 0:
        return True
    labels = json.loads(shown.stdout) or {}
    project = labels.get("com.docker.compose.project")
    wanted = settings["labels"]
    ours = all(labels.get(key) == value for key, value in wanted.items())
    return ours or project == settings["compose_project"]


def _rewritten(given: list[str], call: DockerCall, settings: dict[str, Any]) -> list[str]:
    words = list(given)
    if call.image is not None and call.verb in ("run", "create"):
        words[call.first_operand] = settings["images"].get(call.image, call.image)
    detached = call.has("detach") or call.verb == "create"
    if call.verb in ("run", "exec", "create") and not detached and not sys.stdin.isatty():
        for option in call.options:
            if option.name == "tty":
                _without_tty(words, option)
    if call.verb in ("run", "create"):
        marks = [part for k, v in settings["labels"].items() for part in ("--label", f"{k}={v}")]
        words[call.verb_index + 1 : call.verb_index + 1] = marks
    return [word for word in words if word]


def _without_tty(words: list[str], option: Given) -> None:
    word = words[option.index]
    if word.startswith("--") or word in ("-t", "-"):
        words[option.index] = "--tty=false"
    else:
        words[option.index] = word.replace("t", "", 1)
