"""HTTP for package indexes: one requests session that also is unearth's fetcher."""

from __future__ import annotations

import contextlib
import logging
import ssl
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from relforge.addresses import shown
from relforge.network import read_certificates, usual_bundle
from relforge.sources.places import Places, proxy_of, why_unreachable

_FILE_READ_TIMEOUT_S = 60.0
_CHUNK_BYTES = 1 << 20
_RETRY = Retry(
    total=3,
    connect=0,  # whether somebody is there was asked before, within the site's own limit
    read=1,
    status=3,
    backoff_factor=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    raise_on_status=False,
    respect_retry_after_header=False,  # a server must not make a run sleep for an hour
)
_REFUSED = (401, 403, 407)

# unearth warns about pages that do not answer; the caller reports those itself, with a remedy.
logging.getLogger("unearth").addHandler(logging.NullHandler())
logging.getLogger("unearth").propagate = False


class Unreachable(Exception):
    """A place did not answer, or not with what was asked for."""


@dataclass
class _LocalPage:
    url: str
    status_code: int
    reason: str
    content: bytes
    encoding: str = "utf-8"
    headers: dict[str, str] = field(default_factory=dict)


class _Adapter(HTTPAdapter):
    """Verifies servers against the configured bundle and the site's extra CA.

    Chooses the proxy anew for every address, also where a server sends us elsewhere.
    """

    def __init__(
        self, context: ssl.SSLContext | None, proxies: Callable[[str], dict[str, str]]
    ) -> None:
        self._context = context
        self._proxies = proxies
        super().__init__(max_retries=_RETRY, pool_maxsize=8)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        kwargs["proxies"] = self._proxies(request.url or "")
        return super().send(request, **kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return super().proxy_manager_for(*args, **kwargs, ssl_context=self._context)


class IndexClient:
    """Asks package indexes; satisfies unearth's ``Fetcher`` protocol, also for file:// URLs."""

    def __init__(self, places: Places) -> None:
        from unearth.auth import MultiDomainBasicAuth

        self.places = places
        self._session = requests.Session()
        self._session.trust_env = False  # what counts of the environment is in `places`
        # Credentials of an index URL also open the files it links to; netrc and keyring count too.
        self._session.auth = MultiDomainBasicAuth(
            prompting=False, index_urls=[u for u in places.index_urls if "://" in u]
        )
        if places.client_cert:
            self._session.cert = places.client_cert
        self._bundle = places.cert or usual_bundle()
        self._insecure = {_host_and_port(host) for host in places.trusted_hosts}
        context = None
        if places.extra_ca is not None:
            read_certificates(places.extra_ca)
            context = ssl.create_default_context(cafile=self._bundle)
            context.load_verify_locations(cafile=str(places.extra_ca))
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, _Adapter(context, places.proxies))
        for host in places.trusted_hosts:
            self._session.mount(f"https://{host}", _Adapter(None, places.proxies))

    def __enter__(self) -> IndexClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Any:
        """A page. Raises Unreachable when there is no answer."""
        if urlsplit(url).scheme == "file":
            return _local_page(url)
        return self._answer("GET", url, headers)

    def head(self, url: str, *, headers: Mapping[str, str] | None = None) -> Any:
        """The headers of a page."""
        return self._answer("HEAD", url, headers)

    @contextlib.contextmanager
    def get_stream(self, url: str, *, headers: Mapping[str, str] | None = None) -> Iterator[Any]:
        """A response whose body is read in pieces (``iter_bytes``, as unearth names it)."""
        with self._request("GET", url, headers, _FILE_READ_TIMEOUT_S, stream=True) as response:
            response.iter_bytes = response.iter_content  # type: ignore[attr-defined]
            yield response

    def iter_secure_origins(self) -> Iterable[tuple[str, str, str]]:
        """The origins that unearth may ask, as (scheme, host, port): as pip has it."""
        from unearth.fetchers import DEFAULT_SECURE_ORIGINS

        yield from DEFAULT_SECURE_ORIGINS
        for host, port in self._insecure:
            yield "*", host, "*" if port is None else str(port)

    def chunks(self, url: str) -> Iterator[bytes]:
        """The bytes of a file, local or not. Raises Unreachable."""
        if urlsplit(url).scheme == "file":
            try:
                with _local_path(url).open("rb") as file:
                    while chunk := file.read(_CHUNK_BYTES):
                        yield chunk
            except OSError as error:
                raise Unreachable(str(error)) from error
            return
        # Stored files have no use for another encoding on the way, and their size is then known.
        plain = {"Accept-Encoding": "identity"}
        with self.get_stream(url, headers=plain) as response:
            if response.status_code != 200:
                raise Unreachable(f"HTTP {response.status_code} for {shown(url)}")
            try:
                yield from response.iter_content(_CHUNK_BYTES)
            except requests.RequestException as error:
                raise Unreachable(_reason(error)) from error

    def _answer(
        self, method: str, url: str, headers: Mapping[str, str] | None
    ) -> requests.Response:
        """A page. unearth would only log why there is none."""
        response = self._request(method, url, headers, 3 * self.places.timeout_s)
        if response.status_code in _REFUSED or response.status_code >= 500:
            asked = proxy_of(url, self.places.proxies(url))
            through = f" (through the proxy {shown(asked)})" if asked else ""
            raise Unreachable(f"HTTP {response.status_code} {response.reason}{through}")
        return response

    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        read_timeout_s: float,
        *,
        stream: bool = False,
    ) -> requests.Response:
        proxies = self.places.proxies(url)
        if why := why_unreachable(url, self.places.timeout_s, proxies=proxies):
            raise Unreachable(why)
        parts = urlsplit(url)
        trusted = {(parts.hostname or "", None), (parts.hostname or "", parts.port)}
        try:
            return self._session.request(
                method,
                url,
                headers=dict(headers or {}),
                timeout=(self.places.timeout_s, read_timeout_s),
                verify=self._bundle if trusted.isdisjoint(self._insecure) else False,
                stream=stream,
            )
        except requests.exceptions.ProxyError as error:
            asked = shown(proxy_of(url, proxies) or "")
            raise Unreachable(f"the proxy {asked} does not let us in: {_reason(error)}") from error
        except requests.RequestException as error:
            raise Unreachable(_reason(error)) from error


def _host_and_port(host: str) -> tuple[str, int | None]:
    parts = urlsplit(f"//{host}")
    return parts.hostname or host, parts.port


def _local_path(url: str) -> Path:
    return Path(urllib.request.url2pathname(urlsplit(url).path))


def _local_page(url: str) -> _LocalPage:
    path = _local_path(url)
    try:
        return _LocalPage(url, 200, "OK", path.read_bytes(), headers={"Content-Type": "text/html"})
    except OSError as error:
        return _LocalPage(url, 404, error.strerror or "not there", b"")


def _reason(error: requests.RequestException) -> str:
    inner: object = error.args[0] if error.args else error
    reason = getattr(inner, "reason", None)
    reason = getattr(reason, "original_error", reason)  # a proxy's own words
    return shown_text(str(reason if isinstance(reason, Exception) else inner))


def shown_text(text: str) -> str:
    """A library's error text without the addresses of objects in it."""
    return text.rpartition(">: ")[2] or text
