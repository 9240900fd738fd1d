"""The coverage probe in an image: carried in beside it, run once, and gone."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.cancel import CancelToken
from relforge.engine.containers import ContainerState, Mount, running
from relforge.frozen import Frozen, content_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from docker import DockerClient

    from relforge.serving.model import Node

MODULE = "relforge.coverage.probe"
_PROBE, _OUT, _FILE = "/relforge-probe", "/relforge-out", "coverage.json"
_MOST_BYTES = 64 << 20
_POLL_S = 0.1

# Constant, since manifests end in "$@" alone. The interpreter is the one that vLLM is installed
# for; what the image or the manifest has on PYTHONPATH stays there.
_START = f"""\
python=python3
if program=$(command -v vllm) && read -r first <"$program"; then
  case $first in '#!'*python*) python=${{first#??}} ;; esac
fi
PYTHONPATH={_PROBE}${{PYTHONPATH:+:$PYTHONPATH}} exec $python -m {MODULE} "$@"
"""


class ProbeEnd(Frozen):
    """How the probe ended. ``evidence`` is what it wrote; ``timed_out``: it was ended for that."""

    state: ContainerState
    evidence: bytes | None
    log: str
    timed_out: bool


def run_probe(
    engine: DockerClient,
    node: Node,
    words: Sequence[str],
    *,
    area: Path,
    run_id: str,
    release: str,
    log_path: Path,
    limit_s: float,
    cancel: CancelToken,
    on_line: Callable[[str], None] | None = None,
) -> ProbeEnd:
    """Runs the probe as *node* would serve: image, devices, weights and variables; no network.

    *area* is a private folder that outlives the call. The container is gone at its end, however
    that comes. Raises Cancelled, StartFailed, or another RelforgeError (ENVIRONMENT).
    """
    probe, out = area / "probe", area / "out"
    for name, content in probe_files().items():
        path = probe / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)
    for folder in (probe, *(path for path in probe.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    out.mkdir()
    out.chmod(0o777)  # the image's own user writes there; *area* lets nobody else in
    spec = node.model_copy(
        update={
            "argv": ("/bin/sh", "-c", _START, "relforge", "--out", f"{_OUT}/{_FILE}", *words),
            "env": {**node.env, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
            "mounts": (
                *node.mounts,
                Mount(host=probe, container=_PROBE),
                Mount(host=out, container=_OUT, read_only=False),
            ),
            "ports": (),
            "network": "none",
            "healthcheck": False,
        }
    )
    log_path.unlink(missing_ok=True)
    deadline = time.monotonic() + limit_s
    with running(
        engine, spec, run_id=run_id, release=release, log_path=log_path, on_line=on_line
    ) as container:
        while not container.exited.wait(_POLL_S) and time.monotonic() < deadline:
            cancel.check()
        cancel.check()
        timed_out = not container.exited.is_set()
        state, log = container.state(), container.log_text()
    return ProbeEnd(
        state=state,
        evidence=_written(out / _FILE),
        log=log,
        timed_out=timed_out,
    )


def probe_files() -> dict[str, bytes]:
    """The probe, by path below a folder of PYTHONPATH: it needs nothing else of relforge."""
    found = {}
    for package in ("relforge", "relforge.coverage"):
        found[f"{package.replace('.', '/')}/__init__.py"] = b""
    for file in resources.files(MODULE).iterdir():
        if file.name.endswith(".py"):
            found[f"{MODULE.replace('.', '/')}/{file.name}"] = file.read_bytes()
    return found


@cache
def probe_key() -> str:
    """A hash of the probe: another one may count otherwise."""
    return content_key({name: content.decode() for name, content in probe_files().items()})


def _written(path: Path) -> bytes | None:
    """What the container left, which may be anything: a link of its making is not followed."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
            return content if len(content) <= _MOST_BYTES else None
    return None
