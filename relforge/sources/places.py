"""Where packages are to be had: pip's own configuration, the site's additions, and who answers."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from relforge import proc
from relforge.addresses import hide_credentials, shown
from relforge.errors import ExitCode
from relforge.manifest.site import Site, replaced
from relforge.network import Proxy, proxies_for

_PORTS = {"http": 80, "https": 443, "git": 9418, "ssh": 22}
_REMEMBER_S = 120.0
_unreachable: dict[tuple[str, int], tuple[float, str]] = {}


@dataclass(frozen=True)
class PipConfig:
    """What pip is configured with, from its files and from PIP_* in the environment."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    no_index: bool = False
    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = None


@dataclass(frozen=True)
class Places:
    """All places in the order of asking: folders and pages of links first, then indexes."""

    find_links: tuple[str, ...]
    index_urls: tuple[str, ...]
    trusted_hosts: tuple[str, ...]
    cert: str | None
    client_cert: str | None
    extra_ca: Path | None
    proxy: str | None
    """pip's own: it counts before the site's."""
    site_proxy: Proxy | None
    timeout_s: float

    @classmethod
    def of(cls, site: Site, index: str | None = None) -> Places:
        """pip's places and the site's, and ``index`` beside them.

        Raises RelforgeError (ENVIRONMENT) when the proxy's password cannot be read.
        """
        pip = pip_config()
        indexes: tuple[str, ...] = ()
        if not pip.no_index:
            indexes = (pip.index_url or default_index(), *pip.extra_index_urls)
        if site.python.torch_cpu_index:
            indexes += (site.python.torch_cpu_index,)
        if index is not None and not pip.no_index:
            indexes += (replaced(index, site.python.index_mirrors),)
        find_links = (*pip.find_links, *site.python.find_links)
        for url in (*indexes, *find_links, *([pip.proxy] if pip.proxy else [])):
            hide_credentials(url)
        return cls(
            find_links=tuple(dict.fromkeys(_expanded(f) for f in find_links)),
            index_urls=tuple(dict.fromkeys(indexes)),
            trusted_hosts=pip.trusted_hosts,
            cert=pip.cert,
            client_cert=pip.client_cert,
            extra_ca=site.extra_ca,
            proxy=pip.proxy,
            site_proxy=Proxy.of(site),
            timeout_s=site.python.index_timeout_s,
        )

    def proxies(self, url: str) -> dict[str, str]:
        """The proxies for a URL by scheme, as ``requests`` takes them."""
        if self.proxy:
            return {"http": self.proxy, "https": self.proxy}
        return proxies_for(url, self.site_proxy)


def _expanded(link: str) -> str:
    return str(Path(link).expanduser()) if link.startswith("~") else link


def default_index() -> str:
    """The index that is asked when none is configured; unearth knows its address."""
    from unearth import PackageFinder

    url: str = PackageFinder().sources[0]["url"]
    return url


def pip_config() -> PipConfig:
    """pip's configuration as ``pip config list`` tells it; read once for each environment."""
    env = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith("PIP_")))
    found = _read_pip_config(env)
    asked = (found.index_url, *found.extra_index_urls, *found.find_links, found.proxy)
    for address in filter(None, asked):
        hide_credentials(address)
    return found


@lru_cache(maxsize=4)
def _read_pip_config(env: tuple[tuple[str, str], ...]) -> PipConfig:
    if importlib.util.find_spec("pip") is not None:
        argv = [sys.executable, "-m", "pip", "config", "list"]
    elif found := shutil.which("pip"):
        argv = [found, "config", "list"]
    else:
        return parse_pip_config(
            "\n".join(f":env:.{k[4:].lower().replace('_', '-')}={v!r}" for k, v in env)
        )
    done = proc.run(
        argv,
        code=ExitCode.ENVIRONMENT,
        what="pip's configuration cannot be read",
        hint="run `pip config list` and mend what it complains about",
        timeout_s=60,
    )
    return parse_pip_config(done.text)


def parse_pip_config(listing: str) -> PipConfig:
    """Reads the rows of ``pip config list``: ``section.key='value'``, the stronger section wins."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for row in listing.splitlines():
        name, equals, value = row.partition("=")
        section, dot, key = name.rpartition(".")
        if equals and dot and section in sections:
            sections[section][key] = _unquoted(value)
    merged: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        merged.update({k: v for k, v in sections[section].items() if v})
    return PipConfig(
        index_url=merged.get("index-url"),
        extra_index_urls=tuple(merged.get("extra-index-url", "").split()),
        find_links=tuple(merged.get("find-links", "").split()),
        trusted_hosts=tuple(merged.get("trusted-host", "").split()),
        no_index=merged.get("no-index", "").lower() in {"1", "true", "yes", "on", "y", "t"},
        cert=merged.get("cert"),
        client_cert=merged.get("client-cert"),
        proxy=merged.get("proxy"),
    )


def _unquoted(value: str) -> str:
    try:
        parsed = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return parsed if isinstance(parsed, str) else value


def why_unreachable(
    url: str, timeout_s: float, *, proxies: Mapping[str, str] | None = None
) -> str | None:
    """None when the URL's host (or the proxy for it) takes a connection within *timeout_s*.

    What is told names the proxy where that is what does not answer. Name look-up and every
    address of the name together stay within that time: neither has a limit of its own in the
    libraries. A failure is remembered for two minutes.
    """
    if proxy := proxy_of(url, proxies):
        why = _why_closed(proxy, timeout_s)
        return why and f"the proxy {shown(proxy)} does not answer: {why}"
    return _why_closed(url, timeout_s)


def proxy_of(url: str, proxies: Mapping[str, str] | None) -> str | None:
    """The address of the proxy that is asked for a URL; None: its own host is."""
    proxy = (proxies or {}).get(urlsplit(url).scheme) or (proxies or {}).get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _why_closed(url: str, timeout_s: float) -> str | None:
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        return None
    address = (parts.hostname, parts.port or _PORTS[parts.scheme])
    known = _unreachable.get(address)
    if known and time.monotonic() - known[0] < _REMEMBER_S:
        return known[1]
    outcome: list[str | None] = []

    def knock() -> None:
        try:
            socket.create_connection(address, timeout_s).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=knock, daemon=True, name="knock")
    thread.start()
    thread.join(timeout_s)
    why = outcome[0] if outcome else f"no answer within {timeout_s:g} s"
    if why is not None:
        _unreachable[address] = (time.monotonic(), why)
    return why
