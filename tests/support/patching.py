"""What the tests of patching share: a real repository, real keys, a real bundle."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from relforge.evidence.dsse import TrustedSigner
from relforge.patching.bundle import SealedBundle, seal
from relforge.patching.bundle.header import BundleSource, GitOrigin
from relforge.patching.keys import (
    Identities,
    NewKeys,
    load_identities,
    load_recipients,
    load_signer,
    load_signing_key,
    new_keys,
)
from relforge.patching.series import read_series
from tests.support.plaintext import files_holding

MARK = b"PLAINTEXT-MARK-7f3a9c21"
_AUTHOR = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Test"), ("EMAIL", "t@invalid"), ("DATE", "1700000000 +0000"))
}


@dataclass(frozen=True)
class Repository:
    """A repository with commits, as an upstream has them."""

    path: Path

    def git(self, *args: str, stdin: bytes | None = None) -> bytes:
        env = {**os.environ, **_AUTHOR, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        return subprocess.run(
            ["git", *args], cwd=self.path, env=env, input=stdin, check=True, capture_output=True
        ).stdout

    def write(self, files: dict[str, bytes | None]) -> None:
        for name, content in files.items():
            path = self.path / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def commit(self, files: dict[str, bytes | None] | None = None, message: str = "change") -> str:
        self.write(files or {})
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD").decode().strip()

    def tree(self, commit: str = "HEAD") -> str:
        return self.git("rev-parse", f"{commit}^{{tree}}").decode().strip()

    def mailbox(self, base: str, *options: str) -> bytes:
        return self.git("format-patch", "--stdout", "--binary", *options, base)

    @property
    def git_dir(self) -> Path:
        return self.path / ".git"


def new_repository(path: Path) -> Repository:
    path.mkdir(parents=True)
    repository = Repository(path)
    repository.git("init", "-q", "-b", "main")
    # What a user may have configured must not matter.
    for key, value in (("core.autocrlf", "false"), ("apply.whitespace", "fix")):
        repository.git("config", key, value)
    return repository


def write_patch_set(folder: Path, patches: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in patches.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "series").write_text("".join(f"{name}\n" for name in patches))
    return folder


@dataclass(frozen=True)
class World:
    """A vendor with a repository and keys, two patches as a folder, and the same sealed."""

    root: Path
    upstream: Repository
    base_commit: str
    base_tree: str
    result_tree: str
    plain: Path
    bundle: Path
    sealed: SealedBundle
    keys: NewKeys
    home: Path

    @property
    def trusted(self) -> list[TrustedSigner]:
        return [load_signer("the vendor", self.keys.signing_public)]

    @property
    def identities(self) -> Identities:
        return load_identities([self.keys.identity])

    def tree_without_the_lines(self) -> str:
        """A tree in the store to which the first patch does not fit."""
        blob = self.upstream.git("hash-object", "-w", "--stdin", stdin=b"other\n").decode().strip()
        inner = self.upstream.git("mktree", stdin=f"100644 blob {blob}\tcore.py\n".encode())
        row = f"040000 tree {inner.decode().strip()}\tengine\n".encode()
        return self.upstream.git("mktree", stdin=row).decode().strip()

    def seal_again(self, out: Path, **changes: object) -> SealedBundle:
        arguments: dict[str, object] = {
            "store_git_dir": self.upstream.git_dir,
            "source": BundleSource(
                name="engine",
                origin=GitOrigin(url="https://git.invalid/engine", commit=self.base_commit),
            ),
            "base_commit": self.base_commit,
            "base_tree": self.base_tree,
            "device": "bi_V150",
            "ships": "binaries",
            "creator": "the vendor",
            "recipients": load_recipients([self.keys.recipient]),
            "signing_key": load_signing_key(self.keys.signing_key),
            "out": out,
            "home": self.home,
            **changes,
        }
        return seal(read_series(self.plain), **arguments)  # type: ignore[arg-type]


def make_world(root: Path, *, extra_files: int = 0) -> World:
    upstream = new_repository(root / "upstream")
    lines = b"".join(b"line %d\n" % i for i in range(60))
    files: dict[str, bytes | None] = {"engine/core.py": lines, "README": b"hello\n"}
    files |= {f"engine/many/f{i:05}.py": b"x = %d\n" % i for i in range(extra_files)}
    base = upstream.commit(files, "base")
    first = upstream.commit({"engine/core.py": lines.replace(b"line 30\n", MARK + b" one\n")})
    one = upstream.git("diff", "--binary", base, first)
    second = upstream.commit({"engine/vendor.py": MARK + b" two\n" * 20})
    two = upstream.git("diff", "--binary", first, second)
    plain = write_patch_set(root / "vendor-set", {"0001-core.patch": one, "more/vendor.patch": two})
    keys = new_keys(root / "keys", "vendor")
    world = World(
        root,
        upstream,
        base,
        upstream.tree(base),
        upstream.tree(second),
        plain,
        root / "vendor.bundle",
        None,  # type: ignore[arg-type]
        keys,
        root / "home",
    )
    sealed = world.seal_again(world.bundle)
    upstream.git("reset", "-q", "--hard", base)
    # The vendor's commits must not lie in the user's repository: they are what is sealed.
    upstream.git("reflog", "expire", "--expire=now", "--all")
    upstream.git("gc", "-q", "--prune=now")
    return World(**{**world.__dict__, "sealed": sealed})


@lru_cache(maxsize=1)
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def rsa_private_pem(form: PrivateFormat, passphrase: bytes | None = None) -> bytes:
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return rsa_key().private_bytes(Encoding.PEM, form, lock)


def rsa_public_pem() -> bytes:
    return rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def flagscale_key_folder(folder: Path) -> Path:
    """The two files that FlagScale's tool makes: PKCS#1 and SubjectPublicKeyInfo."""
    folder.mkdir()
    private = folder / "private_key.pem"
    private.write_bytes(rsa_private_pem(PrivateFormat.TraditionalOpenSSL))
    private.chmod(0o600)
    (folder / "public_key.pem").write_bytes(rsa_public_pem())
    return folder


def files_with_mark(*folders: Path) -> list[Path]:
    """Files that hold the marked plaintext: as they are, or in git objects, packs or archives."""
    return files_holding(MARK, *folders)
