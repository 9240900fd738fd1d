"""Git sources: exactly one commit, fetched into the store, from the URL or the site's mirror."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from relforge.addresses import hide_credentials, shown
from relforge.errors import ExitCode, RelforgeError
from relforge.files import held_lock
from relforge.gitio import Git
from relforge.manifest.site import Site, replaced
from relforge.network import PROXY_HINT
from relforge.proc import Done
from relforge.sources.places import proxy_of
from relforge.sources.remote import (
    PROXY_REFUSED,
    TRANSFER,
    is_local,
    proxies_of,
    reaching,
    real_url,
    reason,
    refuses_access,
    why_not_reached,
)

_FETCH_TIMEOUT_S = 3600.0
_FETCH = ("fetch", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--progress")
_CONFIG = {
    **TRANSFER,
    "fetch.fsckObjects": "true",
    "transfer.unpackLimit": "1",
}
_HINT = "check the network, or name a mirror (git_mirrors in the site configuration)"
_NO_DIRECT_FETCH = (
    "not our ref",
    "unadvertised object",
    "does not support shallow",
    "shallow capabilities",
    "couldn't find remote ref",
)


def fetch_commit(
    git: Git,
    url: str,
    commit: str,
    *,
    site: Site,
    locks: Path,
    ctx_line: Callable[[str], None],
) -> None:
    """Brings *commit* into the store. Does nothing when it is there.

    Asks for that commit alone; a server that refuses is asked for all branches and tags. Raises
    RelforgeError with code SOURCE.
    """
    if git.has(commit, "commit"):
        return
    place = mirrored(url, site)
    hide_credentials(place)
    # Two fetches at once would meet at the store's list of shallow commits.
    with held_lock(locks / "git-fetch.lock", on_wait=ctx_line, cancel=git.cancel):
        if git.has(commit, "commit"):
            return
        # Nobody else writes that list now: a fetch, or a collector, that was killed left this.
        (git.git_dir / "shallow.lock").unlink(missing_ok=True)
        _refuse_unreachable(git, url, place, site)
        ctx_line(f"fetching {commit[:12]} from {shown(place)}")
        kept = f"refs/relforge/commits/{commit}"
        direct = _fetch(git, site, place, ctx_line, "--depth=1", place, f"+{commit}:{kept}")
        if direct.returncode != 0:
            why = reason(direct)
            if not any(text in why for text in _NO_DIRECT_FETCH):
                raise _failed(url, place, commit, why)
            _fetch_all(git, site, url, place, commit, kept, ctx_line)


def fetch_branches(
    git: Git, url: str, *, site: Site, locks: Path, ctx_line: Callable[[str], None]
) -> None:
    """Brings all branches and tags of a repository, with their history, into one of its own.

    The branch that its server calls HEAD becomes ``refs/relforge/HEAD``. Raises RelforgeError with
    code SOURCE.
    """
    place = mirrored(url, site)
    hide_credentials(place)
    kinds = ("heads", "tags")
    specs = ["+HEAD:refs/relforge/HEAD", *(f"+refs/{k}/*:refs/relforge/{k}/*" for k in kinds)]
    with held_lock(locks / f"{git.git_dir.name}.lock", on_wait=ctx_line, cancel=git.cancel):
        _refuse_unreachable(git, url, place, site)
        ctx_line(f"fetching the branches of {shown(place)}")
        done = _fetch(git, site, place, ctx_line, "--prune", place, *specs)
        if done.returncode != 0:
            raise _failed(url, place, "HEAD", reason(done))


def mirrored(url: str, site: Site) -> str:
    """The URL with the longest matching prefix of ``git_mirrors`` replaced."""
    return replaced(url, site.git_mirrors)


def _fetch_all(
    git: Git,
    site: Site,
    url: str,
    place: str,
    commit: str,
    kept: str,
    ctx_line: Callable[[str], None],
) -> None:
    ctx_line("the server does not give out single commits; fetching its branches and tags")
    room = f"refs/relforge/fetched/{commit}"
    specs = [f"+refs/{kind}/*:{room}/{kind}/*" for kind in ("heads", "tags")]
    try:
        done = _fetch(git, site, place, ctx_line, place, *specs)
        if done.returncode != 0:
            raise _failed(url, place, commit, reason(done))
        if not git.has(commit, "commit"):
            raise RelforgeError(
                f"the commit {commit} is not in the repository",
                code=ExitCode.SOURCE,
                where=shown(place),
                why="the server does not give it out, and no branch or tag leads to it",
                hint="check the commit in the manifest; if history was rewritten, name another "
                "commit or a mirror that still has it (git_mirrors in the site configuration)",
            )
        git.run("update-ref", kept, commit)
    finally:
        refs = git.text("for-each-ref", "--format=delete %(refname)", room)
        if refs:
            git.run("update-ref", "--stdin", stdin=f"{refs}\n".encode())


def _fetch(git: Git, site: Site, place: str, ctx_line: Callable[[str], None], *args: str) -> Done:
    """``git fetch``. What it brings is pinned by the commit's hash."""
    with reaching(git, place, site) as env:
        return git.run(
            *_FETCH,
            *args,
            check=False,
            env=env,
            config=_CONFIG,
            timeout_s=_FETCH_TIMEOUT_S,
            hint=_HINT,
            on_line=Progress(ctx_line),
        )


class Progress:
    """git's progress comes as carriage returns; the last state of each line is enough."""

    def __init__(self, ctx_line: Callable[[str], None]) -> None:
        self._ctx_line = ctx_line

    def __call__(self, line: str) -> None:
        last = line.rstrip("\r").rpartition("\r")[2].strip()
        if last.endswith("done.") or "Receiving" in last:
            self._ctx_line(last)


def _refuse_unreachable(git: Git, url: str, place: str, site: Site) -> None:
    if is_local(place):
        return
    real = real_url(git, place)
    if why := why_not_reached(git, real, site):
        raise RelforgeError(
            "the git server cannot be reached",
            code=ExitCode.SOURCE,
            where=_where(url, place, real),
            why=why,
            hint=PROXY_HINT if proxy_of(real, proxies_of(git, real, site)) else _HINT,
        )


def _failed(url: str, place: str, commit: str, why: str) -> RelforgeError:
    lower = why.lower()
    if PROXY_REFUSED.search(lower):
        what = "the proxy does not let git through"
        hint = PROXY_HINT
    elif refuses_access(why):
        what = "the git server refuses access"
        hint = "set up a credential helper for it (`git config --global credential.helper`)"
    elif "does not appear to be a git repository" in lower or "not found" in lower:
        what = "there is no git repository at that address"
        hint = "check the URL in the manifest and git_mirrors in the site configuration"
    else:
        what = f"the commit {commit} could not be fetched"
        hint = _HINT
    where = _where(url, place, place)
    return RelforgeError(what, code=ExitCode.SOURCE, where=where, why=why, hint=hint)


def _where(url: str, place: str, real: str) -> str:
    """``place`` is the site's mirror of the URL, ``real`` what git's own settings make of that."""
    return shown(real) if place == url else f"{shown(real)} (mirror of {shown(url)})"
