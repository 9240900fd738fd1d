"""Asks a hub through the worker; what comes back is an answer or a ``Fault``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from relforge import proc, redact
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import HubSite, Site
from relforge.network import child_environment
from relforge.publishing.hubs.asking import Ask, Fault
from relforge.publishing.hubs.files import Hub
from relforge.retrying import POLICY, RetryPolicy

_PUBLIC: dict[Hub, str] = {
    "huggingface": "https://huggingface.co",
    "modelscope": "https://www.modelscope.cn",
}
_PACKAGE_ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Patience:
    """How long a hub may take: ``answer_s`` for any request, and for uploads as much again as the
    bytes need at ``slowest_bytes_per_s``. ``policy`` says what is tried again."""

    policy: RetryPolicy = POLICY
    answer_s: float = 180.0
    slowest_bytes_per_s: int = 50_000

    def limit_s(self, upload_bytes: int) -> float:
        return self.answer_s + upload_bytes / self.slowest_bytes_per_s


@dataclass(frozen=True)
class HubClient:
    """One repository of a hub. ``scratch`` is a folder for the client library's files.

    Raises RelforgeError (ENVIRONMENT) when it is made and there is no token.
    """

    hub: Hub
    repository: str
    site: Site
    scratch: Path
    patience: Patience
    token: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "token", _token(self.hub_site, self.hub, self.site.file))

    @property
    def hub_site(self) -> HubSite:
        """What the site says about this hub."""
        hubs = self.site.hubs
        return hubs.huggingface if self.hub == "huggingface" else hubs.modelscope

    @property
    def endpoint(self) -> str:
        return endpoint_of(self.hub, self.site)

    def ask(
        self,
        action: str,
        arguments: dict[str, Any],
        *,
        repository: str | None = None,
        look: dict[str, Any] | None = None,
        upload_bytes: int = 0,
        line: Callable[[str], None] = lambda _line: None,
        cancel: CancelToken | None = None,
    ) -> dict[str, Any]:
        """The worker's answer; ``looked`` in it is that of ``look`` with these arguments, asked
        right afterwards. Raises Fault, Cancelled."""
        ask = Ask(
            hub=self.hub,
            action=action,
            endpoint=self.endpoint,
            token=self.token,
            repository=repository or self.repository,
            scratch=str(self.scratch),
            arguments=arguments,
            look=look,
            main_repository=self.repository,
        )

        def told(text: str) -> None:
            if text and not text.startswith(("{", "}")):
                line(text)

        limit_s = self.patience.limit_s(upload_bytes)
        try:
            done = proc.run(
                [sys.executable, "-m", "relforge.publishing.hubs.worker"],
                code=ExitCode.PUBLISH,
                env=self._env(),
                # The first entry of the child's module path: a folder with no modules in it.
                cwd=self.scratch,
                stdin=json.dumps(asdict(ask)).encode(),
                timeout_s=limit_s,
                check=False,
                cancel=cancel,
                on_line=told,
            )
        except RelforgeError as error:
            if isinstance(error.__cause__, TimeoutError):
                raise Fault("slow", f"{action} was not through within {limit_s:g} s") from error
            raise
        return _answer(done)

    def _env(self) -> dict[str, str]:
        own = str(self.scratch)
        env = {
            # Caches, and the logins of whoever runs this, stay out of it.
            "HF_HOME": own,
            "HF_HUB_OFFLINE": "0",
            "MODELSCOPE_HOME": own,
            "MODELSCOPE_CACHE": own,
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            # Large files go by git's own protocol for them, which mirrors and proxies know, too.
            "HF_HUB_DISABLE_XET": "1",
            "TQDM_DISABLE": "1",
            # What is tried again is decided in one place, by what the hub answered.
            "MODELSCOPE_API_MAX_RETRIES": "1",
            "MODELSCOPE_UPLOAD_HTTP_RETRY_ALLOWED_METHODS": "NONE",
            "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "1",
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH")])
            ),
        }
        return env | child_environment(self.site, self.scratch)


def endpoint_of(hub: Hub, site: Site) -> str:
    """The address that the site names, else the public one; without a slash at its end."""
    one = site.hubs.huggingface if hub == "huggingface" else site.hubs.modelscope
    return (one.endpoint or _PUBLIC[hub]).rstrip("/")


def _answer(done: proc.Done) -> dict[str, Any]:
    try:
        answer = json.loads(done.text.rpartition("\n")[2])
        error = answer.get("error")
    except (ValueError, AttributeError):
        tail = done.stderr.decode("utf-8", "replace").strip().splitlines()[-3:]
        why = redact.text(" ".join(tail)) or f"exit status {done.returncode}"
        raise Fault("broken", f"the client ended without an answer: {why}") from None
    if error is not None:
        raise Fault(error["kind"], redact.text(error["text"]), error["status"], error["after_s"])
    assert isinstance(answer, dict)
    return answer


def _token(site: HubSite, hub: Hub, site_file: Path | None) -> str:
    problem, token = "the site configuration names no token file for it", ""
    if site.token_file is not None:
        try:
            token = site.token_file.read_text().strip()
            good = bool(token) and token.isprintable() and " " not in token
            problem = "" if good else "it holds no token"
        except (OSError, UnicodeDecodeError) as error:
            problem = str(error)
    if problem:
        raise RelforgeError(
            f"there is no token to publish to {hub} with",
            code=ExitCode.ENVIRONMENT,
            where=str(site.token_file or site_file or "the site configuration"),
            why=problem,
            hint=f"write a token that may write into a file, and name it as hubs.{hub}.token_file",
        )
    redact.register(token)
    return token
