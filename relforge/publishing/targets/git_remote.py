"""A git repository somewhere else: what its references are, what they hold, and pushing to it.

A cache in relforge's own folder keeps the newest commits alone, without history, and without the
files' contents where the server can leave them out (partial clone). Objects that are made here lie
in a folder of their own and go with it. A user's checkout is never touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from relforge import redact
from relforge.addresses import hide_credentials, shown
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git, init_store
from relforge.leftovers import owned_folder, sweep_folder
from relforge.manifest.site import Site
from relforge.network import PROXY_HINT
from relforge.proc import Done
from relforge.retrying import TryAgain
from relforge.sources.places import proxy_of
from relforge.sources.remote import (
    PROXY_REFUSED,
    TRANSFER,
    personal_config,
    proxies_of,
    reaching,
    real_url,
    reason,
    refuses_access,
    why_not_reached,
)

_TIMEOUT_S = 3600.0
_KEPT = "refs/relforge/remote/"
_NETWORK_HINT = "check the network and the target's url in the site configuration"
_ACCESS_HINT = (
    "log in: a credential helper (`git config --global credential.helper`), ~/.netrc, or an ssh "
    "key; it needs the right to push"
)
# What a server says that is busy, or whose references another one is just moving.
_PASSING = re.compile(
    r"returned error: (?:429|5\d\d)|http (?:429|5\d\d)|connection reset|timed out|early eof"
    r"|hung up unexpectedly|unexpected disconnect|empty reply|cannot lock ref|unable to lock"
    r"|failed to update ref|incorrect old value|reference already exists|failed to lock"
    r"|transfer closed|recv failure|send failure|could not resolve host",
    re.IGNORECASE,
)
_MOVED = re.compile(
    r"\((?:fetch first|non-fast-forward|stale info|needs force|already exists|remote ref updated)"
)


@dataclass(frozen=True)
class Update:
    """A reference that is to become ``after`` where it is ``before`` now; None: there is none."""

    ref: str
    before: str | None
    after: str | None


class GitRemote:
    """An open connection, as far as git has any: made by ``opened``."""

    def __init__(
        self, url: str, cache: Git, own: Git, env: Mapping[str, str], line: Callable[[str], None]
    ) -> None:
        self.url = url
        self.git = own
        """For everything but fetching: its objects go when the connection is closed."""
        self._cache = cache
        self._env = env
        self._line = line

    def run(self, *args: str | Path, stdin: bytes | None = None, check: bool = True) -> Done:
        """``git *args`` on the cache and what was made since. A content that is not here yet is
        fetched by git itself. Raises RelforgeError (PUBLISH)."""
        done = self.git.run(*args, stdin=stdin, check=False, env=self._env, config=self._config)
        if check and done.returncode != 0:
            raise self.failed(f"git {args[0]} did not work", reason(done))
        return done

    def content(self, oid: str) -> bytes:
        """A file of the remote's. One that is not here is fetched, and stays in the cache."""
        done = self._cache.run("cat-file", "blob", oid, check=False, env=self._env,
                               config=self._config)  # fmt: skip
        if done.returncode != 0:
            raise self._refused("", reason(done), reason(done))
        return done.stdout

    @property
    def _config(self) -> dict[str, str]:
        return {**TRANSFER, "remote.origin.url": self.url, "transfer.fsckObjects": "true"}

    def references(self, *names: str) -> dict[str, str]:
        """What these references are at the server; those that are not there are left out.

        Raises RelforgeError (PUBLISH), TryAgain.
        """
        peeled = (f"{name}^{{}}" for name in names if name.startswith("refs/tags/"))
        done = self._talk("ls-remote", "origin", *names, *peeled)
        rows = (row.split("\t") for row in done.text.splitlines())
        found = {name: oid for oid, name in rows}
        wanted = {name for name in found if name in names or name.removesuffix("^{}") in names}
        return {name: found[name] for name in sorted(wanted)}

    def bring(self, *names: str) -> dict[str, str]:
        """The same, and their commits are here. A reference that moved meanwhile is as it was
        fetched."""
        found = self.references(*names)
        lacking = [
            name
            for name, oid in found.items()
            if not name.endswith("^{}") and not self._has(name, oid)
        ]
        if lacking:
            specs = [f"+{name}:{_KEPT}{name}" for name in lacking]
            self._talk(
                "fetch", "--quiet", "--depth=1", "--filter=blob:none", "--no-tags",
                "--no-write-fetch-head", "origin", *specs,
            )  # fmt: skip
            for name in lacking:
                found[name] = self._cache.text("rev-parse", f"{_KEPT}{name}")
                if name.startswith("refs/tags/"):
                    found[f"{name}^{{}}"] = self._cache.text("rev-parse", f"{_KEPT}{name}^{{}}")
        return found

    def _has(self, name: str, oid: str) -> bool:
        done = self._cache.run("rev-parse", "--verify", "--quiet", f"{_KEPT}{name}", check=False)
        return done.returncode == 0 and done.text == oid

    def push(self, updates: Sequence[Update]) -> int:
        """Moves all references or none; returns about how many bytes were sent, as git counts.

        Each must be as its ``before`` says at that moment. Raises TryAgain where one is not, or the
        fault is a passing one, RelforgeError (PUBLISH) for what the server refuses, Cancelled.
        """
        specs = [f"{update.after or ''}:{update.ref}" for update in updates]
        leases = [f"--force-with-lease={update.ref}:{update.before or ''}" for update in updates]
        done = self.git.run(
            "push", "--porcelain", "--progress", "--atomic", "--no-thin", "--no-verify",
            *leases, "origin", *specs,
            check=False, env=self._env, config=self._config, timeout_s=_TIMEOUT_S,
        )  # fmt: skip
        if done.returncode == 0:
            return sent_bytes(done.stderr.decode("utf-8", "replace"))
        said = redact.text(done.stdout.decode("utf-8", "replace"))
        rejected = [row[1:].strip() for row in said.splitlines() if row.startswith("!")]
        why = "\n".join([*_told_by_server(done), *rejected]) or reason(done)
        if any(_MOVED.search(row) for row in rejected):
            raise TryAgain(f"{shown(self.url)} has moved meanwhile")
        raise self._refused("the remote refused the push" if rejected else "", why, reason(done))

    def _talk(self, *args: str) -> Done:
        done = self._cache.run(
            *args, check=False, env=self._env, config=self._config, timeout_s=_TIMEOUT_S
        )
        if done.returncode != 0:
            raise self._refused("", reason(done), reason(done))
        return done

    def _refused(self, what: str, why: str, last: str) -> Exception:
        if PROXY_REFUSED.search(last.lower()):
            return self.failed("the proxy does not let git through", last, PROXY_HINT)
        if refuses_access(last):
            return self.failed("the git server refuses access", why, _ACCESS_HINT)
        if _PASSING.search(f"{why}\n{last}"):
            return TryAgain(f"{shown(self.url)}: {why}")
        if what:
            hint = "read what the remote says; a protected branch may need another right to push"
            return self.failed(what, why, hint)
        lower = last.lower()
        if "does not appear to be a git repository" in lower or "not found" in lower:
            return self.failed("there is no git repository at that address", last, _NETWORK_HINT)
        return self.failed("git could not do its work at the remote", why, _NETWORK_HINT)

    def failed(self, what: str, why: str, hint: str = _NETWORK_HINT) -> RelforgeError:
        """The error of something that went wrong at this remote."""
        return RelforgeError(
            what, code=ExitCode.PUBLISH, where=shown(self.url), why=redact.text(why), hint=hint
        )

    def identity(self) -> tuple[str, str] | None:
        """Name and address that the person's git configuration has, or None."""
        env = {"GIT_CONFIG_GLOBAL": personal_config()}
        name, email = (
            self.git.run("config", "--get", key, check=False, env=env).text
            for key in ("user.name", "user.email")
        )
        return (name, email) if name and email else None


