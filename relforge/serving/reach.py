"""Whether the nodes of a launch reach each other, before minutes are spent on starting servers.

On every node the launch's own container is started with a small Python program instead of the
server (``reach_program.py``): same image, mounts, devices and network. It listens where the server
would; then every node asks all others, and this machine asks the first.
"""

from __future__ import annotations

import json
import queue
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relforge.cancel import CancelToken
from relforge.engine.containers import Container, StartFailed
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.site import EngineSite
from relforge.serving import reach_program
from relforge.serving.diagnosis import last_words
from relforge.serving.doors import SERVED, Closed, Door, binds_of, not_reached
from relforge.serving.model import LaunchSpec, Node
from relforge.serving.nodes import address_from_here, started

_PROGRAM = Path(reach_program.__file__)
_LISTENING_S = 60.0
_POLL_S = 0.1
_HERE = "this machine"


class Reach(Frozen):
    """What was found well. ``not_run`` says why nothing was asked."""

    paths: int = 0
    seconds: float = 0.0
    not_run: str | None = None

    def shown(self) -> str:
        """The finding as one line for people."""
        if self.not_run is not None:
            return f"whether the nodes reach each other was not asked: {self.not_run}"
        return f"the nodes reach each other: {self.paths} paths asked in {self.seconds:.1f} s"


@dataclass(frozen=True)
class _Listening:
    name: str
    node: Node
    container: Container
    doors: tuple[Door, ...]
    closed: tuple[Closed, ...]


def check_reach(
    spec: LaunchSpec, site: EngineSite, *, run_id: str, logs: Path, cancel: CancelToken
) -> Reach:
    """Asks every node for every other, and the first node from here; nothing is left running.

    Raises RelforgeError (ENVIRONMENT) that names each pair that does not reach each other and each
    port that is taken, or the node whose container cannot be started; Cancelled.
    """
    begun = time.monotonic()
    address = address_from_here(spec.nodes[0])
    if len(spec.nodes) < 2:
        return Reach(not_run="there is one node")
    unknown = [spec.name_of(node) for node in spec.nodes if node.address is None]
    if unknown:
        return Reach(not_run=f"the nodes file gives no address of {', '.join(unknown)}")
    with ExitStack() as stack:
        try:
            nodes = [
                stack.enter_context(_listening(spec, node, site, run_id, logs, cancel))
                for node in spec.nodes
            ]
        except StartFailed as error:
            if '"python3"' not in (error.why or ""):
                raise
            return Reach(not_run="the image has no python3")
        closed = [fault for one in nodes for fault in one.closed]
        paths = 0
        # Each node has a connection of its own to its engine.
        with ThreadPoolExecutor(len(nodes)) as pool:
            wanted = [_doors_of_others(nodes, one) for one in nodes]
            for doors, found in zip(wanted, pool.map(_ask, nodes, wanted), strict=True):
                paths += len(doors)
                closed += found
        from_here = [door for door in nodes[0].doors if door.use == SERVED]
        paths += len(from_here)
        closed += _ask_from_here(address, from_here)
        cancel.check()
    if closed:
        raise not_reached(spec, closed)
    return Reach(paths=paths, seconds=time.monotonic() - begun)


@contextmanager
def _listening(
    spec: LaunchSpec,
    node: Node,
    site: EngineSite,
    run_id: str,
    logs: Path,
    cancel: CancelToken,
) -> Iterator[_Listening]:
    cancel.check()
    name = spec.name_of(node)
    word = secrets.token_hex(8)
    binds = binds_of(spec, node)
    words = [text for bind in binds for text in (bind.address, str(bind.port))]
    listener = node.model_copy(
        update={
            "name": f"{node.name}-reach",
            "argv": ("python3", "-c", _PROGRAM.read_text(), "listen", word, *words),
            "ports": (),
            "healthcheck": False,
        }
    )
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    with started(
        listener,
        site,
        run_id=run_id,
        release=spec.release,
        log_path=logs / f"{name}-reach.log",
        on_line=lines.put,
    ) as container:
        doors, closed = [], []
        for bind, answer in zip(binds, _answer(name, container, lines, cancel), strict=True):
            door = Door(
                node=name,
                address=node.address or "",
                port=answer.get("port", bind.port),
                use=bind.use,
                word=word,
            )
            if "error" in answer:
                closed.append(Closed(asker=door.node, door=door, why=answer["error"]))
            else:
                doors.append(door)
        yield _Listening(name, node, container, tuple(doors), tuple(closed))


def _answer(
    name: str, container: Container, lines: queue.SimpleQueue[str], cancel: CancelToken
) -> list[dict[str, Any]]:
    """What the listener printed: a port or an error for each place."""
    deadline = time.monotonic() + _LISTENING_S
    while not container.exited.is_set() and time.monotonic() < deadline:
        cancel.check()
        with suppress(queue.Empty):
            # An image's own libraries may have printed something before.
            line = lines.get(timeout=_POLL_S)
            if line.startswith("[{"):
                answer: list[dict[str, Any]] = json.loads(line)
                return answer
    raise RelforgeError(
        f"python3 does not run in the container of {name}",
        code=ExitCode.ENVIRONMENT,
        where=f"node {name}",
        why=last_words(container.log_text()) or f"it {container.state().shown()}",
        hint="--no-check-nodes starts the servers without asking whether nodes reach each other",
        log=str(container.log_path),
    )


def _doors_of_others(nodes: Sequence[_Listening], asker: _Listening) -> list[Door]:
    """Where the ranks of other hosts listen; the first node also asks the servers behind it."""
    return [
        door
        for one in nodes
        for door in one.doors
        if one.node.host != asker.node.host and (door.use != SERVED or asker is nodes[0])
    ]


def _ask(asker: _Listening, doors: Sequence[Door]) -> list[Closed]:
    words = [text for door in doors for text in (door.address, str(door.port), door.word)]
    status, out = asker.container.execute(("python3", "-c", _PROGRAM.read_text(), "ask", *words))
    said = out.decode("utf-8", "replace").strip()
    line = said.splitlines()[-1:]
    if status != 0 or not line:
        raise RelforgeError(
            f"{asker.name} cannot ask the other nodes",
            code=ExitCode.ENVIRONMENT,
            where=f"node {asker.name}",
            why=f"python3 ended with exit status {status}\n{last_words(said)}",
            hint="--no-check-nodes starts the servers without asking",
        )
    return [
        Closed(asker=asker.name, door=door, why=why)
        for door, why in zip(doors, json.loads(line[0]), strict=True)
        if why is not None
    ]


def _ask_from_here(address: str, doors: Sequence[Door]) -> list[Closed]:
    return [
        Closed(asker=_HERE, door=door.model_copy(update={"address": address}), why=why)
        for door in doors
        if (why := reach_program.asked(address, door.port, door.word)) is not None
    ]
