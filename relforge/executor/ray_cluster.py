"""The driver's connection to a Ray cluster: no telemetry, our own signals, hosts as they are."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from relforge.errors import ExitCode, RelforgeError
from relforge.executor.ray_placement import Host
from relforge.manifest.site import Site

NAME_LABEL = "relforge-host"
_FRESH_S = 1.0
_ANSWER_S = 10.0
_HEAD_S = 60.0
"""Ray's own nodes wait as long for a head; a shorter pause of it costs nobody anything."""
_RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"
_DAYS_S = 7 * 24 * 3600
_PORTS = range(1, 65536)


@contextmanager
def connected(site: Site) -> Iterator[Any]:
    """The module ``ray``, connected to the site's cluster.

    Raises RelforgeError: ENVIRONMENT when the extra is not installed or nobody answers, USAGE when
    the site names no cluster.
    """
    address = site.ray.address
    if address is None:
        raise RelforgeError(
            "no Ray cluster is named",
            code=ExitCode.USAGE,
            where=str(site.file or "the site configuration"),
            hint="ray: {address: HOST:PORT} there; relforge worker --head starts one",
        )
    require_answer(address)
    os.environ.update(shows(site))
    # Ray ends a process that does not reach the head, in the middle of what it does and without a
    # word. ``Hosts`` tells of it, and what needs no cluster goes on. Read when Ray is loaded; the
    # nodes that a worker starts keep to Ray's minute.
    patient = str(_DAYS_S)
    own = os.environ.setdefault(_RECONNECT, patient) == patient
    # Ray puts its own handler in the place of ours.
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray = imported()
        ray.init(
            address=address,
            job_config=_own_code_only(ray),
            log_to_driver=False,
            configure_logging=False,
            namespace="relforge",
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise RelforgeError(
            "the Ray cluster does not answer",
            code=ExitCode.ENVIRONMENT,
            where=address,
            why=str(error).splitlines()[0],
            hint="start the head (relforge worker --head), and a worker on this host, whose Ray "
            f"node this run goes through: relforge worker --address {address}",
        ) from error
    finally:
        if own:
            del os.environ[_RECONNECT]
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    try:
        yield ray
    finally:
        ray.shutdown()


def require_answer(address: str) -> None:
    """Asks whether anybody listens there: Ray itself would try for minutes, without a word.

    Raises RelforgeError: USAGE for an address that is none, ENVIRONMENT when nobody does.
    """
    host, _, port = address.rpartition(":")
    if not host or re.search(r"[\s/@]", host) or not port.isdecimal() or int(port) not in _PORTS:
        raise RelforgeError(
            f"{address} is no address of a head",
            code=ExitCode.USAGE,
            hint="write HOST:PORT, for example 192.0.2.10:6379",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except OSError as error:
        raise RelforgeError(
            "no head of a Ray cluster answers",
            code=ExitCode.ENVIRONMENT,
            where=address,
            why=error.strerror or str(error),
            hint="start it (relforge worker --head), and see that this host reaches it",
        ) from error


class _NoPaths(list[str]):
    """Stays empty."""

    def extend(self, _paths: Iterable[str], /) -> None:
        """Ray adds the driver's folder here, and workers would import relforge from there."""


def _own_code_only(ray: Any) -> Any:
    """A job whose processes have the search path of their own host. Should Ray do it otherwise one
    day, workers refuse the job (``ray_agent.py``)."""
    config = ray.job_config.JobConfig()
    config._py_driver_sys_path = _NoPaths()
    return config


def shows(site: Site) -> dict[str, str]:
    """What makes Ray show the site's token, and ask others for it; the token itself stays in its
    file. Raises RelforgeError (SOURCE) when that is not there."""
    token_file = site.ray.token_file
    if token_file is None:
        return {}
    if not token_file.is_file():
        raise RelforgeError(
            "the cluster's token is not there",
            code=ExitCode.SOURCE,
            where=str(token_file),
            hint="copy it from the head, or correct ray.token_file in the site configuration",
        )
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file)}


def imported() -> Any:
    """Ray, without its reports of use, and connected to nothing that was not named.

    Raises RelforgeError (ENVIRONMENT).
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Whatever asks Ray once more when all is over gets an error, not a cluster of its own.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    try:
        import ray
    except ImportError as error:
        raise RelforgeError(
            "Ray is not installed",
            code=ExitCode.ENVIRONMENT,
            why=str(error),
            hint="pip install 'relforge[ray]'",
        ) from error
    return ray


class Hosts:
    """The nodes of the cluster; asked by many threads, looked up at most once a second.

    The head tells them, and Ray waits for its answer without an end. So a thread of its own asks,
    and a head that says nothing for ``_HEAD_S`` is lost, and all jobs with it.
    """

    def __init__(self, ray: Any, address: str) -> None:
        self._ray, self._address = ray, address
        self._told = threading.Condition()
        self._at_s = -_FRESH_S
        self._known: tuple[Host, ...] = ()
        self._asked_s: float | None = None
        self._error: Exception | None = None

    def now(self) -> tuple[Host, ...]:
        """As they were at most a second ago; those that were lost stay, not alive.

        Raises RelforgeError (ENVIRONMENT) where the head is lost.
        """
        with self._told:
            wanted_s = time.monotonic() - _FRESH_S
            while self._at_s < wanted_s:
                if self._asked_s is None:
                    self._asked_s, self._error = time.monotonic(), None
                    threading.Thread(target=self._ask, name="relforge-hosts", daemon=True).start()
                left_s = self._asked_s + _HEAD_S - time.monotonic()
                if left_s <= 0:
                    raise head_lost(self._address, f"it has not answered for {_HEAD_S:g} s")
                self._told.wait(left_s)
                if self._error is not None:
                    raise head_lost(self._address, str(self._error)) from self._error
            return self._known

    def _ask(self) -> None:
        try:
            known = tuple(_host(node) for node in self._ray.nodes())
        except Exception as error:  # noqa: BLE001 (those who wait for it get it)
            with self._told:
                self._asked_s, self._error = None, error
                self._told.notify_all()
            return
        with self._told:
            self._asked_s, self._at_s, self._known = None, time.monotonic(), known
            self._told.notify_all()


def head_lost(address: str, why: str) -> RelforgeError:
    """The error of every job of a cluster whose head is gone."""
    return RelforgeError(
        "the head of the Ray cluster was lost",
        code=ExitCode.ENVIRONMENT,
        where=address,
        why=why.strip().splitlines()[0] if why.strip() else None,
        hint="start it again (relforge worker --head) and the workers, which left with it; then go "
        "on with the run",
    )


def _host(node: dict[str, Any]) -> Host:
    return Host(
        node_id=node["NodeID"],
        name=node.get("Labels", {}).get(NAME_LABEL, node["NodeManagerHostname"]),
        alive=bool(node["Alive"]),
        resources={str(k): float(v) for k, v in node.get("Resources", {}).items()},
    )
