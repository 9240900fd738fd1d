"""Identities: the private keys that open bundles (age X25519 or RSA), wherever they lie."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyrage
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relforge import redact
from relforge.errors import ExitCode, RelforgeError
from relforge.patching.identity import Identities, Identity
from relforge.patching.keys import keyfiles
from relforge.patching.keys.cosignkey import is_cosign_key
from relforge.patching.keys.keyfiles import AGE_SECRET, KeyFinding
from relforge.patching.keys.passphrase import LockedKey, Passphrase
from relforge.patching.keys.recipients import age_id, large_enough, rsa_id


def load_identities(paths: Iterable[Path], *, passphrase: Passphrase | None = None) -> Identities:
    """Private keys from files, or from folders, where whatever is no private key is passed over.

    Reads age identity files, also passphrase-protected ones, and RSA keys in PEM (PKCS#1, PKCS#8)
    or OpenSSH form. A key in a folder that cannot be used becomes a finding beside the good ones.
    Raises RelforgeError (SOURCE) for a missing path, a named file without a usable private key, a
    wrong passphrase (LockedKey: none), and when nothing at all is found.
    """
    keys: list[Identity] = []
    findings: list[KeyFinding] = []
    looked_in: list[Path] = []
    locked: LockedKey | None = None

    def pass_over(file: Path, failed: RelforgeError) -> None:
        findings.append(
            KeyFinding(
                path=file,
                problem=failed.why
                if failed.why and not isinstance(failed, LockedKey)
                else failed.what,
                remedy=failed.hint or "",
                kind="locked" if isinstance(failed, LockedKey) else "unusable",
            )
        )

    for path in paths:
        looked_in.append(path)
        in_folder = path.is_dir()
        for file in keyfiles.files_at(
            path, unreadable=lambda file, error: pass_over(file, keyfiles.cannot_read(file, error))
        ):
            try:
                found = _identities_in(file, keyfiles.read(file), passphrase, named=not in_folder)
            except RelforgeError as failed:
                if not in_folder:
                    raise
                if isinstance(failed, LockedKey):
                    locked = failed
                pass_over(file, failed)
                continue
            if found:
                keys += found
                findings += keyfiles.exposed(file)
    if looked_in and not keys:
        raise locked or _nothing_found(looked_in, findings)
    return Identities(tuple(keys), tuple(looked_in), tuple(findings))


def _nothing_found(looked_in: list[Path], findings: list[KeyFinding]) -> RelforgeError:
    odd = "; ".join(f"{finding.path}: {finding.problem}" for finding in findings)
    return RelforgeError(
        "no private key was found",
        code=ExitCode.SOURCE,
        where=", ".join(str(path) for path in looked_in),
        why=odd or "no file there holds an age identity or an RSA private key",
        hint="name the folder or file with the private key (--key-path)",
    )


def _identities_in(
    path: Path, data: bytes, passphrase: Passphrase | None, *, named: bool
) -> list[Identity]:
    kind = keyfiles.kind_of(data)
    found: list[Identity] = []
    if kind == "private-pem":
        # A folder of keys holds signing keys too; only a file that was named must open something.
        if b"BEGIN EC PRIVATE KEY" not in data and not is_cosign_key(data):
            key = keyfiles.load_private_pem(path, data, passphrase)
            found = [rsa_identity(path, key)] if isinstance(key, rsa.RSAPrivateKey) else []
    elif kind in ("age", "age-locked"):
        if kind == "age-locked":
            data = keyfiles.unlock_age_file(path, data, passphrase)
        found = age_identities(path, data)
    if not found and named:
        raise _no_identity(path, kind)
    return found


def age_identities(path: Path, data: bytes) -> list[Identity]:
    """The age identities that a text holds. Raises RelforgeError (SOURCE) for a damaged one."""
    found = []
    for line in data.decode("utf-8", "replace").splitlines():
        if line.strip().startswith(AGE_SECRET):
            redact.register(line)
            try:
                native = pyrage.x25519.Identity.from_str(line.strip())
            except pyrage.IdentityError as error:
                raise keyfiles.unusable(path, "the AGE-SECRET-KEY line is damaged") from error
            found.append(Identity(age_id(str(native.to_public()), path.stem), path, native))
    return found


def rsa_identity(path: Path, key: rsa.RSAPrivateKey) -> Identity:
    """An identity from an RSA key. Raises RelforgeError (SOURCE) for one that is too small."""
    large_enough(key.key_size, str(path))
    # pyrage reads PKCS#1 and OpenSSH, but not PKCS#8.
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    try:
        native = pyrage.ssh.Identity.from_buffer(pem)
    except pyrage.IdentityError as error:
        raise keyfiles.unusable(path, f"age does not take this RSA key: {error}") from error
    return Identity(rsa_id(key.public_key(), path.stem), path, native, key)


def _no_identity(path: Path, kind: keyfiles.Kind) -> RelforgeError:
    match kind:
        case "private-pem":
            return keyfiles.unusable(
                path,
                "it is a private key, but not RSA: it may sign, it opens nothing",
                "name the .age.key file, or an RSA private key",
            )
        case "public-pem" | "public-line":
            return keyfiles.unusable(
                path,
                "it is a public key: it seals, and opens nothing",
                "name the private key that belongs to it",
            )
        case _:
            return keyfiles.unusable(path, "it holds no age identity and no RSA private key")