@contextmanager
def opened(
    url: str,
    site: Site,
    folder: Path,
    *,
    line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> Iterator[GitRemote]:
    """A remote, its cache below *folder*. The caller holds a lock: one at a time uses a cache.

    Raises RelforgeError: PUBLISH when the host does not answer, ENVIRONMENT when the cache cannot
    be written.
    """
    hide_credentials(url)
    store = init_store(folder / "cache.git")
    cache = Git(store.git_dir, cancel=cancel)
    sweep_folder(folder, line)
    _free(cache.git_dir)
    real = real_url(cache, url)
    if why := why_not_reached(cache, real, site):
        raise RelforgeError(
            "the git server cannot be reached",
            code=ExitCode.PUBLISH,
            where=shown(real),
            why=why,
            hint=PROXY_HINT if proxy_of(real, proxies_of(cache, real, site)) else _NETWORK_HINT,
        )
    with owned_folder(folder, "objects") as work, reaching(cache, url, site) as env:
        (work / "made").mkdir()
        own = Git(
            cache.git_dir,
            object_dir=work / "made",
            alternates=[cache.git_dir / "objects"],
            index=work / "index",
            cancel=cancel,
        )
        yield GitRemote(url, cache, own, env, line)


def _free(git_dir: Path) -> None:
    """Removes the lock files of a git that was killed; nobody else works on the cache now."""
    for lock in (*git_dir.glob("*.lock"), *(git_dir / "refs").rglob("*.lock")):
        lock.unlink(missing_ok=True)


_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_WRITING = re.compile(r"Writing objects: 100% \(\d+/\d+\)(?:, ([0-9.]+) (bytes|[KMG]iB))")


def sent_bytes(progress: str) -> int:
    """What git says it wrote to the server, to the three digits that it prints."""
    found = _WRITING.findall(progress)
    return int(float(found[-1][0]) * _UNITS[found[-1][1]]) if found else 0


def _told_by_server(done: Done) -> list[str]:
    """What the server's hooks say: ``remote:`` rows, without git's padding."""
    rows = redact.text(done.stderr.decode("utf-8", "replace")).replace("\r", "\n").splitlines()
    told = [row.removeprefix("remote:").strip() for row in rows if row.startswith("remote:")]
    return [row for row in told if row and not re.match(r"[A-Z][a-z]+ .*: +\d+%", row)]
