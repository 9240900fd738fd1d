"""Who we are to a registry: logins of Docker's own settings, and the tokens made of them.

Sources: distribution specification (WWW-Authenticate), the token authentication of the registry
project (service, scope, account; refresh tokens by POST), Docker's settings file.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from relforge import redact
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import EngineSite
from relforge.oci.reference import Repository

CLIENT = "relforge"
_MARGIN_S = 10.0
_SHORTEST_S = 60.0  # what a token lives that does not say how long (token specification)


@dataclass(frozen=True)
class Login:
    """``identity`` is a refresh token, in place of a password."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The header of Basic authentication."""
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        redact.register(pair)
        return f"Basic {pair}"


def settings_folder(site: EngineSite) -> Path:
    """The folder whose config.json has the logins.

    An engine that relforge set up has a settings folder of its own, and ``docker login`` writes to
    the user's: so the user's counts where the engine's has no logins.
    """
    users = Path(os.environ.get("HOME", "/root")) / ".docker"
    named = site.config_dir or os.environ.get("DOCKER_CONFIG")
    if not named:
        return users
    own = Path(named)
    return users if not _has_logins(own) and _has_logins(users) else own


def find_login(host: str, site: EngineSite) -> Login | None:
    """The login for a registry, from Docker's settings or a credential helper; None: none.

    Raises RelforgeError (ENVIRONMENT) when settings or helper do not work.
    """
    file = settings_folder(site) / "config.json"
    if not file.is_file():
        return None
    from docker import auth
    from docker.errors import DockerException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a helper that is missing; the error says it, too
            config = auth.load_config(str(file))
            found = auth.resolve_authconfig(config, host)
    except (DockerException, OSError, ValueError) as error:
        raise RelforgeError(
            f"the login for {host} cannot be read",
            code=ExitCode.ENVIRONMENT,
            where=str(file),
            why=redact.text(str(error)),
            hint=f"docker login {host}, or install the credential helper that this file names",
        ) from error
    if not found:
        return None
    values = {name.lower(): value for name, value in found.items() if value}
    login = Login(
        user=values.get("username", ""),
        password=values.get("password", ""),
        identity=values.get("identitytoken", ""),
    )
    for secret in (login.password, login.identity):
        redact.register(secret)
    return login if login.user or login.identity else None


@dataclass(frozen=True)
class Token:
    """``until_s`` is on the monotonic clock."""

    value: str = field(repr=False)
    until_s: float


Fetch = Callable[[str, str, dict[str, str], bytes | None], bytes]
"""Method, URL, headers, body to the answer's body; raises RelforgeError."""


class Authority:
    """The header that a request needs, learnt from the registry's own challenge.

    Safe for several threads. ``fetch`` talks to the token server.
    """

    def __init__(self, repository: Repository, site: EngineSite, fetch: Fetch) -> None:
        self._repository = repository
        self._site = site
        self._fetch = fetch
        self.plain = False
        """Whether the registry itself is spoken to in the clear."""
        self._lock = threading.Lock()
        self._login: Login | None = None
        self._asked = False
        self._challenge: dict[str, str] = {}
        self._kind = ""
        self._tokens: dict[tuple[str, ...], Token] = {}

    def header(self, scopes: tuple[str, ...]) -> str | None:
        """For a request that needs these scopes; None as long as nobody asked for a login."""
        with self._lock:
            if self._kind == "basic":
                login = self._known_login()
                return login.basic if login and login.user else None
            if self._kind != "bearer":
                return None
            token = self._tokens.get(scopes)
            if token is None or token.until_s < time.monotonic():
                token = self._new_token(scopes)
                self._tokens[scopes] = token
            return f"Bearer {token.value}"

    def challenged(self, challenge: str, scopes: tuple[str, ...], used: str | None) -> bool:
        """After a 401: whether asking once more, with a new header, may help.

        ``used`` is the header that was refused: a token may have expired before its time.
        """
        kind, _, rest = challenge.partition(" ")
        kind = kind.lower()
        from requests.utils import parse_dict_header

        with self._lock:
            if kind == "bearer":
                self._kind = kind
                self._challenge = parse_dict_header(rest)  # type: ignore[no-untyped-call]
                known = self._tokens.get(scopes)
                # Another thread may have fetched a new one meanwhile.
                if known is not None and used == f"Bearer {known.value}":
                    del self._tokens[scopes]
                return bool(self._challenge.get("realm"))
            if kind == "basic":
                self._kind = kind
                login = self._known_login()
                return used is None and login is not None and bool(login.user)
        return False

    def _known_login(self) -> Login | None:
        if not self._asked:
            self._login, self._asked = find_login(self._repository.host, self._site), True
        return self._login

    def _new_token(self, scopes: tuple[str, ...]) -> Token:
        realm = self._challenge["realm"]
        self._require_safe(realm)
        login = self._known_login()
        fields = [("service", self._challenge.get("service", "")), *(("scope", s) for s in scopes)]
        if login is not None and login.identity:
            form = [
                ("grant_type", "refresh_token"),
                ("client_id", CLIENT),
                ("refresh_token", login.identity),
                ("service", fields[0][1]),
                ("scope", " ".join(scopes)),
            ]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            data = self._fetch("POST", realm, headers, urlencode(form).encode())
        else:
            headers = {}
            if login is not None:
                headers["Authorization"] = login.basic
                fields.append(("account", login.user))
            joined = "&" if urlsplit(realm).query else "?"
            url = f"{realm}{joined}{urlencode([f for f in fields if f[1]])}"
            data = self._fetch("GET", url, headers, None)
        return self._read(realm, data)

    def _read(self, realm: str, data: bytes) -> Token:
        try:
            value = json.loads(data)
            token = value.get("token") or value["access_token"]
            lives_s = float(value.get("expires_in") or _SHORTEST_S)
            if not isinstance(token, str):
                raise TypeError("the token is no text")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RelforgeError(
                "the token server gave no token",
                code=ExitCode.PUBLISH,
                where=realm,
                why=f"{type(error).__name__}: {error}",
                hint=f"docker login {self._repository.host}, then the same command again",
            ) from error
        redact.register(token)
        return Token(token, time.monotonic() + max(lives_s - _MARGIN_S, lives_s / 2))

    def _require_safe(self, realm: str) -> None:
        """A login does not travel in the clear, but on this host or where plain HTTP is allowed."""
        parts = urlsplit(realm)
        if parts.scheme == "https" or is_loopback(parts.hostname or "") or self.plain:
            return
        raise RelforgeError(
            "the registry wants the login to be sent in the clear",
            code=ExitCode.PUBLISH,
            where=realm,
            why="its token server's address does not begin with https",
            hint=f"ask those who run {self._repository.host} for a token server with TLS",
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this host's own."""
    import ipaddress

    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _has_logins(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_bytes())
        return any(config.get(name) for name in ("auths", "credsStore", "credHelpers"))
    except (OSError, ValueError, AttributeError):
        return False
