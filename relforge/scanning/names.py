"""Files that their names give away: logins of programs, caches and logs of the build."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_LARGEST = 1 << 20


@dataclass(frozen=True)
class NamedFile:
    """Files whose path ends as ``path`` says and whose content ``holds`` a login."""

    name: str
    what: str
    path: re.Pattern[str]
    holds: Callable[[bytes], object]


def _file(name: str, what: str, path: str, holds: str) -> NamedFile:
    content = re.compile(holds.encode(), re.IGNORECASE | re.MULTILINE)
    return NamedFile(name, what, re.compile(f"(?:^|.*/)(?:{path})"), content.search)


_URL = r"://[^/@\s]+@"
CREDENTIALS = (
    _file("netrc", "a .netrc with a password", r"[._]netrc", r"\bpassword\s+\S"),
    _file("npmrc", "an .npmrc with a login", r"\.npmrc", r"_(authToken|password|auth)\s*=\s*\S"),
    _file("docker-config", "a login of docker", r"\.docker/config\.json|\.dockercfg|"
          r"containers/auth\.json", r'"(auth|identitytoken|password)"\s*:\s*"[^"]+"'),
    _file("git-credentials", "a login of git", r"\.git-credentials", _URL),
    _file("git-config", "a login in git's configuration", r"\.git/config|\.gitconfig",
          _URL + r"|extraheader\s*=\s*authorization"),
    _file("pip-config", "a login in pip's configuration", r"pip\.conf|pip\.ini|\.?uv\.toml",
          r"://[^/@\s$]+:[^/@\s$]+@|://[^/@\s$]{16,}@"),
    _file("pypirc", "a .pypirc with a password", r"\.pypirc", r"^\s*password\s*[=:]\s*\S"),
    _file("aws-credentials", "a login of AWS", r"\.aws/credentials", r"secret_access_key\s*="),
    _file("kubeconfig", "a login of Kubernetes", r"\.kube/config",
          r"(client-key-data|token|password):\s*\S"),
    _file("huggingface-token", "a token of Hugging Face", r"\.?huggingface/(stored_)?tokens?",
          r"\S"),
    _file("modelscope-login", "a login of ModelScope", r"\.modelscope/credentials/[^/]+", r"\S"),
    _file("gh-login", "a login of GitHub's gh", r"gh/hosts\.yml", r"oauth_token:\s*\S"),
    _file("vault-token", "a token of Vault", r"\.vault-token", r"\S"),
    _file("mounted-secret", "a secret that was mounted into a build step",
          r"(?:var/)?run/secrets/.+", r"\S"),
)  # fmt: skip

_CACHES = re.compile(r"((?:.*/)?\.cache/(?:pip|uv)|(?:.*/)?(?:ccache|\.ccache))/.+")
_LOGS = re.compile(r"(?:tmp|var/tmp|root|src|build)/(?:.*/)?[^/]+\.log|(?:.*/)?pip[^/]*\.log")


def credential_file(path: str, content: bytes) -> NamedFile | None:
    """The login that a file is, if it is one. ``path`` is without a slash in front."""
    for known in CREDENTIALS:
        if known.path.fullmatch(path) and known.holds(content[:_LARGEST]):
            return known
    return None


def may_be_credential(path: str) -> bool:
    """Whether a file's content has to be looked at."""
    return any(known.path.fullmatch(path) for known in CREDENTIALS)


def leftover(path: str) -> tuple[str, str] | None:
    """What a build left behind: the folder or file to name, and what it is."""
    if cache := _CACHES.fullmatch(path):
        return cache[1], "a cache of the build"
    if _LOGS.fullmatch(path):
        return path, "a log of the build"
    return None
