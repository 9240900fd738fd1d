"""The key that signs releases, and signatures made with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relforge.attesting.predicates import PAYLOAD_TYPE
from relforge.attesting.statements import Statement
from relforge.evidence.dsse import Envelope, PrivateKey, PublicKey, key_id, sign, sign_bytes
from relforge.manifest.site import Site
from relforge.patching.keys.passphrase import Passphrase, given_passphrase


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
        return cls(spec.key, load_signing_key(spec.key, passphrase=passphrase))

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

    def sign_bytes(self, data: bytes) -> bytes:
        """A bare signature, as it stands in cosign's annotation before base64."""
        return sign_bytes(data, self.private)


def unsigned(statement: Statement) -> Envelope:
    """An envelope that nobody signed: what is said, without who says it."""
    return Envelope(PAYLOAD_TYPE, statement.to_json(), ())
