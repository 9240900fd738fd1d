"""Names of images in registries: ``HOST/NAME``, ``HOST/NAME:TAG``, ``HOST/NAME@DIGEST``.

The grammar is that of the distribution specification 1.1; a host is told from a name as Docker does
it: by its dot, its port, or because it is ``localhost``.
"""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

from relforge import redact
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_HOST = re.compile(
    r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::\d{1,5})?"
)
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Repository(Frozen):
    """``host`` with port, and ``name`` without tag."""

    host: str
    name: str

    def __str__(self) -> str:
        return f"{self.host}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Repository:
        """Reads HOST/NAME. Raises RelforgeError (USAGE) for anything else."""
        refuse_login(text)
        host, slash, name = text.partition("/")
        why = None
        if not slash or not has_host(text):
            why = "the host comes first and has a dot or a port"
        elif not _HOST.fullmatch(host):
            why = f"{json.dumps(host)} is no host name with an optional port"
        elif not _NAME.fullmatch(name) or len(name) > 255:
            why = (
                f"{json.dumps(name)} is no repository name: lower-case letters, digits and single "
                "separators, without tag or digest"
            )
        if why:
            raise RelforgeError(
                f"{json.dumps(text)} is not a registry target",
                code=ExitCode.USAGE,
                why=why,
                hint="write HOST/NAME, for example registry.example.org/team/model",
            )
        return cls(host=host, name=name)


class Reference(Frozen):
    """A repository with the tag or the digest of something in it, or with both."""

    repository: Repository
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def wanted(self) -> str | None:
        """What a registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Reads HOST/NAME[:TAG][@DIGEST]. Raises RelforgeError (USAGE) for anything else."""
        refuse_login(text)
        named, at, digest = text.partition("@")
        if at and not DIGEST.fullmatch(digest):
            raise RelforgeError(
                f"{json.dumps(digest)} is not a digest",
                code=ExitCode.USAGE,
                hint="write sha256: and 64 hexadecimal digits",
            )
        host, slash, rest = named.partition("/")
        name, colon, tag = rest.partition(":")
        repository = Repository.parse(f"{host}{slash}{name}")
        return cls(
            repository=repository,
            tag=require_tag(tag) if colon else None,
            digest=digest or None,
        )


def refuse_login(text: str) -> None:
    """Raises RelforgeError (USAGE), which does not repeat it, for a text with a user name or a
    password before an ``@``; registers them as secrets first."""
    named = text.partition("://")[2] or text
    if re.search(r"@sha256:[0-9a-f]*\Z", named):
        named = named.rpartition("@")[0]
    login, at, after = named.rpartition("@")
    # What follows a login is a host with a name; what else holds a colon may be half a password.
    if not at or not (":" in login or "/" in after):
        return
    for secret in (login, login.partition(":")[2]):
        redact.register(secret)
        redact.register(unquote(secret))
    raise RelforgeError(
        "the name of an image holds no login",
        code=ExitCode.USAGE,
        why="before an @ that no digest follows there is what looks like a user name or a password",
        hint="write HOST/NAME:TAG or HOST/NAME@sha256:..., and log in with docker login HOST; a "
        "password that was typed into a command line is best changed",
    )


def require_tag(text: str) -> str:
    """The text, which is a tag. Raises RelforgeError (USAGE) for anything else."""
    if not TAG.fullmatch(text):
        raise RelforgeError(
            f"{json.dumps(text)} is not a tag",
            code=ExitCode.USAGE,
            why="tags have up to 128 letters, digits, dots, dashes and underscores",
        )
    return text


def has_host(text: str) -> bool:
    """Whether an image's name begins with a registry, by Docker's rule."""
    first, slash, _ = text.partition("/")
    return bool(slash) and (first == "localhost" or "." in first or ":" in first)
