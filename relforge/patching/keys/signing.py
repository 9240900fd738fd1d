"""Signing keys: who signs a bundle or a release, and whose signature is trusted.

They are ECDSA P-256 or Ed25519.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from relforge.evidence.dsse import PrivateKey, TrustedSigner
from relforge.patching.keys import keyfiles
from relforge.patching.keys.passphrase import Passphrase

_WANTED = "signatures take an ECDSA P-256 or Ed25519 key"
_OPENS = "it opens bundles; " + _WANTED


def load_signing_key(path: Path, *, passphrase: Passphrase | None = None) -> PrivateKey:
    """The private key that signs bundles or releases, in PEM, OpenSSH or cosign's form.

    Raises RelforgeError (SOURCE), LockedKey.
    """
    data = keyfiles.read(path)
    kind = keyfiles.kind_of(data)
    hint = "name the .sign.pem file that `relforge keys new` made"
    if kind in ("age", "age-locked"):
        raise keyfiles.unusable(path, f"it is an age identity: {_OPENS}", hint)
    if kind in ("public-pem", "public-line"):
        raise keyfiles.unusable(path, "it is a public key; signing takes the private one", hint)
    key = keyfiles.load_private_pem(path, data, passphrase)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    why = f"it is an RSA key: {_OPENS}" if isinstance(key, rsa.RSAPrivateKey) else _WANTED
    raise keyfiles.unusable(path, why, hint)


def load_signer(name: str, public_pem: Path | bytes) -> TrustedSigner:
    """A trusted signer from a PEM file or text. Raises RelforgeError (SOURCE)."""
    where = str(public_pem) if isinstance(public_pem, Path) else f"public key of {name}"
    data = keyfiles.read(public_pem) if isinstance(public_pem, Path) else public_pem
    hint = "name the .sign.pub.pem file that `relforge keys new` made"
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        why = "it is a private key" if keyfiles.is_private(data) else "it is none in PEM form"
        raise keyfiles.unusable(
            where, f"{why}; signatures are checked with the public key", hint
        ) from error
    if isinstance(key, ed25519.Ed25519PublicKey):
        return TrustedSigner(name, key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return TrustedSigner(name, key)
    raise keyfiles.unusable(where, _WANTED, hint)
