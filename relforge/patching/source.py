"""What a patch set is to those who apply it, wherever it lies: plain, sealed, FlagScale's.

A patch set says what it is without being opened (``info``), and hands out its patches once, in
order, over a stream (``stream``), so that what was decrypted is held by nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from relforge.errors import RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.common import Commit, Sha256, TreeHash
from relforge.patching.identity import Identities

if TYPE_CHECKING:
    from relforge.evidence.dsse import TrustedSigner

Ships = Literal["none", "binaries", "python"]
Whitespace = Literal["exact", "fix"]


class NotOpened(RelforgeError):
    """Something is sealed, and none of the keys at hand opens it."""

    def to_ask(self, contact: str) -> NotOpened:
        """The same, with whom to ask for the key."""
        hint = f"{self.hint}; ask {contact} for the key" if self.hint else f"ask {contact}"
        return NotOpened(self.what, code=self.code, where=self.where, why=self.why, hint=hint)


class Patch(Frozen):
    """One patch of a set."""

    name: str
    sha256: Sha256
    size_bytes: int


class PatchSetInfo(Frozen):
    """What is known of a patch set without decrypting it; content only, fit for a stage's key."""

    name: str
    content_sha256: Sha256
    sealed: bool
    source: str | None = None
    """From here on it is what a bundle says of itself, and ``None`` for any other patch set."""
    base_commit: Commit | None = None
    base_tree: TreeHash | None = None
    result_tree: TreeHash | None = None
    device: str | None = None
    ships: Ships | None = None
    signer: str | None = None
    signer_keyid: Sha256 | None = None


@dataclass(frozen=True)
class Diff:
    """One patch file on its way to git: a plain diff or a mailbox, whole or in chunks.

    ``folder`` is where in the tree its paths begin, without a slash at either end.
    """

    name: str
    content: bytes | Iterable[bytes]
    folder: str = ""


@dataclass(frozen=True)
class PatchStream:
    """Ordered patches whose contents are read once, each to its end before the next.

    ``where`` names the file for messages.
    """

    patches: tuple[Patch, ...]
    info: PatchSetInfo
    diffs: Iterable[Diff]
    where: str


@dataclass(frozen=True)
class Trust:
    """Whose signatures count here, and what opens what is sealed.

    With ``allow_unsigned`` an unsigned bundle, or one of a signer nobody here trusts, is taken too.
    """

    signers: tuple[TrustedSigner, ...] = ()
    identities: Identities = field(default_factory=Identities)
    allow_unsigned: bool = False


class PatchSource(Protocol):
    """A patch set that can be asked and opened; both raise RelforgeError (SOURCE)."""

    def info(self, trust: Trust) -> PatchSetInfo:
        """What the patch set says of itself; a bundle's header is verified, no key is needed."""

    def stream(self, trust: Trust) -> AbstractContextManager[PatchStream]:
        """Opens it; what was decrypted is gone when the block ends."""


@dataclass(frozen=True)
class Graft:
    """A source that lies in a folder of another one: a submodule's tree at its commit.

    ``git_dir`` is a repository that holds the tree; it is only read.
    """

    folder: str
    git_dir: Path
    tree: str


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a patched tree, and whether it may be made.

    ``git_dir`` is a repository that holds ``base_tree``; it is only read. A bundle is verified and
    opened as ``trust`` says, and must be made for ``base_tree``, for ``base_commit`` (where both
    name one) and for one of ``device_names`` (the device's name and aliases; empty: not checked).
    The result must be ``expected_tree`` (where given) and what a bundle's header says.
    ``whitespace`` "fix" repairs whitespace errors of added lines as ``git apply
    --whitespace=fix`` does, to match trees of tools that did.
    """

    git_dir: Path
    base_tree: str
    patches: PatchSource | None = None
    grafts: tuple[Graft, ...] = ()
    base_commit: str | None = None
    device_names: frozenset[str] = frozenset()
    expected_tree: str | None = None
    trust: Trust = field(default_factory=Trust)
    whitespace: Whitespace = "exact"
    key_contact: str | None = None
    """Whom to ask for the key of a sealed set, for messages."""
