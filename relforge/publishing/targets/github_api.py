"""GitHub's REST API as far as releases need it: one session, one way to fail.

Sources: GitHub's REST API documentation, version 2022-11-28 (releases, release assets, rate limits
and secondary rate limits).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from relforge import redact, retrying
from relforge.addresses import shown
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.publishing import GithubSite
from relforge.manifest.site import Site
from relforge.network import Proxy, for_children, load_requests, proxies_for
from relforge.retrying import POLICY, RetryPolicy, TryAgain

if TYPE_CHECKING:
    import requests

_VERSION = "2022-11-28"
_CONNECT_S, _READ_S = 10.0, 60.0
_CHUNK = 1 << 16
_PER_PAGE = 100


class Github:
    """An open session. Every call is one request; ``again`` repeats what may be repeated."""

    def __init__(
        self,
        spec: GithubSite,
        session: requests.Session,
        *,
        policy: RetryPolicy = POLICY,
        answer_s: float = 120.0,
        line: Callable[[str], None] = lambda _line: None,
        cancel: CancelToken | None = None,
    ) -> None:
        self._spec = spec
        self._session = session
        self._policy = policy
        self._answer_s = answer_s
        """A whole answer takes at most so long, however slowly its bytes come."""
        self._line = line
        self._cancel = cancel
        self.repository = f"{spec.api.rstrip('/')}/repos/{spec.repository}"

    def again(self, action: Callable[[], Any]) -> Any:
        """What the action returns, tried again after passing faults.

        An action that makes something first looks whether an earlier try made it. Raises
        RelforgeError (PUBLISH), Cancelled.
        """
        from requests import RequestException

        try:
            return retrying.call(action, policy=self._policy, line=self._line, cancel=self._cancel)
        except TryAgain as last:
            raise self._failed("GitHub does not do it now", str(last)) from last
        except RequestException as last:
            raise self._failed("GitHub does not answer", str(last)) from last

    def pages(self, url: str) -> Iterator[dict[str, Any]]:
        """Every object of a list, page by page."""
        from requests.utils import parse_header_links

        at: str | None = f"{url}?per_page={_PER_PAGE}"
        while at:
            found, headers = self._asked("GET", at)
            if not isinstance(found, list):
                raise TryAgain("the answer is no list")
            yield from found
            links = parse_header_links(headers.get("Link", ""))
            at = next((str(one["url"]) for one in links if one.get("rel") == "next"), None)
            if at is not None and urlsplit(at)[:2] != urlsplit(url)[:2]:
                raise self._failed("GitHub names a page elsewhere", at)  # the token stays here

    def ask(self, method: str, url: str, value: Any = None) -> Any:
        """One request with a JSON object; returns the answer's. Raises TryAgain, RelforgeError."""
        return self._asked(method, url, json=value)[0]

    def upload(self, url: str, data: IO[bytes], size_bytes: int) -> Any:
        """Sends a file."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        return self._asked("POST", url, data=data if size_bytes else b"", headers=headers)[0]

    def download(self, url: str) -> bytes:
        """The content of an asset. Its storage elsewhere gets no token: requests takes it off."""
        return self._request("GET", url, headers={"Accept": "application/octet-stream"})[0]

    def _asked(self, method: str, url: str, **how: Any) -> tuple[Any, Mapping[str, str]]:
        body, headers = self._request(method, url, **how)
        try:
            return (json.loads(body) if body else None), headers
        except ValueError as error:
            raise TryAgain(f"the answer of {shown(url)} ends early") from error

    def _request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, **how: Any
    ) -> tuple[bytes, Mapping[str, str]]:
        if self._cancel is not None:
            self._cancel.check()
        token = _token(self._spec.token_file)
        answer = self._session.request(
            method,
            url,
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {token}",
                "X-GitHub-Api-Version": _VERSION,
                "User-Agent": "relforge",
                **(headers or {}),
            },
            timeout=(_CONNECT_S, _READ_S),
            stream=True,
            **how,
        )
        with answer:
            body = self._body(answer)
        if answer.ok:
            return body, answer.headers
        raise self._refused(answer, body, token, f"{method} {shown(url)}")

    def _body(self, answer: requests.Response) -> bytes:
        until = time.monotonic() + self._answer_s
        parts = []
        for part in answer.iter_content(_CHUNK):
            parts.append(part)
            if time.monotonic() > until:
                raise TryAgain(f"GitHub's answer took more than {self._answer_s:g} s")
        return b"".join(parts)

    def _refused(self, answer: requests.Response, body: bytes, token: str, what: str) -> Exception:
        status, why = answer.status_code, _message(body)
        again = retrying.judge_answer(status, answer.headers)
        if again is None and status in (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS):
            again = _limited(answer, why)
        if again is not None:
            return TryAgain(f"GitHub: HTTP {status} {why}".strip(), after_s=again.after_s)
        if status == HTTPStatus.CONFLICT or "already_exists" in why:
            # Another try, or somebody else, was faster: what is there now decides.
            return TryAgain(f"GitHub: HTTP {status} {why}".strip())
        told = f"HTTP {status} {why}".strip()
        token_file = str(self._spec.token_file)
        if status == HTTPStatus.UNAUTHORIZED:
            if _token(self._spec.token_file) != token:
                return TryAgain("the token was renewed meanwhile")
            return self._failed(
                "GitHub does not accept the token", told, f"write a valid token into {token_file}"
            )
        if status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            return self._failed(
                f"GitHub refuses {what}",
                told,
                f"check the repository, and that the token in {token_file} may write its contents",
            )
        return self._failed(f"GitHub refuses {what}", told)

    def _failed(self, what: str, why: str, hint: str = "try the same command again") -> Exception:
        return RelforgeError(
            what,
            code=ExitCode.PUBLISH,
            where=f"{shown(self._spec.api)} {self._spec.repository}",
            why=redact.text(why),
            hint=hint,
        )


@contextmanager
def connected(spec: GithubSite, site: Site, **how: Any) -> Iterator[Github]:
    """A session with the site's proxy and certificates; ``how`` goes to ``Github``."""
    load_requests()
    from requests import Session

    with for_children(site) as network, Session() as session:
        # Only what is named here: a .netrc of the user's would replace the token.
        session.trust_env = False
        session.proxies.update(proxies_for(spec.api, Proxy.of(site)))
        session.verify = network.get("REQUESTS_CA_BUNDLE") or _usual()
        yield Github(spec, session, **how)


