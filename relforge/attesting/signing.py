"""The key that signs releases, and signatures made with it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relforge.attesting.predicates import PAYLOAD_TYPE
from relforge.attesting.simple import SimpleSigning
from relforge.attesting.statements import Statement
from relforge.errors import RelforgeError
from relforge.evidence.dsse import Envelope, PrivateKey, PublicKey, key_id, sign, sign_bytes
from relforge.frozen import sha256_hex
from relforge.manifest.site import Site
from relforge.patching.keys.passphrase import LockedKey, Passphrase, given_passphrase


@dataclass(frozen=True)
class SigningKey:
    """A private key with what others need to check its signatures.

    Signatures are ECDSA over P-256 with SHA-256 in DER, or Ed25519: what cosign reads.
    """

    path: Path
    private: PrivateKey

    @classmethod
    def load(cls, site: Site, *, passphrase: Passphrase | None = None) -> SigningKey | None:
        """The key of ``publish.signing``; None where the site names none.

        A protected key is opened with ``passphrase_file``, else with what the terminal was asked
        before (``passphrase``). Raises RelforgeError (SOURCE), LockedKey.
        """
        from relforge.patching.keys.signing import load_signing_key

        spec = site.publish.signing
        if spec is None:
            return None
        if spec.passphrase_file is not None or passphrase is None:
            passphrase = given_passphrase(spec.passphrase_file)
        try:
            return cls(spec.key, load_signing_key(spec.key, passphrase=passphrase))
        except LockedKey as error:
            error.why = "there is no terminal to ask on, and the site names no passphrase_file"
            error.hint = "run the same command on a terminal, or name publish.signing."
            error.hint += "passphrase_file in the site configuration"
            raise

    @property
    def public(self) -> PublicKey:
        """The public side."""
        return self.private.public_key()

    @cached_property
    def keyid(self) -> str:
        """SHA-256 of the public key in DER, 64 hexadecimal digits."""
        return key_id(self.public)

    @property
    def public_pem(self) -> bytes:
        """What ``cosign verify --key`` reads: SubjectPublicKeyInfo in PEM."""
        return self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def algorithm(self) -> str:
        """For people."""
        return "Ed25519" if isinstance(self.private, ed25519.Ed25519PrivateKey) else "ECDSA P-256"

    def sign_statement(self, statement: Statement) -> Envelope:
        """A DSSE envelope around an in-toto statement."""
        return sign(PAYLOAD_TYPE, statement.to_json(), self.private)

    def sign_image(self, digest: str, reference: str) -> tuple[bytes, str]:
        """cosign's text about an image, and the signature of it in base64.

        ``reference`` is the name that the text gives the image; cosign compares it with nothing.
        """
        payload = SimpleSigning(digest=digest, reference=reference).to_json()
        return payload, base64.b64encode(sign_bytes(payload, self.private)).decode()


def signer_of(site: Site) -> str | None:
    """Who will sign, as far as it can be told without a passphrase: the key id, or of a protected
    key ``protected:`` and the SHA-256 of its file; None where the site names no key.

    ``unusable`` for a key that cannot be read: preflight says what is wrong with it.
    """
    from relforge.patching.keys import keyfiles
    from relforge.patching.keys.signing import load_signing_key

    spec = site.publish.signing
    if spec is None:
        return None
    try:
        data = keyfiles.read(spec.key)
        if keyfiles.is_protected(data):
            return f"protected:{sha256_hex(data)}"
        return key_id(load_signing_key(spec.key).public_key())
    except RelforgeError:
        return "unusable"


def unsigned(statement: Statement) -> Envelope:
    """An envelope that nobody signed: what is said, without who says it."""
    return Envelope(PAYLOAD_TYPE, statement.to_json(), ())
