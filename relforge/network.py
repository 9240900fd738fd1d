"""How this host reaches others: the proxy and the certificates that the site configuration names.

Child processes get both through their environment and as files, never in an argument list. Where
the site names no proxy, the environment's own variables count, as they do for every program.
"""

from __future__ import annotations

import importlib
import os
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from relforge import redact
from relforge.addresses import hide_credentials
from relforge.errors import ExitCode, RelforgeError
from relforge.files import write_atomic
from relforge.manifest.site import ProxySite, Site

CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
PROXY_HINT = (
    "check that the proxy runs and lets this host through; it is the site configuration's proxy, "
    "else the environment's http_proxy or https_proxy"
)
# Where Debian and its kin, and Red Hat and its kin, keep what the system trusts.
_SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_HTTPS = 443
_THIS_HOST = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Proxy:
    """The site's proxy. The addresses carry user and password where it wants them.

    ``direct`` are hosts and domains that are reached without it; this host and the engine's are
    always among them.
    """

    http: str | None = field(repr=False)
    https: str | None = field(repr=False)
    direct: tuple[str, ...]

    @classmethod
    def of(cls, site: Site) -> Proxy | None:
        """Raises RelforgeError (ENVIRONMENT) when the password cannot be read."""
        if site.proxy is None:
            return None
        login = _login(site.proxy, site.file)
        engine = urlsplit(site.engine.host or os.environ.get("DOCKER_HOST") or "").hostname
        direct = (*site.proxy.no_proxy, *_THIS_HOST, *([engine] if engine else []))
        return cls(
            http=_with_login(site.proxy.http, login),
            https=_with_login(site.proxy.https, login),
            direct=tuple(dict.fromkeys(direct)),
        )

    def for_url(self, url: str) -> dict[str, str]:
        """The proxies for this URL by scheme, as ``requests`` takes them."""
        host = (urlsplit(url).hostname or "").lower()
        if any(host == name or host.endswith(f".{name}") for name in self.direct):
            return {}
        both = {"http": self.http, "https": self.https}
        return {scheme: proxy for scheme, proxy in both.items() if proxy}

    def environment(self) -> dict[str, str]:
        """The variables for a child process, in both spellings; what is not set is emptied."""
        values = {
            "http_proxy": self.http or "",
            "https_proxy": self.https or "",
            "all_proxy": "",
            "no_proxy": ",".join(self.direct),
        }
        return values | {name.upper(): value for name, value in values.items()}


def load_requests() -> None:
    """Loads ``requests`` without chardet. Where that is installed (lm-eval brings it) ``requests``
    takes it to guess at encodings, which nothing here asks for, and its tables cost 0.1 s.
    """
    if "requests" in sys.modules or "chardet" in sys.modules:
        return
    sys.modules["chardet"] = None  # type: ignore[assignment]  # documented: its import fails
    try:
        importlib.import_module("requests")
    finally:
        sys.modules.pop("chardet", None)


def proxies_for(url: str, proxy: Proxy | None) -> dict[str, str]:
    """The proxies for a URL by scheme: the site's, else the environment's."""
    if proxy is not None:
        return proxy.for_url(url)
    load_requests()
    from requests.utils import get_environ_proxies

    found = dict(get_environ_proxies(url))
    for address in found.values():
        hide_credentials(address)
    return found


def child_environment(site: Site, folder: Path) -> dict[str, str]:
    """Proxy and certificates for a child process; ``folder`` takes the file of certificates.

    Raises RelforgeError (ENVIRONMENT) when a file that the site names cannot be read.
    """
    proxy = Proxy.of(site)
    env = {} if proxy is None else proxy.environment()
    if site.extra_ca is not None:
        bundle = str(ca_bundle(site.extra_ca, folder))
        env |= dict.fromkeys(CA_VARIABLES, bundle)
    return env


@contextmanager
def for_children(site: Site) -> Iterator[dict[str, str]]:
    """``child_environment`` in a folder that lives as long as this is open."""
    with tempfile.TemporaryDirectory(prefix="relforge-network-") as folder:
        yield child_environment(site, Path(folder))


def ca_bundle(extra_ca: Path, folder: Path, *, usual: str | None = None) -> Path:
    """One file of the usual certificates and the site's, as most programs take only one.

    ``usual`` is the file that the program would take else. Raises RelforgeError (ENVIRONMENT).
    """
    bundle = folder / "ca.pem"
    if not bundle.exists():
        parts = [read_certificates(path) for path in (Path(usual or usual_bundle()), extra_ca)]
        write_atomic(bundle, b"\n".join(parts))
    return bundle


def usual_bundle() -> str:
    """The certificates that count without the site's: the environment's, else the system's."""
    load_requests()
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    named = (os.environ.get(name) for name in CA_VARIABLES)
    # Python's own default names a file that many systems do not have.
    known = (ssl.get_default_verify_paths().cafile, *_SYSTEM_BUNDLES)
    found = next((path for path in named if path), None)
    return found or next((p for p in known if p and Path(p).is_file()), DEFAULT_CA_BUNDLE_PATH)


def read_certificates(path: Path) -> bytes:
    """A file of certificates in PEM form. Raises RelforgeError (ENVIRONMENT) for any other."""
    try:
        content = path.read_bytes()
        problem = "" if b"-----BEGIN " in content else "it holds no certificate in PEM form"
    except OSError as error:
        content, problem = b"", error.strerror or str(error)
    if problem:
        raise RelforgeError(
            "certificates cannot be read",
            code=ExitCode.ENVIRONMENT,
            where=str(path),
            why=problem,
            hint="correct extra_ca in the site configuration, or the environment's "
            + " and ".join(CA_VARIABLES),
        )
    return content


def _login(proxy: ProxySite, site_file: Path | None) -> str | None:
    """``user:password`` as a URL has it, registered for redaction."""
    if proxy.user is None or proxy.password_file is None:
        return None
    try:
        lines = proxy.password_file.read_text().splitlines()
        password = lines[0] if lines else ""
        problem = "" if password.strip() else "it holds no password"
    except (OSError, UnicodeDecodeError) as error:
        password, problem = "", str(error)
    if problem:
        raise RelforgeError(
            "the proxy's password cannot be read",
            code=ExitCode.ENVIRONMENT,
            where=str(proxy.password_file),
            why=problem,
            hint="write the password into that file's first line, or correct proxy.password_file "
            f"in {site_file or 'the site configuration'}",
        )
    login = f"{quote(proxy.user, safe='')}:{quote(password, safe='')}"
    # A short password alone is no rare word; with the user name before it, it is.
    for secret in (password, login, f"{proxy.user}:{password}"):
        redact.register(secret)
    return login


def _with_login(url: str | None, login: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    host = parts.netloc if login is None else f"{login}@{parts.netloc}"
    # Some programs take a path, even an empty one, for part of the host.
    return urlunsplit((parts.scheme, host, "", "", ""))


def speaks_tls(host: str, limit_s: float) -> bool:
    """Whether a server at ``HOST[:PORT]`` speaks TLS. Who it is, is for each request to ask."""
    place = urlsplit(f"//{host}")
    name = place.hostname or ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((name, place.port or _HTTPS), timeout=limit_s) as plain,
            context.wrap_socket(plain, server_hostname=name),
        ):
            return True
    except ssl.SSLError as error:
        # It refuses us in TLS, such as for want of our certificate; plain HTTP has no alerts.
        return "ALERT" in (error.reason or "")
    except (OSError, ValueError):  # nobody there, or no such port
        return False
