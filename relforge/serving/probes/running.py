"""Runs probes in order; each has its own verdict, reason and time.

A server may be healthy and still write rubbish, or die of its first request: so every answer is
read, and after a failure the container is looked at before anything else is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from relforge.cancel import CancelToken
from relforge.errors import RelforgeError
from relforge.events import Verdict
from relforge.serving.client import ServerFault
from relforge.serving.diagnosis import diagnose, last_words
from relforge.serving.probes.model import Probe, ProbeFailed, ProbeNotRun, Target
from relforge.serving.report import Cause, ProbeResult
from relforge.serving.wait import NotReady

# A server whose engine died of a request takes a while to end itself: vLLM 0.32 about 5 s.
_DEATH_GRACE_S = 8.0
_ALIVE_GRACE_S = 0.3
_TOO_MANY_LATE = 2

OnResult = Callable[[ProbeResult], None]


def run_probes(
    target: Target,
    probes: Sequence[Probe],
    *,
    cancel: CancelToken | None = None,
    on_result: OnResult | None = None,
) -> tuple[ProbeResult, ...]:
    """Runs the probes in order. A dead server, or one that answers nothing any more, makes the rest
    ``not-run``; other failures do not.

    ``on_result`` is told each result as it comes. Raises Cancelled when the token is set.
    """
    cancel = cancel or CancelToken()
    results: list[ProbeResult] = []
    over: str | None = None
    late = 0
    for probe in probes:
        cancel.check()
        skipped = target.settings.skip.get(probe.name)
        if over is not None or skipped is not None:
            reason = over or skipped or ""
            result = ProbeResult(name=probe.name, verdict="not-run", reason=reason, seconds=0)
            results.append(result)
            if on_result is not None:
                on_result(result)
            continue
        result, timed_out = _run(probe, target)
        cancel.check()  # a server that we ended did not fail
        results.append(result)
        if on_result is not None:
            on_result(result)
        if probe.asks:
            late = late + 1 if timed_out else 0
        if result.verdict != "fail":
            continue
        if _is_dead(target) and probe.asks:
            over = f"the server did not survive probe {probe.name!r}"
        elif probe.vital:
            over = f"probe {probe.name!r} failed"
        elif late >= _TOO_MANY_LATE:
            over = f"{late} probes in a row got no answer in time"
    return tuple(results)


def _run(probe: Probe, target: Target) -> tuple[ProbeResult, bool]:
    """The result, and whether an answer did not come in time."""
    started = time.monotonic()
    first_request = not target.requests_made
    cause: Cause | None = None
    timed_out = False
    verdict: Verdict
    try:
        verdict, reason = "pass", probe.check(target)
    except ProbeNotRun as absent:
        verdict, reason = "not-run", str(absent)
    except NotReady as late:
        verdict, cause = "fail", late.cause
        reason = f"{late.what}: {late.cause.explanation if late.cause else late.why}"
    except (ProbeFailed, RelforgeError) as failed:
        ours = isinstance(failed, RelforgeError) and not isinstance(failed, ServerFault)
        if ours and not _is_dead(target):
            raise  # of the host, not of the server
        said = failed.what if isinstance(failed, RelforgeError) else str(failed)
        timed_out = isinstance(failed, ServerFault) and failed.kind == "timeout"
        verdict = "fail"
        grace_s = _DEATH_GRACE_S if isinstance(failed, ServerFault) else _ALIVE_GRACE_S
        reason, cause = _explained(
            target, said, grace_s if probe.asks else 0, first_request=first_request
        )
    result = ProbeResult(
        name=probe.name,
        verdict=verdict,
        reason=reason,
        seconds=time.monotonic() - started,
        cause=cause,
    )
    return result, timed_out


def _explained(
    target: Target, said: str, grace_s: float, *, first_request: bool
) -> tuple[str, Cause | None]:
    """The failure in words: whether the server died of it, and why if that is known."""
    process = target.process
    if process is None:
        return said, diagnose("", None, said)
    process.exited.wait(grace_s)
    state, log = process.state(), process.log_text()
    cause = diagnose(log, state, said)
    if not process.exited.is_set() or not grace_s:
        return (f"{said}: {cause.explanation}" if cause else said), cause
    which = "the first request" if first_request and target.requests_made else "the request"
    killed = (
        f"{which} killed the server, which {state.shown()}"
        if target.requests_made
        else (f"the server {state.shown()}")
    )
    return f"{killed}: {cause.explanation if cause else state.error or last_words(log)}", cause


def _is_dead(target: Target) -> bool:
    return target.process is not None and target.process.exited.is_set()
