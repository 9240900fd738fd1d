"""Requests to one registry: its scheme, our login, the policy for retries, errors with a remedy."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from relforge.cancel import CancelToken
from relforge.manifest.site import Site
from relforge.network import Proxy, load_requests, proxies_for, speaks_tls
from relforge.oci.auth import Authority, is_loopback
from relforge.oci.reference import Repository
from relforge.oci.refusals import refused, unreachable
from relforge.retrying import POLICY, RetryPolicy, TryAgain, call

if TYPE_CHECKING:
    from requests import Response

CONNECT_S = 30.0
"""To connect, and for each block that is sent."""
READ_S = 60.0
"""Between two bytes of an answer."""
ANSWER_S = 120.0
"""From the end of a request to the head of its answer."""
_SMALL_BYTES = 8 << 20
"""The largest answer that is kept in memory; manifests have at most 4 MiB (specification)."""
_SMALL_S = 120.0
_BLOCK_BYTES = 1 << 16
_PROBE_S = 10.0
_HUB = ("docker.io", "index.docker.io")

Body = Callable[[], "IO[bytes]"]


class Wrong(Exception):
    """An answer that was not wanted; ``response`` is what ``retrying`` reads."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer
        self.response = answer


@dataclass(frozen=True)
class Answer:
    """``data`` is the body, but of a streamed answer: that is read from ``stream``."""

    status_code: int
    headers: Mapping[str, str]
    url: str
    data: bytes = field(default=b"", repr=False)
    stream: Response | None = field(default=None, repr=False)

    @property
    def status(self) -> int:
        return self.status_code

    def json(self) -> Any:
        """The parsed body; None where it is no JSON."""
        try:
            return json.loads(self.data)
        except ValueError:
            return None


