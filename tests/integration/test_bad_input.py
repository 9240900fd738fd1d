"""Bad input on the user's way: what is refused, with which words, and that nothing is written."""

from __future__ import annotations

import dataclasses
import functools
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat

from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.patching.keys import load_identities, load_recipients, new_keys
from relforge.patching.kinds import patch_set_at
from relforge.patching.source import PatchSource, Recipe, Trust
from relforge.patching.tree.folder import unpatch_to_folder
from relforge.patching.tree.tarball import unpatch_to_tar
from relforge.patching.tree.worktree import unpatch_to_worktree
from tests.support.patching import (
    World,
    files_with_mark,
    make_world,
    new_repository,
    rsa_private_pem,
    rsa_public_pem,
    write_patch_set,
)
from tests.unit.test_apply import ESCAPES, new_file

SECRET = "correct horse battery"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(p.relative_to(folder)): (
            p.lstat().st_mode,
            p.read_bytes() if p.is_file() and not p.is_symlink() else b"",
        )
        for p in sorted(folder.rglob("*"))
    }


# --- patches that would leave the tree ------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Target:
    """The user's repository, with a link of its own, and what a patch could reach from there."""

    root: Path
    git_dir: Path
    commit: str
    tree: str

    def recipe(self, patches: PatchSource, trust: Trust) -> Recipe:
        return Recipe(self.git_dir, self.tree, patches, base_commit=self.commit, trust=trust)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    root = tmp_path_factory.mktemp("target")
    repository = new_repository(root / "repository")
    (repository.path / "own-link").symlink_to("d")
    commit = repository.commit({"d/file": b"1\n"})
    return Target(root, repository.git_dir, commit, repository.tree())


def as_folder(target: Target, recipe: Recipe, home: Path) -> None:
    unpatch_to_folder(target.root / "repository/build", recipe, home=home, epoch=1)


def as_worktree(target: Target, recipe: Recipe, home: Path) -> None:
    repository = target.root / "repository"
    unpatch_to_worktree(target.root / "wt", recipe, repository=repository, home=home, epoch=1)


def as_archive(target: Target, recipe: Recipe, home: Path) -> None:
    unpatch_to_tar(target.root / "t.tar", recipe, home=home, epoch=1)


@pytest.mark.parametrize("write", [as_folder, as_worktree, as_archive])
@pytest.mark.parametrize("case", ESCAPES)
def test_a_patch_that_would_escape_writes_nothing_at_all(
    target: Target,
    tmp_path: Path,
    case: str,
    write: Callable[[Target, Recipe, Path], None],
) -> None:
    patches, _path = ESCAPES[case]
    # A good one first: not even that is written.
    names = {"0.patch": new_file("good"), **{f"{n}.patch": p for n, p in enumerate(patches, 1)}}
    plain = patch_set_at(write_patch_set(tmp_path / "set", names))
    home = tmp_path / "home"
    before = state(target.root)
    with pytest.raises(RelforgeError) as caught:
        write(target, target.recipe(plain, Trust()), home)
    assert caught.value.code is ExitCode.SOURCE
    assert caught.value.what.startswith(("patch ", "one of the patches"))
    after = state(target.root)
    exclude = "repository/.git/info/exclude"  # it names the folder before anything is made
    assert {k: v for k, v in after.items() if k != exclude} == {
        k: v for k, v in before.items() if k != exclude
    }
    assert list((home / "work").iterdir()) == []


@pytest.mark.parametrize("case", ["git", "submodule", "dotdot", "through a new link"])
def test_a_patch_that_would_escape_is_not_sealed(world: World, tmp_path: Path, case: str) -> None:
    names = {f"{n}.patch": patch for n, patch in enumerate(ESCAPES[case][0])}
    plain = write_patch_set(tmp_path / "set", names)
    with pytest.raises(RelforgeError, match="is refused") as caught:
        dataclasses.replace(world, plain=plain).seal_again(tmp_path / "x.bundle")
    assert caught.value.code is ExitCode.SOURCE
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


# --- places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [".", "/", "..", ".git", "link", "full", "file", "sub/.git/x"])
@pytest.mark.parametrize("kind", ["folder", "worktree"])
def test_no_place_of_the_users_becomes_a_tree(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, where: str
) -> None:
    repository = tmp_path / "repository"
    subprocess.run(["git", "clone", "-q", world.upstream.path, repository], check=True)
    (repository / "full").mkdir()
    (repository / "full/mine").write_text("mine")
    (repository / "file").write_text("mine")
    (repository / "link").symlink_to("engine")
    monkeypatch.chdir(repository)
    recipe = Recipe(
        git_dir=repository / ".git",
        base_tree=world.base_tree,
        base_commit=world.base_commit,
        patches=patch_set_at(world.bundle),
        trust=Trust(tuple(world.trusted), world.identities),
    )
    before, home = state(repository), tmp_path / "home"
    write: Callable[..., object] = unpatch_to_folder
    if kind == "worktree":
        write = functools.partial(unpatch_to_worktree, repository=repository)
    with pytest.raises(RelforgeError, match="not written there") as caught:
        write(Path(where), recipe, home=home, epoch=1)
    assert caught.value.code is ExitCode.SOURCE
    assert state(repository) == before
    assert files_with_mark(tmp_path) == []


