"""What opens a patch set: private keys that were loaded. ``keys`` is what loads them.

Apart from the ciphers, which take long to import: a plan speaks of keys and uses none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

    from relforge.patching.keys.keyfiles import KeyFinding
    from relforge.patching.keys.recipients import RecipientId


@dataclass(frozen=True)
class Identity:
    """A private key that may open a bundle."""

    id: RecipientId
    path: Path
    native: Any = field(repr=False)
    """What pyrage takes."""
    rsa_key: rsa.RSAPrivateKey | None = field(default=None, repr=False)
    """The RSA key itself, for FlagScale's sealed files, which age does not read."""


@dataclass(frozen=True)
class Identities:
    """The private keys that were found, where was looked for them, and what is wrong with them."""

    keys: tuple[Identity, ...] = ()
    looked_in: tuple[Path, ...] = ()
    findings: tuple[KeyFinding, ...] = ()

    @property
    def passed_over(self) -> tuple[KeyFinding, ...]:
        """What looked like a private key and could not be used."""
        return tuple(finding for finding in self.findings if finding.kind != "exposed")
