"""A token server for Docker's registry: real tokens, signed with a key that the registry trusts."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.support.registries import PASSWORD, USER
from tests.support.tls import self_signed

SERVICE, ISSUER = "tests", "the tests"
_LEEWAY_S = 60  # how long the registry takes an expired token all the same


class TokenServer:
    """``asked`` has service, scopes and user of each request. ``lives_s`` is how long a token is
    really taken; clients are told five minutes. ``refresh`` is a refresh token that counts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.certificate, _ = self_signed(folder)
        key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key = key
        self.lives_s = 300.0
        self.refresh = "refresh-" + secrets.token_hex(12)
        self.asked: list[tuple[str, tuple[str, ...], str]] = []
        outer = self

        class Handler(_Handler):
            served = outer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.realm = f"http://127.0.0.1:{self._server.server_address[1]}/token"

    @property
    def settings(self) -> dict[str, Any]:
        """The registry's part: ``auth`` of its configuration."""
        return {
            "token": {
                "realm": self.realm,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(self.certificate),
            }
        }

    def __enter__(self) -> TokenServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def token(self, user: str, scopes: tuple[str, ...]) -> str:
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": user, "aud": SERVICE, "iat": now - 120, "nbf": now - 120,
            "exp": int(time.time() + self.lives_s) - _LEEWAY_S, "jti": secrets.token_hex(8),
            "access": access,
        }  # fmt: skip
        certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        der = certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        text = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class _Handler(BaseHTTPRequestHandler):
    served: TokenServer

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        user = ""
        if given := self.headers.get("Authorization"):
            user, _, password = base64.b64decode(given.split()[1]).decode().partition(":")
            if (user, password) != (USER, PASSWORD):
                self._say(401, {"errors": [{"code": "UNAUTHORIZED", "message": "no such user"}]})
                return
        self._grant(query["service"][0], tuple(query.get("scope", ())), user)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if form.get("refresh_token") != [self.served.refresh]:
            self._say(401, {"errors": [{"code": "UNAUTHORIZED", "message": "bad refresh token"}]})
            return
        self._grant(form["service"][0], tuple(form["scope"][0].split()), "refreshed")

    def _grant(self, service: str, scopes: tuple[str, ...], user: str) -> None:
        self.served.asked.append((service, scopes, user))
        # Who is nobody may pull.
        granted = scopes if user else tuple(s for s in scopes if s.endswith(":pull"))
        token = self.served.token(user, granted)
        self._say(200, {"token": token, "access_token": token, "expires_in": 300})

    def _say(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
