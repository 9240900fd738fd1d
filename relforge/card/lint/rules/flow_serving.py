"""Ports and names: what is started and what is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.serving import Request
from relforge.card.lint.steps import option
from relforge.card.lint.variables import expand

_NUMBER = re.compile(r"\b\d{2,5}\b")


def _port(document: Document) -> Iterator[Hit]:
    runs = [call for call in document.containers if call.starts]
    published = [port for run in runs if not run.host_network for port in run.ports]
    values = document.variables
    host = {expand(port.host or port.container, values) for port in published}
    container = {expand(port.container, values) for port in published}
    serving = document.servers
    known = _named_ports(document)
    yield from _unpublished(document, container, any(run.host_network for run in runs))
    asked = document.requests
    met = any(request.port in host for request in asked)
    for request in asked:
        # On another path it may be another service, unless nothing at all asks the published one.
        if request.port is None or not (request.api or (host and not met)):
            continue
        if published and not any(run.host_network for run in runs):
            # A range, or a port that only the engine knows.
            if any(not number.isdigit() for number in host):
                continue
            if request.within and request.port in {one.port for one in serving}:
                continue
            outside = {one.port for one in serving if not one.within and one.port}
            if request.port not in host | outside | known - container:
                yield Hit(
                    request.line,
                    f"port {request.port} is asked, and {_list(host)} is published",
                )
        elif serving and all(one.port for one in serving):
            ports = {one.port for one in serving if one.port}
            if request.port in ports | known or _told(document, request):
                continue
            if all(port.isdigit() for port in ports):
                yield Hit(
                    request.line, f"port {request.port} is asked, and {_list(ports)} is served"
                )


def _unpublished(document: Document, container: set[str], host_network: bool) -> Iterator[Hit]:
    """Servers within containers whose port the container does not publish."""
    if not container or host_network or any(not number.isdigit() for number in container):
        return
    for server in document.servers:
        if not server.within or server.port is None or not server.port.isdigit():
            continue
        own = container
        if server.step is not None and server.step.run is not None and server.step.run.ports:
            own = {expand(port.container, document.variables) for port in server.step.run.ports}
        here = any(one.within and one.port == server.port for one in document.requests)
        if server.port not in own and not here:
            yield Hit(
                server.line,
                f"the server takes port {server.port}, and the container publishes {_list(own)}",
                "give `-p` and the server the same port of the container",
            )


def _told(document: Document, request: Request) -> bool:
    """Whether a step that asks nothing has the number of a request's port."""
    number = re.compile(rf"(?<!\d){re.escape(request.port or '')}(?!\d)")
    asking = {one.line for one in document.requests}
    return any(
        number.search(command.raw)
        for command in document.commands
        if command.line not in asking and command.program != "curl"
    )


def _named_ports(document: Document) -> set[str]:
    """Ports of programs that are no servers of models: proxies and the like."""
    found: set[str] = set()
    for step in document.steps:
        program = step.command.started[0].text if step.command.started else ""
        if program in ("curl", "vllm"):
            continue
        given = option(step.command.started, "--port")
        if given is not None:
            found.add(expand(given[1], document.variables))
    for block in document.blocks:
        if block.language in ("yaml", "yml", "nginx", "conf", "ini", "toml", "json"):
            # A file may describe a proxy or a composition; what its numbers mean is not known.
            found.update(_NUMBER.findall(block.text))
    return found


def _model_name(document: Document) -> Iterator[Hit]:
    serving = document.servers
    names = {name for server in serving for name in server.names}
    if not names or any(not server.names for server in serving):
        return
    if any(re.search(r"[$<>{}]", name) for name in names):
        return
    for request in document.requests:
        if request.model is not None and request.model not in names:
            yield Hit(
                request.model_line,
                f"`{request.model}` is asked for, and the server knows {_list(names)} only",
            )


def _list(names: set[str]) -> str:
    return " and ".join(f"`{name}`" for name in sorted(names))


RULES = (
    Rule(
        id="flow-port",
        severity="error",
        title="A port that differs between start and request",
        why="The request meets nothing, or another service.",
        remedy="use one port in the server's start, in `-p` and in the request",
        check=_port,
    ),
    Rule(
        id="flow-model-name",
        severity="error",
        title="A request for a model that is not served under this name",
        why="The server answers 404: the model does not exist.",
        remedy="ask for the name that the server is started with",
        check=_model_name,
    ),
)
