"""Where forgeries are made, and to what kinds of places they are taken."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from relforge.evidence.dsse import TrustedSigner
from relforge.manifest.site import Site
from relforge.oci.copying import copy
from relforge.oci.layout_store import LayoutStore
from relforge.oci.reference import Repository
from relforge.oci.registry import RegistryStore
from relforge.oci.tar_store import TarStore
from relforge.verifying import verify_place
from relforge.verifying.report import VerifyReport
from tests.support.forging import Forger
from tests.support.published import RELEASE as NAME
from tests.support.registries import RealRegistry
from tests.support.verified import Releaser

Where = Literal["folder", "tar", "registry"]
EVERYWHERE: tuple[Where, ...] = ("folder", "tar", "registry")


@dataclass(frozen=True)
class Made:
    """Releases that were made once: the newest, an older one of the same image, one of another
    image by the same maker, and one that an attacker made and signed with a key of his own."""

    newest: Path
    older: Path
    other: Path
    attacker: Path
    trusted: tuple[TrustedSigner, ...]
    key: Path


@dataclass
class Scene:
    """A folder to forge in, and where it is taken to."""

    made: Made
    root: Path
    registry: RealRegistry

    @property
    def forger(self) -> Forger:
        return Forger(self.root / "dist" / NAME)

    def start(self, of: Path | None = None) -> Forger:
        shutil.rmtree(self.root / "dist", ignore_errors=True)
        shutil.copytree(of or self.made.newest, self.root / "dist" / NAME, symlinks=True)
        return self.forger

    def placed(self, where: Where) -> str | Path:
        """The place of that kind with what is in the folder now, as a user would name it."""
        folder = self.forger.folder
        if where == "folder":
            return folder
        source = LayoutStore(folder / "image")
        digest = source.roots()[0][1].digest
        if where == "tar":
            tar = self.root / f"{NAME}.tar"
            tar.unlink(missing_ok=True)
            copy(source, TarStore(tar), digest, tag="relforge/forged:1")
            return tar
        copy(source, self.store, digest, tag="1")
        return f"{self.store.name}:1"

    @property
    def store(self) -> RegistryStore:
        name = self.root.name.lower().replace("_", "-")
        return RegistryStore(Repository(host=self.registry.host, name=f"t/{name}"), site=Site())

    def verify(self, where: Where, **more: Any) -> VerifyReport:
        return verify_place(self.placed(where), self.made.trusted, **more)


def make(root: Path) -> Made:
    """Makes all of them below ``root``."""
    maker, attacker = Releaser.at(root / "maker"), Releaser.at(root / "attacker")
    older = maker.release(root / "older", wrong=6)
    return Made(
        newest=maker.release(root / "newest"),
        older=older,
        other=maker.release(root / "other", word=b"another"),
        attacker=attacker.release(root / "attacker", wrong=0),
        trusted=maker.trusted,
        key=maker.public_key(root / "maker.pub"),
    )


def reason(report: VerifyReport, check: str) -> str:
    found = report.finding(check)
    assert found.verdict == "fail", f"{check} did not fail: {found}"
    assert found.meaning
    assert found.next
    return found.reason


def run_verb(*words: str) -> int:
    from relforge.cli.dispatch import dispatch

    return dispatch("verify", list(words))
