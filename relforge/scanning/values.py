"""Values of this very site that must not be anywhere: compared as they are, never written down.

They are what the site configuration names (tokens, passwords, passphrases, private keys), what the
host's own programs log in with (docker, git, curl and pip, the hubs' clients) and what was
registered for redaction in this process. Nothing that a scan leaves behind lets them be guessed:
a cache key is made of all of them, and of the words that a site denies, together with scrypt and
the home's own salt.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import netrc
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from relforge import redact
from relforge.files import write_atomic
from relforge.frozen import canonical_json, sha256_hex
from relforge.manifest.publishing import ContentPolicy
from relforge.manifest.site import Site
from relforge.scanning.rules import Rule

_SHORTEST = 8
"""Characters; a shorter value would be found in ordinary words."""
_SHORTEST_ELSEWHERE = 12
"""Of values that relforge only takes for secrets: by the name of a variable."""
_NAMED = re.compile(r"TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|API_?KEY|ACCESS_KEY|CREDENTIAL")
_KEY_LINE = re.compile(r"[A-Za-z0-9+/=-]{40,}")
_LARGEST = 1 << 16


@dataclass(frozen=True)
class Values:
    """Values by where they are configured; of those with ``of_site`` a reused scan knows."""

    of_site: dict[str, frozenset[str]] = field(repr=False)
    of_host: dict[str, frozenset[str]] = field(repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """How many are looked for, by where the site names them."""
        return {name: len(values) for name, values in sorted(self.of_site.items())}

    def rules(self) -> tuple[Rule, ...]:
        """A rule for each place that has values; its anchors are all their forms."""
        return tuple(
            Rule("known-value", name, f"the very value of {name}", tuple(sorted(forms)),
                 lambda _data, _at: True, final=name in self.of_site)
            for name, values in sorted({**self.of_host, **self.of_site}.items())
            if (forms := {form for value in values for form in _forms(value)})
        )  # fmt: skip

    def fingerprint(self, home: Path, policy: ContentPolicy, *, whole: bool) -> str:
        """Stands for the values of the site, or with ``whole`` for all of them, and the policy."""
        known = {**(self.of_host if whole else {}), **self.of_site}
        values = {name: sorted(found) for name, found in known.items()}
        data = canonical_json({"values": values, "policy": policy})
        if not (values or policy.deny_hosts or policy.deny_words):
            return sha256_hex(data)  # nothing that is not for everybody
        # Slow on purpose: it is published, and nobody is to guess a value or a denied word from it.
        return _stands_for(data, _salt(home))


@lru_cache(maxsize=16)
def _stands_for(data: bytes, salt: bytes) -> str:
    return hashlib.scrypt(data, salt=salt, n=1 << 14, r=8, p=1, dklen=16).hex()


def values_of(site: Site, environment: dict[str, str], person: Path) -> Values:
    """Reads them all; what cannot be read is none. ``person`` is the user's home folder."""
    of_site = {name: frozenset(found) for name, found in _of_site(site) if found}
    known = frozenset().union(*of_site.values())
    of_host = {
        name: frozenset(found) - known
        for name, found in _of_host(site, environment, person)
        if found - known
    }
    return Values(of_site, of_host)


def _of_site(site: Site) -> Iterator[tuple[str, set[str]]]:
    publish = site.publish
    for hub in ("huggingface", "modelscope"):
        yield f"hubs.{hub}.token_file", _lines(getattr(site.hubs, hub).token_file)
    if site.proxy is not None:
        yield "proxy.password_file", _lines(site.proxy.password_file, most=1)
    yield "key_passphrase_file", _lines(site.key_passphrase_file, most=1)
    if publish.signing is not None:
        yield "publish.signing.passphrase_file", _lines(publish.signing.passphrase_file, most=1)
        yield "publish.signing.key", _key(publish.signing.key)
    keys: set[str] = set()
    for identity in site.identities:
        for file in sorted(identity.iterdir()) if identity.is_dir() else [identity]:
            keys |= _key(file)
    yield "identities", keys
    for name, target in publish.targets.items():
        github = getattr(target, "github", None)
        if github is not None:
            yield f"publish.targets.{name}.github.token_file", _lines(github.token_file)