class Transport:
    """Safe for several threads. ``sent_bytes`` counts the bodies that were sent."""

    def __init__(
        self,
        repository: Repository,
        *,
        site: Site,
        plain_http: bool,
        cancel: CancelToken | None,
        line: Callable[[str], None],
        policy: RetryPolicy = POLICY,
    ) -> None:
        load_requests()
        self.repository = repository
        self.cancel = cancel
        self.line = line
        self.policy = policy
        self.sent_bytes = 0
        self._site = site
        self._plain_http = plain_http
        self._proxy = Proxy.of(site)
        self._counting = threading.Lock()
        self._choosing = threading.Lock()
        self._scheme = ""
        self._authority = Authority(repository, site.engine, self._ask_token_server)

    @cached_property
    def _session(self) -> Any:
        from relforge.oci.connecting import open_session

        return open_session(self.repository.host, self._site)

    def url(self, path: str) -> str:
        """Of a path below the repository, such as ``manifests/v1``."""
        host = self.repository.host
        host = "registry-1.docker.io" if host in _HUB else host
        return f"{self._chosen_scheme()}://{host}/v2/{self.repository.name}/{path}"

    def scopes(self, actions: str, *, mount_from: str | None = None) -> tuple[str, ...]:
        """What a token must allow: ``pull``, ``pull,push`` or ``delete``."""
        own = f"repository:{self.repository.name}:{actions}"
        return (own, f"repository:{mount_from}:pull") if mount_from else (own,)

    def send(
        self,
        what: str,
        method: str,
        url: str,
        *,
        want: Collection[int],
        scopes: tuple[str, ...],
        headers: Mapping[str, str] = {},
        body: Body | bytes | None = None,
        stream: bool = False,
        answer_s: float | None = None,
    ) -> Answer:
        """One request with the policy's retries. Raises RelforgeError (PUBLISH) saying ``what`` did
        not work for every answer that is not in ``want``."""

        def action() -> Answer:
            return self.once(
                method, url, want=want, scopes=scopes, headers=headers, body=body, stream=stream,
                answer_s=answer_s,
            )  # fmt: skip

        try:
            return call(action, policy=self.policy, line=self.tell, cancel=self.cancel)
        except Exception as error:
            raise self.explained(what, url, error) from error

    def tell(self, words: str) -> None:
        """A line for people, with the registry's name."""
        self.line(f"{self.repository}: {words}")

    def explained(self, what: str, url: str, error: Exception) -> Exception:
        """The error for people; what has nothing to do with the network is left as it is."""
        from requests import RequestException
        from urllib3.exceptions import HTTPError

        from relforge.oci.reading import Stalled

        where = str(self.repository)
        if isinstance(error, Wrong):
            shown = f"{where} ({urlsplit(url).path})"
            answer = error.answer
            return refused(what, shown, self.repository, answer.status, answer.data, answer.headers)
        if isinstance(
            error, (RequestException, HTTPError, ConnectionError, TimeoutError, Stalled, TryAgain)
        ):
            return unreachable(what, where, self.repository, error)
        return error

    def once(
        self,
        method: str,
        url: str,
        *,
        want: Collection[int],
        scopes: tuple[str, ...],
        headers: Mapping[str, str] = {},
        body: Body | bytes | None = None,
        stream: bool = False,
        answer_s: float | None = None,
    ) -> Answer:
        """One request without retries, but for one more with a new login after 401.

        Raises Wrong for an answer that is not wanted, and what the library raises.
        """
        ours = urlsplit(url).netloc in (urlsplit(self.url("")).netloc, self.repository.host)
        for last in (False, True):
            used = self._authority.header(scopes) if ours else None
            sent = {**headers, **({"Authorization": used} if used else {})}
            answer = self._exchange(method, url, sent, body, stream, want, answer_s)
            if answer.status in want:
                return answer
            challenge = answer.headers.get("WWW-Authenticate", "")
            again = answer.status == 401 and ours and not last and bool(challenge)
            if not (again and self._authority.challenged(challenge, scopes, used)):
                raise Wrong(answer)
        raise AssertionError("unreachable")

    def below(self, location: str, base: str) -> str:
        """The address that a ``Location`` header means.

        A registry behind a proxy that ends TLS may name itself with http: that is never followed
        from https.
        """
        found = urlsplit(urljoin(base, location))
        asked = urlsplit(base)
        if asked.scheme == "https" and found.scheme == "http" and found.hostname == asked.hostname:
            found = found._replace(scheme="https", netloc=asked.netloc)
        return urlunsplit(found)

    def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | bytes | None,
        stream: bool,
        want: Collection[int],
        answer_s: float | None,
    ) -> Answer:
        from relforge.oci.connecting import answering_within

        if self.cancel is not None:
            self.cancel.check()
        given = body() if callable(body) else body
        limit_s = ANSWER_S if answer_s is None else answer_s
        with answering_within(limit_s, self.cancel):
            response = self._session.request(
                method,
                url,
                # Layers are taken as they are: what is packed for the way would have other bytes.
                headers={"Accept-Encoding": "identity", "User-Agent": "relforge", **headers},
                data=given,
                stream=True,
                allow_redirects=True,
                timeout=(CONNECT_S, max(READ_S, limit_s)),
                proxies=self._proxies(url),
            )
        if given is not None:
            with self._counting:
                self.sent_bytes += len(given) if isinstance(given, bytes) else given.tell()
        if stream and response.status_code in want:
            return Answer(response.status_code, response.headers, response.url, stream=response)
        with contextlib.closing(response):
            data = b"" if method == "HEAD" else self._small(response)
        return Answer(response.status_code, response.headers, response.url, data)

    def _small(self, response: Response) -> bytes:
        deadline = time.monotonic() + _SMALL_S
        parts: list[bytes] = []
        have = 0
        while part := response.raw.read1(_BLOCK_BYTES):
            if self.cancel is not None:
                self.cancel.check()
            parts.append(part)
            have += len(part)
            if have > _SMALL_BYTES:
                raise ConnectionError(f"an answer of more than {_SMALL_BYTES} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"no whole answer within {_SMALL_S:.0f} s")
        return b"".join(parts)

    def _proxies(self, url: str) -> dict[str, str]:
        # No program asks a proxy for its own host; the environment often forgets to say so.
        if is_loopback(urlsplit(url).hostname or ""):
            return {}
        return proxies_for(url, self._proxy)

    def _ask_token_server(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> bytes:
        def action() -> Answer:
            answer = self._exchange(method, url, headers, body, False, (200,), None)
            if answer.status != 200:
                raise Wrong(answer)
            return answer

        try:
            return call(action, policy=self.policy, line=self.tell, cancel=self.cancel).data
        except Exception as error:
            raise self.explained("the registry's token server gave no token", url, error) from error

    def _chosen_scheme(self) -> str:
        with self._choosing:
            if not self._scheme:
                self._scheme = self._find_scheme()
                self._authority.plain = self._scheme == "http"
            return self._scheme

    def _find_scheme(self) -> str:
        if self._plain_http:
            return "http"
        host = self.repository.host
        if not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return "https"
        # As Docker does it for this host's own addresses: TLS where it is spoken, else plain.
        return "https" if speaks_tls(host, _PROBE_S) else "http"
