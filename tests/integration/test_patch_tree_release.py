"""A release's patched source as a worktree, as an archive, and its patches on a newer base."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode
from tests.support.flagscale import nasty_change
from tests.support.patching import MARK, Repository, files_with_mark, write_patch_set

CHECKOUT = Path(__file__).resolve().parents[2]
RELFORGE = str(Path(sys.executable).with_name("relforge"))
RELEASE = ("--release", "hello-cpu_x86")
MODEL = "hello_server/model.py"


@dataclass(frozen=True)
class Project:
    """A project whose release patches its source; a site that has the same patches sealed."""

    root: Path
    served: Path
    base: str
    newer: str
    conflicting: str
    base_tree: str
    result_tree: str

    @property
    def sealed(self) -> tuple[str, ...]:
        """The words of a user who has the bundle, and a key for it."""
        keys = self.root / "user-keys"
        return ("--site", str(self.root / "sealed.yaml"), "--key-path", str(keys))

    def words(self, sealed: bool) -> tuple[str, ...]:
        return (*RELEASE, *(self.sealed if sealed else ()))

    def clone(self, path: Path) -> Repository:
        subprocess.run(["git", "clone", "-q", self.served, path], check=True)
        return Repository(path)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    tmp = tmp_path_factory.mktemp("release")
    root = tmp / "project"
    shutil.copytree(CHECKOUT / "examples" / "hello", root)
    served = tmp / "git" / "hello.git"
    served.parent.mkdir()
    make: list[str | Path] = [
        sys.executable,
        CHECKOUT / "examples" / "hello" / "make_repo.py",
        served,
    ]
    subprocess.run(make, check=True, capture_output=True)
    upstream = Repository(tmp / "upstream")
    subprocess.run(["git", "clone", "-q", "--no-local", served, upstream.path], check=True)
    base, base_tree = upstream.head, upstream.tree()
    model = (upstream.path / MODEL).read_bytes()
    newer = upstream.commit({MODEL: b"# newer\n\n" + model, "NEWS": b"newer\n"}, "newer")
    conflicting = upstream.commit({MODEL: b"all new\n"}, "all new")
    upstream.git("push", "-q", "origin", "HEAD:refs/heads/newer")
    upstream.git("checkout", "-q", "--detach", base)
    nasty_change(upstream, "hello_server/vendor")
    upstream.commit({MODEL: model + b"# %b\n" % MARK}, "Vendor")
    write_patch_set(root / "patches", {"0001-vendor.patch": upstream.mailbox(base)})
    manifest = root / "manifests" / "releases" / "hello-cpu_x86.yaml"
    patches = "patches:\n  - {name: hello-patches, source: hello, path: patches}\n\nbuild:"
    manifest.write_text(manifest.read_text().replace("build:", patches, 1))
    (root / ".relforge").mkdir()
    site = (
        f"kind: site\nhome: {tmp / 'home'}\n"
        f"git_mirrors: [{{prefix: 'https://git.example/', to: 'file://{served.parent}/'}}]\n"
    )
    (root / ".relforge" / "site.yaml").write_text(site)
    (root / "sealed.yaml").write_text(
        f"{site}trusted_keys: [{{name: vendor, public_key: {root}/keys/vendor.sign.pub.pem}}]\n"
        f"patch_sets: {{hello-patches: {root}/hello.bundle}}\n"
    )
    before = Path.cwd()
    os.chdir(root)
    try:
        for words in (
            ("lock", *RELEASE),
            ("keys", "new", "--out", "keys", "--name", "vendor"),
            ("keys", "new", "--out", "user-keys", "--name", "user"),
            ("keys", "new", "--out", "other-keys", "--name", "other"),
            (
                *("patch", "seal", *RELEASE, "--patch-set", "hello-patches", "--out"),
                *("hello.bundle", "--recipient", "user-keys/user.age.pub"),
                *("--sign", "keys/vendor.sign.pem"),
            ),
        ):
            assert dispatch(words[0], list(words[1:])) == 0, words
    finally:
        os.chdir(before)
    tree = upstream.tree()
    return Project(root, served, base, newer, conflicting, base_tree, tree)


class Run:
    """relforge, run in the project."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.err = ""

    def __call__(self, verb: str, *words: str | Path, code: int = 0) -> dict[str, Any]:
        self._capsys.readouterr()
        got = dispatch(verb, [*map(str, words), "--json"])
        out, self.err = self._capsys.readouterr()
        assert got == code, self.err
        return dict(json.loads(out)) if out else {}


