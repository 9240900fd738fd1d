"""A little FlagScale: a repository with both layouts, a submodule, and a vendor's change."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from relforge.cli.dispatch import dispatch
from relforge.patching.flagscale import sealed
from tests.support.patching import MARK, Repository, new_repository

ENGINE = b"".join(b"engine line %d\n" % i for i in range(40))


@lru_cache(maxsize=1)
def rsa4096() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=4096)


def key_folder(folder: Path) -> Path:
    """The two files as FlagScale's tool makes them."""
    folder.mkdir(parents=True)
    private = folder / "private_key.pem"
    private.write_bytes(
        rsa4096().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    private.chmod(0o600)
    (folder / "public_key.pem").write_bytes(
        rsa4096().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return folder


def seal(plain: bytes) -> bytes:
    return b"".join(sealed.seal([plain], rsa4096().public_key()))


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def trees(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.out)["trees"]
        return found

    @property
    def tree(self) -> str:
        (one,) = self.trees
        tree: str = one["tree"]["tree"]
        return tree


@dataclass
class LittleFlagScale:
    """``base`` is what patches are for, ``vendor`` the vendor's state, on no branch."""

    root: Path
    fs: Repository
    vllm: Repository
    base: str
    vllm_base: str
    vendor: str
    mailbox: bytes
    vllm_patch: bytes
    capsys: pytest.CaptureFixture[str] | None = field(default=None, repr=False)

    @property
    def b8(self) -> str:
        return self.base[:8]

    @property
    def vendor_tree(self) -> str:
        return self.fs.tree(self.vendor)

    @property
    def keys(self) -> Path:
        folder = self.root / "keys"
        return folder if folder.exists() else key_folder(folder)

    def relforge(self, verb: str, *words: str | Path) -> Answer:
        assert self.capsys is not None
        self.capsys.readouterr()
        code = dispatch(verb, [str(word) for word in words])
        shown = self.capsys.readouterr()
        return Answer(code, shown.out, shown.err)

    def unpatch(self, *words: str | Path) -> Answer:
        return self.relforge("unpatch", *words, "--repo", self.fs.path, "--json")

    def legacy(self, device: str, content: bytes, *, end: str = ".patch") -> Path:
        path = self.fs.path / "hardware" / device / self.b8 / f"{self.b8}{end}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def entry(
        self,
        device: str,
        backend: str,
        files: dict[str, bytes],
        *,
        tasks: Sequence[str] = ("inference",),
        **changes: Any,
    ) -> Path:
        folder = self.fs.path / "hardware" / device / backend
        description = {
            "backends_commit": {} if backend == "FlagScale" else {backend: self.vllm_base},
            "backends_version": {backend: 0.9},
            "commit": self.base,
            "contact": "",
            "device_type": device,
            "models": ["qwen3 "],
            "task": list(tasks),
            **changes,
        }
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "diff.yaml").write_text(yaml.safe_dump(description))
        return folder

    def early(
        self,
        device: str,
        backend: str,
        patch: bytes,
        base: str,
        *,
        end: str = ".patch",
        **changes: Any,
    ) -> Path:
        """An entry of April and May 2025, whose file names say the base."""
        folder = self.fs.path / "hardware" / device / backend
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{base[:7]}{end}").write_bytes(patch)
        description = {
            "backends_version": {backend: "0.7.2"},
            "contact": "",
            "device_type": device,
            "models": ["qwen3"],
            "task": ["inference"],
            **changes,
        }
        (folder / f"{base[:7]}.yaml").write_text(yaml.safe_dump(description))
        return folder

    def history(self, device: str, task: str, backends: str, *commits: str) -> None:
        content = {device: {task: {backends: list(commits)}}}
        (self.fs.path / "hardware" / "patch_history.yaml").write_text(yaml.safe_dump(content))


@lru_cache(maxsize=1)
def _template() -> LittleFlagScale:
    """Made once; every test gets a copy. Nothing in it knows where it lies."""
    root = Path(tempfile.mkdtemp(prefix="relforge-flagscale-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    vllm = new_repository(root / "vllm")
    vllm_base = vllm.commit({"vllm/core.py": b"a = 1\nb = 2\n", "setup.py": b"setup\n"})
    fs = new_repository(root / "FlagScale")
    (fs.path / ".gitmodules").write_text(
        '[submodule "third_party/vllm"]\n\tpath = third_party/vllm\n\turl = ../vllm\n'
    )
    fs.write(
        {
            "flagscale/engine.py": ENGINE,
            "flagscale/crlf.txt": b"one\r\ntwo\r\n",
            "hardware/README.md": b"vendors\n",
            "tools/patch/unpatch.py": b"# theirs\n",
        }
    )
    fs.git("add", "-A")
    fs.git("update-index", "--add", "--cacheinfo", f"160000,{vllm_base},third_party/vllm")
    fs.git("commit", "-q", "-m", "base")
    (fs.path / "third_party" / "vllm").mkdir(parents=True)
    base = fs.head
    vendor = _vendor(fs)
    mailbox = fs.mailbox(base)
    fs.git("reset", "-q", "--hard", base)
    vllm.commit({"vllm/core.py": b"a = 1\nb = 22\n"})
    patch = vllm.git("diff", "--binary", vllm_base, "HEAD")
    vllm.git("reset", "-q", "--hard", vllm_base)
    return LittleFlagScale(root, fs, vllm, base, vllm_base, vendor, mailbox, patch)


def _vendor(fs: Repository) -> str:
    fs.write({"flagscale/engine.py": ENGINE.replace(b"line 20\n", MARK + b"\n")})
    fs.git("commit", "-q", "-am", "[Vendor] first")
    fs.write({"flagscale/vendor.py": b"x = 1   \n\ty\n\n\n"})
    fs.git("add", "flagscale/vendor.py")
    fs.git("commit", "-q", "-m", "second")
    return fs.head


def nasty_change(repository: Repository, folder: str) -> None:
    """What patch tools lose: line ends, encodings, names, modes, links, empty files."""
    path = repository.path / folder
    path.mkdir(exist_ok=True)
    (path / "crlf.txt").write_bytes(b"one\r\nTWO  \r\nthree")
    (path / "latin.txt").write_bytes("café\n".encode("latin-1"))
    (path / "white.py").write_bytes(b"x = 1   \n \ty\n\n\n\n")
    (path / "data.bin").write_bytes(bytes(range(256)) * 8)
    (path / "empty").write_bytes(b"")
    (path / "ü [1] ä.txt").write_bytes(b"name\n")
    (path / "link").symlink_to("white.py")
    (path / "tool.sh").write_bytes(b"#!/bin/sh\n")
    (path / "tool.sh").chmod(0o755)


def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> LittleFlagScale:
    """A little FlagScale, and a home and current folder of its own."""
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    # A checkout that ran the quickstart has a site configuration, which must not count here.
    site = tmp_path / "site.yaml"
    site.write_text("kind: site\n")
    monkeypatch.setenv("RELFORGE_SITE", str(site))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    template = _template()
    for name in ("FlagScale", "vllm"):
        shutil.copytree(template.root / name, tmp_path / name, symlinks=True)
    return replace(
        template,
        root=tmp_path,
        fs=Repository(tmp_path / "FlagScale"),
        vllm=Repository(tmp_path / "vllm"),
        capsys=capsys,
    )
