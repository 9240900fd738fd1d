"""The store keeps bytes as they are, whatever attributes and configuration say."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git, TreeFile, init_store
from tests.support.sources import git as plain_git
from tests.support.sources import repository

ODD = {
    ".gitattributes": b"* text=auto eol=crlf ident\n*.l1 working-tree-encoding=latin1\n"
    b"hidden export-ignore\nsub export-subst\n*.bin filter=lfs\n",
    "crlf.txt": b"one\r\ntwo\n\rthree\r\n",
    "latin.l1": "caf\xe9 \xff\n".encode("latin-1"),
    "ident.c": b"$Id$ $Id: 0123 $\n",
    "hidden": b"kept\n",
    "sub": b"$Format:%H$\n",
    "data.bin": bytes(range(256)) * 40,
    "empty": b"",
    'odd "name"\t\\ \xfc\n.txt': b"x",
    "deep/er/still": b"y",
}


def files(content: dict[str, bytes]) -> list[TreeFile]:
    rows = [TreeFile(name, "100644", data) for name, data in content.items()]
    return [*rows, TreeFile("run.sh", "100755", b"#!\n"), TreeFile("link", "120000", b"deep/er")]


@pytest.fixture
def store(tmp_path: Path) -> Git:
    return init_store(tmp_path / "store" / "git")


def test_every_byte_and_mode_comes_back(store: Git, tmp_path: Path) -> None:
    tree = store.import_files(files(ODD))
    old = os.umask(0o077)
    try:
        store.checkout(tree, tmp_path / "out", epoch=1_600_000_000)
    finally:
        os.umask(old)
    out = tmp_path / "out"
    found = {str(p.relative_to(out)): p for p in out.rglob("*") if p.is_symlink() or p.is_file()}
    assert set(found) == {*ODD, "run.sh", "link"}
    for name, data in ODD.items():
        assert found[name].read_bytes() == data, name
        assert found[name].stat().st_mode & 0o777 == 0o644
        assert found[name].stat().st_mtime == 1_600_000_000
    assert found["run.sh"].stat().st_mode & 0o777 == 0o755
    assert str(found["link"].readlink()) == "deep/er"
    assert found["link"].lstat().st_mtime == 1_600_000_000
    assert (out / "deep").stat().st_mode & 0o777 == 0o755
    assert (out / "deep").stat().st_mtime == 1_600_000_000


def test_the_hash_is_that_of_plain_git(store: Git, tmp_path: Path) -> None:
    content = {k: v for k, v in ODD.items() if k != ".gitattributes"}
    ours = store.import_files(TreeFile(n, "100644", d) for n, d in content.items())
    repo = tmp_path / "repo"
    repository(repo, content)
    assert plain_git("rev-parse", "HEAD^{tree}", cwd=repo) == ours


def test_a_checkout_by_git_itself_converts_nothing_either(store: Git, tmp_path: Path) -> None:
    tree = store.import_files(files(ODD))
    work = tmp_path / "work"
    work.mkdir()
    git = Git(store.git_dir, index=tmp_path / "index", work_tree=work)
    git.run("read-tree", tree)
    git.run("checkout-index", "--all", cwd=work)
    assert (work / "crlf.txt").read_bytes() == ODD["crlf.txt"]
    assert (work / "latin.l1").read_bytes() == ODD["latin.l1"]
    git.run("add", "--all", cwd=work)
    assert git.text("write-tree") == tree


def test_order_does_not_change_the_tree_and_content_can_come_from_a_file(
    store: Git, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"1")
    first = store.import_files([TreeFile("a", "100644", b"1"), TreeFile("b", "100644", b"2")])
    second = store.import_files(
        [TreeFile("b", "100644", b"2"), TreeFile("a", "100644", tmp_path / "a")]
    )
    assert first == second
    assert [(e.path, e.size_bytes) for e in store.list_tree(first)] == [("a", 1), ("b", 1)]
    assert store.read_file(first, "b") == b"2"


def test_many_files_do_not_stall(store: Git, tmp_path: Path) -> None:
    # Question and answer are both larger than a pipe.
    tree = store.import_files(TreeFile(f"d/{n}", "100644", b"%d" % n * 20) for n in range(2500))
    store.checkout(tree, tmp_path / "out", epoch=0)
    assert (tmp_path / "out" / "d" / "2499").read_bytes() == b"2499" * 20


def test_a_failing_producer_leaves_nothing(store: Git) -> None:
    def producer() -> list[TreeFile]:
        raise RelforgeError("evil member", code=ExitCode.SOURCE)

    with pytest.raises(RelforgeError, match="evil member"):
        store.import_files(f for _ in (1,) for f in producer())
    assert store.text("for-each-ref") == ""
    assert store.text("count-objects") == "0 objects, 0 kilobytes"


def test_imports_at_once_do_not_meet(store: Git) -> None:
    trees: dict[int, str] = {}

    def work(number: int) -> None:
        trees[number] = store.import_files([TreeFile("f", "100644", b"%d" % number)])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(trees.values())) == 4
    for number, tree in trees.items():
        assert store.read_file(tree, "f") == b"%d" % number


def test_trees_survive_garbage_collection(store: Git) -> None:
    tree = store.import_files(files(ODD))
    store.run("gc", "--quiet", "--prune=now")
    assert store.has(tree, "tree")
    assert not store.has(tree, "commit")
    assert not store.has("0" * 40)


def test_private_objects_stay_out_of_the_store(store: Git, tmp_path: Path) -> None:
    base = store.import_files([TreeFile("a", "100644", b"open")])
    private = tmp_path / "objects"
    private.mkdir()
    git = Git(store.git_dir, object_dir=private, alternates=[store.git_dir / "objects"])
    tree = git.import_files([TreeFile("a", "100644", b"sealed")])
    assert git.has(base, "tree")
    assert git.read_file(tree, "a") == b"sealed"
    assert not store.has(tree)
    assert tree not in store.text("for-each-ref")


def test_the_users_configuration_and_environment_do_not_count(
    store: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text("[core]\n\tautocrlf = true\n[user]\n\tname=me\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, "/nowhere")
    tree = store.import_files(files(ODD))
    assert store.read_file(tree, "crlf.txt") == ODD["crlf.txt"]
    assert "autocrlf=true" not in store.text("config", "--list")
    assert store.run("config", "user.name", check=False).text == ""


def test_the_store_is_made_once(tmp_path: Path) -> None:
    threads = [threading.Thread(target=init_store, args=(tmp_path / "git",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tree = init_store(tmp_path / "git").import_files([TreeFile("a", "100644", b"")])
    assert init_store(tmp_path / "git").has(tree)
    assert [p.name for p in tmp_path.iterdir()] == ["git"]


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "git").mkdir()
    (tmp_path / "git" / "mine").touch()
    with pytest.raises(RelforgeError, match="not a git store") as caught:
        init_store(tmp_path / "git")
    assert caught.value.code is ExitCode.ENVIRONMENT


def test_checkout_goes_to_a_new_folder_only_and_leaves_no_half(store: Git, tmp_path: Path) -> None:
    tree = store.import_files([TreeFile("a", "100644", b"1")])
    (tmp_path / "mine").mkdir()
    with pytest.raises(RelforgeError, match="exists already"):
        store.checkout(tree, tmp_path / "mine", epoch=0)
    room = tmp_path / "room"
    with pytest.raises(RelforgeError):
        store.checkout("1" * 40, room / "out", epoch=0)
    assert not room.exists() or list(room.iterdir()) == []


@pytest.mark.parametrize("name", [".git", ".GIT", ".."])
def test_names_that_leave_the_folder_are_refused(store: Git, tmp_path: Path, name: str) -> None:
    blob = store.text("hash-object", "-w", "--stdin", stdin=b"x")
    raw = b"100644 " + name.encode() + b"\0" + bytes.fromhex(blob)
    tree = store.text("hash-object", "-t", "tree", "--literally", "-w", "--stdin", stdin=raw)
    with pytest.raises(RelforgeError, match="unsafe name"):
        store.checkout(tree, tmp_path / "out", epoch=0)
    assert not (tmp_path / "out").exists()