def _usual() -> str:
    from relforge.network import usual_bundle

    return usual_bundle()


def _token(file: Path) -> str:
    try:
        lines = file.read_text().split()
        why = "" if lines else "it is empty"
    except (OSError, UnicodeDecodeError) as error:
        lines, why = [], str(error)
    if why:
        raise RelforgeError(
            "the token for GitHub cannot be read",
            code=ExitCode.ENVIRONMENT,
            where=str(file),
            why=why,
            hint="write a token into that file, or correct github.token_file of the target",
        )
    redact.register(lines[0])
    return lines[0]


def _message(body: bytes) -> str:
    """What GitHub says is wrong: its message, and the codes of single fields."""
    try:
        found = json.loads(body)
        errors = found.get("errors") or []
        codes = [str(e.get("message") or e.get("code")) if isinstance(e, dict) else str(e)
                 for e in errors]  # fmt: skip
        return redact.text(" ".join(filter(None, (str(found.get("message", "")), *codes))))[:500]
    except (ValueError, AttributeError):
        return redact.text(body.decode("utf-8", "replace").strip())[:200]


def _limited(answer: requests.Response, why: str) -> retrying.Again | None:
    """A rate limit, which GitHub also tells with 403: when to come back, or None."""
    after = retrying.retry_after_s(answer.headers.get("Retry-After"))
    if after is None and answer.headers.get("X-RateLimit-Remaining") == "0":
        reset = answer.headers.get("X-RateLimit-Reset", "")
        after = max(0.0, float(reset) - time.time()) if reset.isdigit() else 60.0
    if after is None and "rate limit" not in why.lower():
        return None
    return retrying.Again(why, after)
