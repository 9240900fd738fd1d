"""Secrets in addresses: logins, and tokens in a query (``?``) or a fragment (``#``).

Settings refuse them (the validators below, for pydantic): an address ends in argument lists,
messages and records. What comes from elsewhere, such as pip's configuration, is registered with
``hide_credentials`` and told with ``shown``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote

from relforge import redact

# RFC 3986, 3: scheme, authority, path, and the rest. It never fails, as urlsplit does.
_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<rest>.*)",
    re.DOTALL,
)
# `user:password@host` without a scheme, as git, curl and image references have it.
_BARE_LOGIN = re.compile(r"[^/@\s]*:[^/@\s]*@(?!sha256:|sha512:)")
_SECRET_NAME = re.compile(
    r"token|secret|passw|passphrase|signature|credential|authorization|oauth|api[-_.]?key"
    r"|^x-(amz|goog|oss|cos)-|(^|[-_.])(key|keyid|auth|sig|pwd|pat|jwt|login|session)($|[-_.])",
    re.IGNORECASE,
)
# Hashes of content: `#sha256=...` of pip's links, a commit.
_PUBLIC_NAME = re.compile(r"^(md5|sha\d+|digest|commit|ref|rev|egg|subdirectory)$", re.IGNORECASE)
_TOKEN = re.compile(r"(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_\-+/=.~]{20,}")
_SHOWN_LOGIN = re.compile(r"(?<=//)\S*@")
_MARK = "[redacted]"


def login(address: str) -> str | None:
    """``user:password`` of an address, as it stands there; ``None``: there is none."""
    if found := _ADDRESS.match(address):
        user, at, _ = found["authority"].rpartition("@")
        return user if at else None
    bare = _BARE_LOGIN.match(address)
    return bare[0][:-1] if bare else None


def secret_parameters(address: str) -> tuple[str, ...]:
    """Values in the query and the fragment whose name, or whose look, is a secret's."""
    found: list[str] = []
    for part in re.split(r"[?#&;]", address)[1:]:
        name, equals, value = part.partition("=")
        if not equals:
            name, value = "", part
        if not value or _PUBLIC_NAME.match(unquote(name)):
            continue
        if _SECRET_NAME.search(unquote(name)) or _TOKEN.fullmatch(unquote(value)):
            found.append(value)
    return tuple(found)


def hide_credentials(address: str) -> None:
    """Registers what is secret in an address for redaction. Other text is left alone."""
    if _ADDRESS.match(address) is None and login(address) is None:
        return
    secrets = [*secret_parameters(address)]
    user, _, password = (login(address) or "").partition(":")
    # Without a password the user name is a token; with one it mostly is a word like any other.
    secrets += [password] if password else [user]
    if password and _TOKEN.fullmatch(unquote(user)):
        secrets.append(user)
    for secret in secrets:
        redact.register(secret)
        redact.register(unquote(secret))


def shown(address: str) -> str:
    """The address without login, query and fragment, for people and records."""
    found = _ADDRESS.match(address)
    if found is None:
        return redact.text(_BARE_LOGIN.sub("", address, count=1))
    host = found["authority"].rpartition("@")[2]
    return redact.text(f"{found['scheme']}://{host}{found['path']}")


def without_secrets(text: str) -> str:
    """A text that somebody wrote where an address may belong, fit for a message."""
    text = _SHOWN_LOGIN.sub(f"{_MARK}@", text)
    if "://" not in text:
        text = _BARE_LOGIN.sub(f"{_MARK}@", text)
    return re.sub(r"([?#])\S*=\S*|(?<=://)(\S*?[?#])\S+", _cut, text)


def _cut(found: re.Match[str]) -> str:
    return f"{found[1] or found[2]}{_MARK}"


def _refuse_login(address: str, remedy: str, *, user: bool = False) -> None:
    written = login(address)
    if written is None:
        return
    if user or ((scheme := _ADDRESS.match(address)) and "ssh" in scheme["scheme"].lower()):
        if ":" not in written:
            return
        raise ValueError("an address carries no password: " + remedy)
    raise ValueError("an address carries no user name or password: " + remedy)


def _refuse_odd_port(address: str) -> None:
    """A password with a slash in it looks like a host with a port that is no number."""
    found = _ADDRESS.match(address)
    if found and re.search(r":[^\]:]*[^\]:0-9][^\]:]*$", found["authority"].rpartition("@")[2]):
        raise ValueError("is no address: behind the host's colon stands no port")


def plain_address(remedy: str, *, user: bool = False) -> Callable[[str], str]:
    """A validator of addresses without login, query and fragment.

    ``user``: a user name alone may stand there, as it always may with ssh. What has no scheme is a
    path or a name: only a login, and parameters that look like secrets, are refused there. Messages
    repeat nothing of the address.
    """

    def validated(address: str) -> str:
        _refuse_login(address, remedy, user=user)
        _refuse_odd_port(address)
        found = _ADDRESS.match(address)
        # A file's name may hold these signs.
        more = found is not None and found["scheme"] != "file" and found["rest"] != ""
        if more or secret_parameters(address):
            raise ValueError(
                "an address ends before `?` and `#`: what stands behind them is shown and "
                f"recorded with it. A token: {remedy}"
            )
        return address

    return validated


def page_address(remedy: str) -> Callable[[str], str]:
    """The same for pages that may need a query: only parameters that look secret are refused."""

    def validated(address: str) -> str:
        _refuse_login(address, remedy)
        _refuse_odd_port(address)
        if secret_parameters(address):
            raise ValueError(
                "a parameter of this address looks like a secret, and addresses are shown and "
                f"recorded: {remedy}"
            )
        return address

    return validated


GIT_LOGINS = "git's own logins count (a credential helper, ~/.netrc, an ssh key)"
PIP_LOGINS = "leave it out, and write the login into ~/.netrc, or the index into pip.conf"
HUB_LOGINS = "a token stands in a file, which `token_file` names"
NO_APT_LOGIN = (
    "apt has no login in a build; name a mirror without one, such as a cache that logs in itself"
)
DOCKER_LOGINS = "logins of registries are Docker's own (`docker login`, credential helpers)"
git_address = plain_address(GIT_LOGINS)
"""Of a repository."""
index_address = plain_address(PIP_LOGINS)
"""Of a package index."""