def _of_host(
    site: Site, environment: dict[str, str], person: Path
) -> Iterator[tuple[str, set[str]]]:
    for name, value in sorted(environment.items()):
        if _NAMED.search(name.upper()) and _random(value):
            yield f"the environment's {name}", {value}
        elif "://" in value and "@" in value:
            yield f"the environment's {name}", _of_url(value)
    config = site.engine.config_dir or Path(environment.get("DOCKER_CONFIG") or person / ".docker")
    yield "docker's config.json", _docker(config / "config.json")
    yield ".netrc", _netrc(Path(environment.get("NETRC") or person / ".netrc"))
    yield (
        ".git-credentials",
        {
            value
            for line in _lines(person / ".git-credentials", shortest=0)
            for value in _of_url(line)
        },
    )
    cache = Path(environment.get("HF_HOME") or person / ".cache" / "huggingface")
    yield "Hugging Face's token", _lines(cache / "token")
    yield "what was registered for redaction", {v for v in redact.values() if _random(v)}


def _lines(path: Path | None, *, most: int | None = None, shortest: int = _SHORTEST) -> set[str]:
    text = _text(path)
    rows = (row.strip() for row in text.splitlines()[:most])
    return {row for row in rows if len(row) >= shortest and row}


def _key(path: Path) -> set[str]:
    """The lines of a private key that no other key shares."""
    text = _text(path)
    if "PRIVATE KEY" not in text and "AGE-SECRET-KEY-" not in text:
        return set()
    rows = [row for row in map(str.strip, text.splitlines()) if _KEY_LINE.fullmatch(row)]
    rows = [row for row in rows if not row.startswith("-----")]
    # The first of several lines says what kind of key it is: many keys have the same.
    return set(rows[1:] if len(rows) > 1 else rows)


def _of_url(text: str) -> set[str]:
    found = set()
    for word in text.split():
        try:
            password = urlsplit(word).password
        except ValueError:
            continue
        if password and _random(unquote(password), _SHORTEST):
            found.add(unquote(password))
    return found


def _docker(path: Path) -> set[str]:
    try:
        entries = json.loads(_text(path) or "{}").get("auths", {}).values()
        found = {entry[name] for entry in entries for name in ("auth", "identitytoken")
                 if entry.get(name)}  # fmt: skip
    except (ValueError, AttributeError, TypeError):
        return set()
    for auth in tuple(found):
        try:
            found.add(base64.b64decode(auth, validate=True).decode().partition(":")[2])
        except (binascii.Error, ValueError):
            continue
    return {value for value in found if len(value) >= _SHORTEST}


def _netrc(path: Path) -> set[str]:
    try:
        hosts = netrc.netrc(str(path)).hosts.values()
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return set()
    return {password for _, _, password in hosts if password and len(password) >= _SHORTEST}


def _random(value: str, shortest: int = _SHORTEST_ELSEWHERE) -> bool:
    """Neither a path nor a word that stands in other files by chance."""
    return len(value) >= shortest and not value.startswith(("/", "~")) and len(set(value)) > 5


def _text(path: Path | None) -> str:
    try:
        return path.read_bytes()[:_LARGEST].decode() if path is not None else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _forms(value: str) -> Iterable[bytes]:
    """As it is, as a URL has it, and in base64."""
    plain = value.encode()
    yield plain
    yield quote(value, safe="").encode()
    yield base64.b64encode(plain).rstrip(b"=")


def _salt(home: Path) -> bytes:
    path = home / "scan" / "salt"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        write_atomic(path, secrets.token_bytes(32), mode=0o600)
        return path.read_bytes()


def here(site: Site) -> Values:
    """Those of this host and this process."""
    return values_of(site, dict(os.environ), Path.home())