@pytest.fixture
def run(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(project.root)
    monkeypatch.delenv("RELFORGE_SITE", raising=False)
    monkeypatch.delenv("RELFORGE_HOME", raising=False)
    return Run(capsys)


def tree_of_files(folder: Path, scratch: Path) -> str:
    """The tree hash of a folder's files as git itself sees them, without what is not the tree's."""
    env = {**os.environ, "GIT_DIR": str(scratch), "GIT_WORK_TREE": str(folder)}
    for command in (
        ["init", "-q"],
        ["-c", "core.autocrlf=false", "add", "-A", "-f", ".", ":!.relforge-tree.json"],
    ):
        subprocess.run(["git", *command], env=env, cwd=folder, check=True, capture_output=True)
    done = subprocess.run(["git", "write-tree"], env=env, capture_output=True, check=True)
    return done.stdout.decode().strip()


def state(repository: Repository) -> list[bytes]:
    return [
        repository.git("status", "--porcelain"),
        repository.git("for-each-ref"),
        repository.git("stash", "list"),
        (repository.path / ".git/index").read_bytes(),
        (repository.path / ".git/HEAD").read_bytes(),
        (repository.path / ".git/config").read_bytes(),
    ]


@pytest.mark.parametrize("sealed", [False, True])
def test_a_worktree_is_the_users_own_with_the_patches_as_edits(
    project: Project, run: Run, tmp_path: Path, sealed: bool
) -> None:
    clone = project.clone(tmp_path / "clone")
    clone.write({"NEWS": b"the user's own edit\n"})
    before = state(clone)
    words: tuple[str | Path, ...] = (
        *project.words(sealed),
        "--worktree",
        "--repo",
        clone.path,
        "--dir",
        tmp_path / "trees",
    )
    (done,) = run("unpatch", *words)["trees"]
    assert (done["tree"]["tree"], done["status"]) == (project.result_tree, "written")
    assert done["tree"]["sealed"] is sealed
    tree = Repository(tmp_path / "trees/cpu_x86/hello")
    assert Path(done["folder"]) == tree.path
    assert tree.head == project.base
    assert tree.git("write-tree").decode().strip() == project.base_tree
    assert tree.git("rev-parse", "--abbrev-ref", "HEAD") == b"HEAD\n"
    assert tree.git("diff", "--name-only").split() == [MODEL.encode()]
    rows = tree.git("status", "--porcelain").decode().splitlines()
    assert rows == [f" M {MODEL}", "?? hello_server/vendor/"]
    assert tree_of_files(tree.path, tmp_path / "git") == project.result_tree
    assert state(clone) == before
    if sealed:
        # What is decrypted lies in the worktree's files alone.
        assert files_with_mark(clone.path / ".git", tmp_path.parent / "home") == []
    # Again: nothing to do. Edited: said, kept, and never overwritten.
    (again,) = run("unpatch", *words)["trees"]
    assert again["status"] == "unchanged"
    tree.write({"mine.py": b"mine\n", "README.md": None})
    (shown,) = run("unpatch", "--status", tmp_path / "trees")["trees"]
    assert shown["worktree"] is True
    assert shown["patch_set"]["sealed"] is sealed
    assert [(one["path"], one["change"]) for one in shown["changes"]] == [
        ("README.md", "gone"),
        ("mine.py", "added"),
    ]
    run("unpatch", *words, code=ExitCode.SOURCE)
    assert "git worktree remove --force" in run.err
    run("unpatch", "--reverse", tree.path, "--discard-edits", code=ExitCode.SOURCE)
    assert (tree.path / "mine.py").read_bytes() == b"mine\n"
    out = tmp_path / "edit"
    edit = run("patch", "from-tree", tree.path, "--out", out, *(project.sealed if sealed else ()))
    assert edit["files"] == ["README.md", "mine.py"]
    # Git takes it for one of its own, and takes it away.
    clone.git("worktree", "prune", "--expire=now")
    assert str(tree.path).encode() in clone.git("worktree", "list")
    assert clone.git("fsck", "--connectivity-only", "--no-dangling") == b""
    clone.git("worktree", "remove", "--force", str(tree.path))
    assert state(clone) == before


def test_a_worktree_is_refused_where_it_cannot_be(
    project: Project, run: Run, tmp_path: Path
) -> None:
    clone = project.clone(tmp_path / "clone")
    before = state(clone)
    run("unpatch", *RELEASE, "--worktree", code=ExitCode.USAGE)
    assert "--repo PATH" in run.err
    both = ("--worktree", "--repo", clone.path, "--tar", tmp_path / "t.tar")
    run("unpatch", *RELEASE, *both, code=ExitCode.USAGE)
    taken = tmp_path / "taken/cpu_x86/hello"
    taken.mkdir(parents=True)
    (taken / "precious").write_text("x")
    here = ("--worktree", "--repo", clone.path, "--dir")
    run("unpatch", *RELEASE, *here, tmp_path / "taken", code=ExitCode.SOURCE)
    assert [path.name for path in taken.iterdir()] == ["precious"]
    other = ("--key-path", project.root / "other-keys")
    run("unpatch", *project.words(True)[:-2], *other, *here, tmp_path / "new", code=4)
    assert not (tmp_path / "new/cpu_x86").exists()
    assert clone.git("worktree", "list").count(b"\n") == 1
    assert state(clone) == before
    shallow = tmp_path / "shallow"
    url = f"file://{project.served}"
    subprocess.run(["git", "clone", "-q", "--depth=1", "-b", "newer", url, shallow], check=True)
    words = ("--worktree", "--repo", shallow, "--dir", tmp_path / "new")
    run("unpatch", *RELEASE, *words, code=ExitCode.SOURCE)
    assert f"fetch origin {project.base}" in run.err


def test_a_bare_clone_or_another_worktree_serves_as_well(
    project: Project, run: Run, tmp_path: Path
) -> None:
    clone = project.clone(tmp_path / "clone")
    clone.git("worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    bare = Repository(tmp_path / "bare.git")
    subprocess.run(["git", "clone", "-q", "--bare", project.served, bare.path], check=True)
    for name, repo, owner in (("one", tmp_path / "linked", clone), ("two", bare.path, bare)):
        words = ("--worktree", "--repo", repo, "--dir", tmp_path / name)
        (done,) = run("unpatch", *RELEASE, *words)["trees"]
        assert done["tree"]["tree"] == project.result_tree
        assert Repository(Path(done["folder"])).git("diff", "--name-only") == f"{MODEL}\n".encode()
        owner.git("worktree", "remove", "--force", done["folder"])


@pytest.mark.parametrize("sealed", [False, True])
def test_the_archive_is_the_tree_and_always_the_same(
    project: Project, run: Run, tmp_path: Path, sealed: bool
) -> None:
    words = project.words(sealed)
    (done,) = run("unpatch", *words, "--tar", tmp_path / "a/tree.tar")["trees"]
    assert done["tree"]["tree"] == project.result_tree
    archive = tmp_path / "a/tree.tar"
    assert [path.name for path in archive.parent.iterdir()] == ["tree.tar"]
    run("unpatch", *words, "--tar", tmp_path / "b.tar")
    assert (tmp_path / "b.tar").read_bytes() == archive.read_bytes()
    # Whether the patches were sealed makes no difference, and on stdout there is nothing else.
    command = [RELFORGE, "unpatch", *project.words(not sealed)]
    streamed = subprocess.run([*command, "--tar", "-"], check=True, capture_output=True)
    assert streamed.stdout == archive.read_bytes()
    assert project.result_tree.encode() in streamed.stderr
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", out], check=True)
    assert tree_of_files(out, tmp_path / "git") == project.result_tree
    run("unpatch", *words, "--dir", tmp_path / "build")
    folder = tmp_path / "build/cpu_x86/hello"
    with tarfile.open(archive) as tar:
        for member in tar:
            path = folder / member.name
            assert member.mtime == path.lstat().st_mtime or member.isdir()
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            if not member.issym():
                assert member.mode == (path.lstat().st_mode & 0o777)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    run("unpatch", *words, "--tar", archive, code=ExitCode.SOURCE)
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == digest
    (tmp_path / "link.tar").symlink_to("nowhere")
    run("unpatch", *words, "--tar", tmp_path / "link.tar", code=ExitCode.SOURCE)
    assert not (tmp_path / "nowhere").exists()


def test_no_archive_without_the_key(project: Project, run: Run, tmp_path: Path) -> None:
    other = ("--key-path", project.root / "other-keys")
    words: tuple[str | Path, ...] = (*project.words(True)[:-2], *other)
    run("unpatch", *words, "--tar", tmp_path / "t.tar", code=ExitCode.SOURCE)
    assert list(tmp_path.iterdir()) == []
    command = [RELFORGE, "unpatch", *map(str, words), "--tar", "-"]
    streamed = subprocess.run(command, check=False, capture_output=True)
    assert (streamed.returncode, streamed.stdout) == (ExitCode.SOURCE, b"")


def applied_by_git(project: Project, commit: str, mailbox: Path, scratch: Path) -> str:
    clone = project.clone(scratch)
    clone.git("checkout", "-q", commit)
    clone.git("am", "-q", "--keep-cr", "--whitespace=nowarn", str(mailbox.absolute()))
    return clone.tree()


@pytest.mark.parametrize("sealed", [False, True])
def test_a_releases_patches_move_to_a_newer_commit_of_its_source(
    project: Project, run: Run, tmp_path: Path, sealed: bool
) -> None:
    patch_set = "hello.bundle" if sealed else "patches"
    keys = project.sealed if sealed else ()
    move = ("patch", "rebase", patch_set, *RELEASE, *keys, "--onto", project.newer)
    plain = ("--plain",) if sealed else ()
    done = run(*move, "--out", tmp_path / "plain", *plain)
    assert (done["onto"], done["patches"]) == (project.newer, ["0001-vendor.patch"])
    box = tmp_path / "plain/0001-vendor.patch"
    assert applied_by_git(project, project.newer, box, tmp_path / "git") == done["tree"]
    assert b"Subject: [PATCH] Vendor\n" in box.read_bytes()
    assert files_with_mark(project.root.parent / "home") == []
    run(*move, "--out", tmp_path / "plain", *plain, code=ExitCode.SOURCE)
    run(*move[:-1], "main", "--out", tmp_path / "x", *plain, code=ExitCode.USAGE)
    assert "git ls-remote https://git.example/hello.git main" in run.err
    conflict = (*move[:-1], project.conflicting, "--out", tmp_path / "x", *plain)
    found = run(*conflict, code=ExitCode.SOURCE)["conflicts"]
    assert [one["path"] for one in found] == [MODEL]
    assert not (tmp_path / "x").exists()


def test_a_sealed_set_of_a_release_stays_sealed_when_it_moves(
    project: Project, run: Run, tmp_path: Path
) -> None:
    move = ("patch", "rebase", "hello.bundle", *RELEASE, *project.sealed, "--onto", project.newer)
    run(*move, "--out", tmp_path / "new.bundle", code=ExitCode.USAGE)
    sealing = ("--recipient", "user-keys/user.age.pub", "--sign", "keys/vendor.sign.pem")
    done = run(*move, "--out", tmp_path / "new.bundle", *sealing)
    assert MARK not in (tmp_path / "new.bundle").read_bytes()
    site = project.sealed[:2]
    header = run("patch", "inspect", tmp_path / "new.bundle", *site)["header"]
    assert header["base_commit"] == header["source"]["origin"]["commit"] == project.newer
    assert (header["result_tree"], header["device"]) == (done["tree"], "cpu_x86")
    assert run("patch", "verify", tmp_path / "new.bundle", *site)["signer"] == "vendor"
    run("patch", "open", tmp_path / "new.bundle", "--dir", tmp_path / "plain", *project.sealed)
    box = tmp_path / "plain/0001-vendor.patch"
    assert applied_by_git(project, project.newer, box, tmp_path / "git") == done["tree"]


def test_a_tree_of_a_release_moves_with_a_clone(project: Project, run: Run, tmp_path: Path) -> None:
    run("unpatch", *RELEASE, "--dir", tmp_path / "build")
    folder = tmp_path / "build/cpu_x86/hello"
    clone = project.clone(tmp_path / "clone")
    move = ("patch", "rebase", folder, "--onto", "origin/newer~1", "--out", tmp_path / "new")
    run(*move, code=ExitCode.USAGE)
    assert "--repo" in run.err
    done = run(*move, "--repo", clone.path)
    assert done["onto"] == project.newer
    box = tmp_path / "new/0001-vendor.patch"
    assert applied_by_git(project, project.newer, box, tmp_path / "git") == done["tree"]
