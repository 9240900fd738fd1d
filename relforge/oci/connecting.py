"""Connections to registries: whose certificates count, and how long an answer may take.

requests and urllib3 bound the time between two bytes. A server that sends one byte now and then is
never late by that measure; and a thread that waits for an answer does not hear that the run was
cancelled. So each wait for an answer is watched, and ended by closing its socket.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from requests import Session
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse

from relforge.cancel import CancelToken
from relforge.manifest.site import Site
from relforge.network import ca_bundle, read_certificates, usual_bundle

CERTS_D = (Path("/etc/docker/certs.d"), Path("~/.config/docker/certs.d"))
"""Where Docker keeps certificates by registry: ``HOST/*.crt`` are CAs, ``*.cert`` with ``*.key``
are ours. The second is that of an engine without root."""
_BLOCK_BYTES = 1 << 18
_POLL_S = 0.1
_CONNECTIONS = 16

_waiting = threading.local()


@contextlib.contextmanager
def answering_within(limit_s: float, cancel: CancelToken | None) -> Iterator[None]:
    """Of every request of this thread meanwhile: the head of its answer comes in time, or the
    connection is closed; also as soon as the run is cancelled."""
    before = getattr(_waiting, "limits", None)
    _waiting.limits = (limit_s, cancel)
    try:
        yield
    finally:
        _waiting.limits = before


def open_session(host: str, site: Site) -> Session:
    """A session that follows nothing but the site: no netrc, no proxies of its own, no retries.

    Raises RelforgeError (ENVIRONMENT) when a certificate that counts cannot be read.
    """
    session = Session()
    session.trust_env = False
    adapter = _Adapter(pool_connections=4, pool_maxsize=_CONNECTIONS, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.verify, session.cert = _trust(host, site, session)
    return session


def _trust(host: str, site: Site, holder: object) -> tuple[str, tuple[str, str] | None]:
    folders = [place.expanduser() / host for place in CERTS_D]
    own = next((folder for folder in folders if folder.is_dir()), None)
    more = sorted(own.glob("*.crt")) if own else []
    ours = next((c for c in sorted(own.glob("*.cert")) if c.with_suffix(".key").is_file()), None) \
        if own else None  # fmt: skip
    cert = (str(ours), str(ours.with_suffix(".key"))) if ours else None
    if not more and site.extra_ca is None:
        return usual_bundle(), cert
    work = Path(tempfile.mkdtemp(prefix="relforge-registry-"))
    weakref.finalize(holder, shutil.rmtree, work, ignore_errors=True)
    bundle = Path(usual_bundle())
    if site.extra_ca is not None:
        bundle = ca_bundle(site.extra_ca, work)
    if more:
        whole = work / "with-certs.d.pem"
        whole.write_bytes(b"\n".join(read_certificates(path) for path in (bundle, *more)))
        bundle = whole
    return str(bundle), cert


class _Watched:
    """Mixed into connections: closes the socket of an answer that is too late."""

    sock: Any

    def getresponse(self) -> HTTPResponse:
        limit_s, cancel = getattr(_waiting, "limits", None) or (None, None)
        if limit_s is None or self.sock is None:
            return super().getresponse()  # type: ignore[misc,no-any-return]
        done, late = threading.Event(), threading.Event()
        watcher = threading.Thread(
            target=_watch, args=(self.sock, limit_s, cancel, done, late), daemon=True
        )
        watcher.start()
        try:
            answer: HTTPResponse = super().getresponse()  # type: ignore[misc]
            return answer
        except Exception:
            if late.is_set():
                if cancel is not None:
                    cancel.check()
                raise TimeoutError(f"no answer within {limit_s:.0f} s") from None
            raise
        finally:
            done.set()
            watcher.join()


def _watch(
    sock: socket.socket,
    limit_s: float,
    cancel: CancelToken | None,
    done: threading.Event,
    late: threading.Event,
) -> None:
    deadline = time.monotonic() + limit_s
    while not done.wait(_POLL_S):
        if time.monotonic() > deadline or (cancel is not None and cancel.cancelled):
            late.set()
            with contextlib.suppress(OSError):
                # Not SSLSocket's own: that would take its state from under the waiting thread.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            return


class _Connection(_Watched, HTTPConnection):  # type: ignore[misc]
    pass


class _TlsConnection(_Watched, HTTPSConnection):  # type: ignore[misc]
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, blocksize=_BLOCK_BYTES, **more)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        manager = super().proxy_manager_for(proxy, blocksize=_BLOCK_BYTES, **more)
        manager.pool_classes_by_scheme = _POOLS
        return manager