# --- keys -----------------------------------------------------------------------------------------


def relforge(*words: str | Path) -> list[str | Path]:
    return [sys.executable, "-c", "from relforge.cli import main; main()", *words]


def on_a_terminal(words: list[str | Path], answer: str) -> tuple[int, str]:
    """Runs the command on a terminal of its own and types the answer to its first question."""
    ours, theirs = pty.openpty()
    shown, asked = b"", False
    with subprocess.Popen(
        ["setsid", "--ctty", *words], stdin=theirs, stdout=theirs, stderr=theirs
    ) as running:
        os.close(theirs)
        while select.select([ours], [], [], 60)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
            if not asked and b"passphrase of" in shown:
                asked = True
                os.write(ours, f"{answer}\n".encode())
    os.close(ours)
    assert asked, shown
    return running.returncode, shown.decode()


@pytest.fixture
def sealed_for_rsa(world: World, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A protected key, a bundle for it, and a site configuration."""
    key, public, site = tmp_path / "id.pem", tmp_path / "id.pub.pem", tmp_path / "site.yaml"
    key.write_bytes(rsa_private_pem(PrivateFormat.PKCS8, SECRET.encode()))
    key.chmod(0o600)
    public.write_bytes(rsa_public_pem())
    bundle = world.seal_again(tmp_path / "x.bundle", recipients=load_recipients([public])).path
    site.write_text(
        f"home: home\ntrusted_keys:\n- {{name: v, public_key: {world.keys.signing_public}}}\n"
    )
    return key, bundle, site


@pytest.mark.parametrize("answer", [SECRET, "something else"])
def test_a_protected_key_asks_on_the_terminal_and_shows_nothing_of_the_answer(
    sealed_for_rsa: tuple[Path, Path, Path], tmp_path: Path, answer: str
) -> None:
    key, bundle, site = sealed_for_rsa
    out = tmp_path / "out"
    words: list[str | Path] = ["patch", "open", bundle]
    words += ["--dir", out, "--key-path", key, "--site", site]
    code, shown = on_a_terminal(relforge(*words), answer)
    assert answer not in shown
    assert str(key) in shown
    if answer == SECRET:
        assert code == 0, shown
        assert (out / "series").is_file()
    else:
        assert code == ExitCode.SOURCE
        assert not out.exists()
        assert files_with_mark(tmp_path) == []


def test_without_a_terminal_nobody_is_asked_and_the_option_is_named(
    sealed_for_rsa: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    key, bundle, site = sealed_for_rsa
    words: list[str | Path] = ["patch", "open", bundle]
    words += ["--dir", tmp_path / "out", "--key-path", key, "--site", site]
    done = subprocess.run(
        relforge(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == ExitCode.SOURCE
    assert "--key-passphrase-file" in done.stderr
    assert str(key) in done.stderr
    assert not (tmp_path / "out").exists()


# --- bundles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [0.0, 0.003, 0.1, 0.3, 0.6, 0.999])
@pytest.mark.parametrize("cut", [False, True])
def test_every_command_refuses_an_altered_bundle(
    world: World, tmp_path: Path, where: float, cut: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    site, bundle, home = tmp_path / "site.yaml", tmp_path / "x.bundle", tmp_path / "home"
    site.write_text(
        f"home: home\ntrusted_keys:\n- {{name: v, public_key: {world.keys.signing_public}}}\n"
    )
    raw = world.bundle.read_bytes()
    at = int(len(raw) * where)
    bundle.write_bytes(raw[:at] if cut else raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    damaged, key = bundle.read_bytes(), str(world.keys.identity)
    common = ["--site", str(site)]
    new = ["--recipient", world.keys.recipient_text, "--sign", str(world.keys.signing_key)]
    opening = ["open", "--dir", str(tmp_path / "out"), "--key-path", key]
    rotating = ["rotate", "--out", str(tmp_path / "new.bundle"), "--key-path", key, *new]
    for first, *words in (["verify"], opening, rotating, [*opening, "--allow-unsigned"]):
        assert dispatch("patch", [first, str(bundle), *words, *common]) == ExitCode.SOURCE
        assert str(bundle) in capsys.readouterr().err
    assert bundle.read_bytes() == damaged
    assert {path.name for path in tmp_path.iterdir()} <= {"site.yaml", "x.bundle", "home"}
    assert files_with_mark(tmp_path) == []
    assert list((home / "work").iterdir() if (home / "work").exists() else ()) == []


def test_an_age_identity_under_a_passphrase(tmp_path: Path) -> None:
    made = new_keys(tmp_path, "me")
    locked = tmp_path / "locked.age"
    locked.write_bytes(pyrage.passphrase.encrypt(made.identity.read_bytes(), "long words"))
    identities = load_identities([locked], passphrase=lambda _path: "long words")
    (recipient,) = load_recipients([made.recipient_text])
    sealed = pyrage.encrypt(b"secret", [recipient.native])
    assert pyrage.decrypt(sealed, [key.native for key in identities.keys]) == b"secret"
