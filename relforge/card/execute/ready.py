"""Whether a server answers, and at which address a step's server is asked."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from relforge.card.execute.links import makes, ports_of
from relforge.card.execute.script import docker_call, expanded
from relforge.card.execute.steps import Step

_ASK_S = 3.0
_URL = re.compile(
    r"https?://(?:127\.0\.0\.1|localhost|\[::1\]|0\.0\.0\.0)(?::\d+)?(?:/[^\s'\"`]*)?"
)


@dataclass(frozen=True)
class Question:
    """``any_status``: nobody said what a ready server answers, so any answer will do."""

    url: str
    any_status: bool

    @property
    def port(self) -> int:
        """Of this host."""
        return int(ports_of(self.url)[0])


def question(step: Step, later: Iterable[Step], variables: dict[str, str]) -> Question | None:
    """Where the server that a step starts is asked whether it is ready; None where nobody says.

    The marker says so; else the words before the block name a path; else the address is that of the
    next request in the card, or the port that is published.
    """
    if step.marker and step.marker.ready:
        return Question(expanded(step.marker.ready, variables), any_status=False)
    ports = [int(t.split()[1]) for t in makes(step, variables) if t.startswith("port ")]
    bases = [url for one in later for url in local_urls(one, variables)]
    hosting = any(
        call.on_host_network
        for statement in step.script.statements
        for command in statement.commands
        if (call := docker_call(command, variables)) is not None
    )
    for url in bases:
        base = re.sub(r"(?<=[\w\]])/.*$", "", url.replace("0.0.0.0", "127.0.0.1"))  # noqa: S104
        if hosting or not ports or int(ports_of(url)[0]) in ports:
            return _at(base, step)
    return _at(f"http://127.0.0.1:{ports[0]}", step) if ports else None


def local_urls(step: Step, variables: dict[str, str]) -> tuple[str, ...]:
    """Addresses on this host that a step's commands name, with scheme."""
    found: list[str] = []
    for statement in step.script.statements:
        for command in statement.commands:
            for word in command.argv:
                text = expanded(word, variables)
                if re.match(r"^(?:localhost|127\.0\.0\.1):\d+", text):
                    text = f"http://{text}"
                found += _URL.findall(text)
    return tuple(found)


def asked(what: Question) -> tuple[bool, str]:
    """Whether it is ready, and what it answered."""
    import requests

    try:
        with requests.Session() as session:
            session.trust_env = False
            with session.get(what.url, timeout=_ASK_S, stream=True) as answer:
                good = what.any_status or answer.status_code == 200
                return good, f"HTTP {answer.status_code}"
    except (requests.RequestException, ValueError) as error:
        return False, type(error).__name__


def listens(port: int) -> bool:
    """Whether anybody takes connections at a port of this host."""
    with socket.socket() as probe:
        probe.settimeout(_ASK_S)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _at(base: str, step: Step) -> Question:
    return Question(f"{base}{step.ready_path or '/'}", any_status=step.ready_path is None)
