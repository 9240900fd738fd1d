"""``relforge serve`` without ``--print``: a launch that is really started, and ended."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from relforge.cli.common import Workplace, interruptible, to_stderr
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.run_folder import new_run_id
from relforge.manifest.hosts import HostNode
from relforge.serving.model import LaunchSpec
from relforge.serving.reach import check_reach
from relforge.serving.start import RUN_PREFIX, serving, stop


def run(place: Workplace, spec: LaunchSpec, *, check_nodes: bool) -> None:
    """Serves until a node ends; the address is printed on stdout once it answers.

    Raises what ``serving`` raises, RelforgeError (ENVIRONMENT) with ``check_nodes`` when nodes do
    not reach each other, and RelforgeError (GATE) when a server ended by itself.
    """
    run_id = f"{RUN_PREFIX}{new_run_id()}"
    logs = place.home / "serve" / run_id
    engine = place.site.engine
    to_stderr(f"starting {spec.release} on {len(spec.nodes)} node(s); logs: {logs}")
    with ExitStack() as stack:
        cancel = stack.enter_context(interruptible())
        if check_nodes and len(spec.nodes) > 1:
            reach = check_reach(spec, engine, run_id=run_id, logs=logs, cancel=cancel)
            to_stderr(reach.shown())
        found = stack.enter_context(
            serving(
                spec,
                engine,
                run_id=run_id,
                logs=logs,
                cancel=cancel,
                on_line=lambda node, line: to_stderr(f"{node} | {line}"),
            )
        )
        to_stderr(f"ready after {found.start_to_ready_s:.1f} s; Ctrl-C ends it")
        sys.stdout.write(f"{found.base_url}/v1\n")
        sys.stdout.flush()
        ended = found.nodes.wait(cancel)
    if ended.state.status == "gone":
        to_stderr(f"{spec.release} was stopped")
        return
    raise RelforgeError(
        f"the server of {ended.node} {ended.state.shown()}",
        code=ExitCode.GATE,
        where=f"release {spec.release}",
        why="a server does not end by itself",
        hint="read its log",
        log=str(logs / f"{ended.node}.log"),
    )


def end(place: Workplace, release: str, hosts: tuple[HostNode, ...] | None) -> None:
    """Removes what ``run`` started of that release, on these hosts or on the site's engine."""
    contexts = [host.context for host in hosts] if hosts else [None]
    removed = stop(release, contexts, place.site.engine)
    for name in removed:
        to_stderr(f"removed {name}")
    if not removed:
        to_stderr(f"nothing of {release} is served here")
