"""Whether it ends when it is asked to."""

from __future__ import annotations

import time

from relforge.serving.probes.model import ProbeFailed, ProbeNotRun, Target

_BY_SIGTERM = 143
"""128 + SIGTERM: a program that ends by the signal without catching it."""


def graceful_stop(target: Target) -> str:
    if target.host is None:
        raise ProbeNotRun("the server was not started here, and goes on")
    if target.device is not None:
        target.device.sample("serving", target.host)
    if target.before_stop is not None:
        target.before_stop()
    limit_s = target.settings.stop_timeout_s
    began = time.monotonic()
    state = target.host.stop(limit_s)
    target.stop_s = time.monotonic() - began
    if target.device is not None:
        target.device.sample("after")
    if state.running:
        raise ProbeFailed(f"the server still runs {limit_s:g} s after SIGTERM")
    if state.exit_code not in (0, _BY_SIGTERM):
        raise ProbeFailed(f"asked to end (SIGTERM), the server {state.shown()}")
    return f"ended with exit status {state.exit_code} {target.stop_s:.1f} s after SIGTERM"
