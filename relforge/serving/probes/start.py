"""Whether it runs, listens, is ready, is the server that was built, and serves the model."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from relforge.serving.client import ServerFault
from relforge.serving.probes.model import ProbeFailed, ProbeNotRun, Target


def container_alive(target: Target) -> str:
    if target.process is None:
        raise ProbeNotRun("no container of ours: only the URL is known")
    state = target.process.state()
    if not state.running:
        raise ProbeFailed(
            f"the container {state.shown()}" + (f": {state.error}" * bool(state.error))
        )
    return "the container runs"


def port(target: Target) -> str:
    if target.wait_port is not None:
        target.wait_port()
        return "the server answers on its port"
    try:
        target.client.get("/v1/models")
    except ServerFault as fault:
        if fault.kind != "status":
            raise
    return "the server answers on its port"


def health(target: Target) -> str:
    if target.wait is None:
        target.client.get("/health")
        return "healthy; it was started before"
    target.start_to_ready_s = target.wait()
    return f"ready after {target.start_to_ready_s:.1f} s"


def version(target: Target) -> str:
    path = target.traits.version_path
    if path is None:
        raise ProbeNotRun(f"{target.traits.name} is not known to tell its version")
    found = target.server_version = target.client.version(path)
    wanted = target.expected_version
    if wanted is None:
        return f"{target.traits.name} {found}"
    if not _same_version(found, wanted):
        raise ProbeFailed(f"the server says it is {found}, and the image holds {wanted}")
    return f"{target.traits.name} {found}, as built"


def _same_version(said: str, built: str) -> bool:
    """Local parts (``+cpu``) are left out: servers do not always tell them."""
    try:
        return Version(said).public == Version(built).public
    except InvalidVersion:
        return said == built


def models(target: Target) -> str:
    found = target.client.models()
    ours = [one for one in found if one.id == target.client.model]
    if not ours:
        names = ", ".join(repr(one.id) for one in found) or "no model"
        raise ProbeFailed(
            f"the server serves {names} but not the declared name {target.client.model!r}"
        )
    target.max_model_len = ours[0].max_model_len
    context = f", context {target.max_model_len} tokens" if target.max_model_len else ""
    return f"names {target.client.model!r}{context}"
