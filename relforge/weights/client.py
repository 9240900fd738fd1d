"""Asks a hub through the worker, and says in our words what went wrong there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from relforge import proc, redact
from relforge.addresses import shown
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.site import HubSite, Site
from relforge.network import Proxy, child_environment, proxies_for
from relforge.sources.places import proxy_of, why_unreachable
from relforge.weights.asking import Request
from relforge.weights.faults import Asked, Hub, Repository, hub_error

_PUBLIC: dict[Hub, str] = {
    "huggingface": "https://huggingface.co",
    "modelscope": "https://www.modelscope.cn",
}
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_A_WEEK_S = 7 * 24 * 3600


class Listed(Frozen):
    """One file of a repository, as the hub lists it; ``sha256`` None where it does not say."""

    path: str
    size_bytes: int | None
    sha256: str | None


class _Fault(Frozen):
    kind: str
    text: str


class _Answer(Frozen):
    files: tuple[Listed, ...] = ()
    revision: str = ""
    error: _Fault | None = None


@dataclass(frozen=True)
class HubClient:
    """Talks to the hub of one repository; ``scratch`` is an empty folder for the client library.

    Raises RelforgeError (ENVIRONMENT) when it is made and the token file cannot be read.
    """

    repository: Repository
    site: Site
    scratch: Path
    token: str | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "token", _token(self._hub_site, self.repository.hub))

    @property
    def _hub_site(self) -> HubSite:
        hubs = self.site.hubs
        return hubs.huggingface if self.repository.hub == "huggingface" else hubs.modelscope

    @property
    def endpoint(self) -> str:
        return (self._hub_site.endpoint or _PUBLIC[self.repository.hub]).rstrip("/")

    def look(self, cancel: CancelToken, line: Callable[[str], None]) -> tuple[Listed, ...]:
        """The files of the pinned revision. Raises RelforgeError: SOURCE, ENVIRONMENT."""
        return self._ask(self._request("look"), cancel, line).files

    def revision(self, cancel: CancelToken, line: Callable[[str], None]) -> str:
        """What the repository's revision stands for now: a commit, or a tag of ModelScope's.

        Raises RelforgeError: SOURCE, ENVIRONMENT.
        """
        return self._ask(self._request("revision"), cancel, line).revision

    def fetch(
        self,
        path: str,
        size_bytes: int,
        into: Path,
        cancel: CancelToken,
        line: Callable[[str], None],
    ) -> None:
        """One file to its path in *into*, continued where an earlier fetch ended; unverified.

        Raises RelforgeError: SOURCE, ENVIRONMENT.
        """
        request = replace(self._request("fetch"), path=path, size_bytes=size_bytes, into=str(into))
        self._ask(request, cancel, line)

    def _request(self, action: str) -> Request:
        return Request(
            hub=self.repository.hub,
            action=action,
            endpoint=self.endpoint,
            token=self.token,
            repository=self.repository.name,
            revision=self.repository.revision,
        )

    def _ask(self, request: Request, cancel: CancelToken, line: Callable[[str], None]) -> _Answer:
        def told(text: str) -> None:
            if not text.startswith(("{", "}")):
                line(text)

        done = proc.run(
            [sys.executable, "-m", "relforge.weights.worker"],
            code=ExitCode.SOURCE,
            env=self._env(),
            # The first entry of the child's module path: a folder with no modules in it.
            cwd=self.scratch,
            stdin=json.dumps(asdict(request)).encode(),
            check=False,
            cancel=cancel,
            on_line=told,
        )
        try:
            answer = _Answer.model_validate_json(done.text.rpartition("\n")[2])
        except ValidationError as error:
            raise proc.failure(
                done,
                code=ExitCode.SOURCE,
                what=f"the client of {self.repository.hub} ended without an answer",
                hint="run the same command again: it continues where this one stopped",
            ) from error
        if answer.error is not None:
            kind, text = answer.error.kind, answer.error.text
            proxies = proxies_for(self.endpoint, Proxy.of(self.site))
            proxy = proxy_of(self.endpoint, proxies)
            if kind == "unreachable" and proxy is not None:
                # The libraries do not say that it was the proxy which they asked.
                timeout_s = self.site.python.index_timeout_s
                text = why_unreachable(self.endpoint, timeout_s, proxies=proxies) or text
            place = Asked(
                self.repository,
                endpoint=self.endpoint,
                path=request.path,
                into=request.into,
                token_file=self._hub_site.token_file,
                site_file=self.site.file,
                proxy=None if proxy is None else shown(proxy),
            )
            raise hub_error(kind, text, place)
        return answer

    def _env(self) -> dict[str, str]:
        own = str(self.scratch)
        env = {
            # Caches, and the logins of whoever runs this, stay out of it.
            "HF_HOME": own,
            "MODELSCOPE_HOME": own,
            "MODELSCOPE_CACHE": own,
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TQDM_DISABLE": "1",
            # A large file over a slow line takes longer than the library's own limit of an hour;
            # a line that stands still ends it all the same.
            "MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT": str(_A_WEEK_S),
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH")])
            ),
        }
        return env | child_environment(self.site, self.scratch)


def _token(site: HubSite, hub: Hub) -> str | None:
    if site.token_file is None:
        return None
    try:
        token = site.token_file.read_text().strip()
        problem = "" if token and token.isprintable() and " " not in token else "it holds no token"
    except (OSError, UnicodeDecodeError) as error:
        token, problem = "", str(error)
    if problem:
        raise RelforgeError(
            f"the token for {hub} cannot be read",
            code=ExitCode.ENVIRONMENT,
            where=str(site.token_file),
            why=problem,
            hint=f"write the token into that file, or correct hubs.{hub}.token_file in the site "
            "configuration",
        )
    redact.register(token)
    return token
