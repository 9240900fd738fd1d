"""Which steps rest on which: what a step makes that a later one uses."""

from __future__ import annotations

import re
from collections.abc import Iterable

from relforge.card.execute.docker_words import DockerCall
from relforge.card.execute.script import Statement, docker_call, expanded, program, used_variables
from relforge.card.execute.steps import Step

_OPENED = re.compile(
    r"(?:https?://)?(?:127\.0\.0\.1|localhost|0\.0\.0\.0|\[::1\])(?::(\d+))?(?:/|\b)", re.I
)


def makes(step: Step, variables: dict[str, str]) -> frozenset[str]:
    """Variables, containers, folders, ports and the place in a shell that the step brings about.

    As words: ``$NAME``, ``container NAME``, ``image NAME``, ``folder NAME``, ``port 8000``,
    ``shell``.
    """
    found: set[str] = set()
    for statement in step.script.statements:
        found |= {f"${name}" for name, _ in statement.assignments}
        for command in statement.commands:
            name, words = program(command)
            filled = [expanded(word, variables) for word in words]
            call = docker_call(command, variables)
            if call is not None:
                found |= set(_docker_makes(call))
            elif name == "git" and "clone" in words:
                found |= {f"folder {_cloned(filled)}"}
            elif name == "mkdir":
                found |= {f"folder {word.rstrip('/')}" for word in filled[1:] if word[:1] != "-"}
            elif name in ("hf", "huggingface-cli", "modelscope"):
                found |= {f"folder {word}" for word in _local_dirs(filled)}
            if "--port" in words and (call is None or call.on_host_network):
                found |= {f"port {port}" for port in _after(filled, "--port")}
    if step.marker and step.marker.ready:
        found |= {f"port {port}" for port in ports_of(step.marker.ready)}
    return frozenset(found)


def uses(step: Step, variables: dict[str, str]) -> frozenset[str]:
    """What a step takes for granted, in the words of ``makes``."""
    found: set[str] = set()
    own: set[str] = set()
    for statement in step.script.statements:
        found |= {f"${name}" for name in used_variables(statement.text)} - own
        own |= {f"${name}" for name, _ in statement.assignments}
        for command in statement.commands:
            name, words = program(command)
            filled = [expanded(word, variables) for word in words]
            call = docker_call(command, variables)
            if call is not None:
                found |= set(_docker_uses(call))
            if name == "cd" and len(filled) > 1:
                found |= {f"folder {filled[1].rstrip('/').partition('/')[0] or filled[1]}"}
            if name in ("curl", "wget"):
                found |= {f"port {p}" for word in filled for p in ports_of(word)}
    return frozenset(found)


def ports_of(text: str) -> tuple[str, ...]:
    """Ports of this host in URLs of a text; 80 and 443 where they name none."""
    found = []
    for match in _OPENED.finditer(text):
        usual = "443" if match[0].lower().startswith("https") else "80"
        if match[1] or "://" in match[0]:
            found.append(match[1] or usual)
    return tuple(found)


def enters_shell(step: Step, variables: dict[str, str]) -> bool:
    """Whether what follows is typed inside a container."""
    return any(statement_enters(s, variables) for s in step.script.statements)


def statement_enters(statement: Statement, variables: dict[str, str]) -> bool:
    """Whether one statement does: ``docker exec -it NAME bash``."""
    calls = [docker_call(command, variables) for command in statement.commands]
    return len(calls) == 1 and calls[0] is not None and calls[0].enters_shell


def known_variables(steps: Iterable[Step], given: dict[str, str]) -> dict[str, str]:
    """Values of the variables that the card sets to plain words; ``given`` ones stay."""
    found = dict(given)
    for step in steps:
        for statement in step.script.statements:
            for name, raw in statement.assignments:
                value = expanded(raw, found)
                if name not in given and "$" not in value and "`" not in value:
                    found[name] = value
    return found


def _docker_makes(call: DockerCall) -> Iterable[str]:
    if call.verb in ("run", "create"):
        yield from (f"container {name}" for name in call.values("name"))
        yield from (f"port {port}" for port in call.host_ports)
    elif call.verb in ("pull", "load", "build"):
        yield "image"
        if call.image:
            yield f"image {call.image}"


def _docker_uses(call: DockerCall) -> Iterable[str]:
    if call.verb in ("exec", "logs", "stop", "kill", "rm", "start", "restart", "attach", "cp"):
        yield from (f"container {name.partition(':')[0]}" for name in call.operands[:1])


def _cloned(words: list[str]) -> str:
    operands = [word for word in words[words.index("clone") + 1 :] if not word.startswith("-")]
    last = operands[-1] if operands else ""
    return last.rstrip("/").rpartition("/")[2].removesuffix(".git")


def _local_dirs(words: list[str]) -> list[str]:
    return [*_after(words, "--local-dir"), *_after(words, "--local_dir")]


def _after(words: list[str], option: str) -> list[str]:
    found = [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
    found += [words[i + 1] for i, word in enumerate(words[:-1]) if word == option]
    return found
