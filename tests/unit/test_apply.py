"""Applying: byte exact, and nothing that a patch may do reaches beyond the tree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.source import Diff
from relforge.patching.tree.apply import AppliedTree, apply_patches
from tests.support.patching import Repository, new_repository


@pytest.fixture
def upstream(tmp_path: Path) -> Repository:
    return new_repository(tmp_path / "upstream")


def run(
    repository: Repository, base: str, patches: list[bytes], work: Path, *, per_patch: bool = False
) -> AppliedTree:
    named = [Diff(f"{number}.patch", data) for number, data in enumerate(patches, 1)]
    return apply_patches(
        repository.git_dir,
        repository.tree(base),
        named,
        object_dir=work / "objects",
        work=work,
        per_patch=per_patch,
    )


BASE: dict[str, bytes | None] = {
    "crlf.txt": b"".join(b"line %d\r\n" % i for i in range(30)),
    "mixed.txt": b"one\r\ntwo\nthree\r\nfour \t \nfive",
    "latin1.txt": "é à ü\n".encode("latin-1") * 10,
    "binary.bin": bytes(range(256)) * 8,
    "old name.py": b"".join(b"row %d\n" % i for i in range(40)),
    "script.sh": b"#!/bin/sh\n",
    "gone.txt": b"bye\n",
    "empty": b"",
    ".gitattributes": b"* text=auto eol=crlf ident\n*.bin filter=lfs\n",
    "ident.c": b"/* $Id$ */\n",
}


def _everything(repository: Repository) -> None:
    path = repository.path
    repository.write(
        {
            "crlf.txt": b"".join(b"line %d\r\n" % (i if i != 9 else 99) for i in range(30)),
            "mixed.txt": b"one\r\nTWO  \nthree\r\nfour \t \nfive",
            "latin1.txt": "é à ü\n".encode("latin-1") * 9 + "ÿ\n".encode("latin-1"),
            "binary.bin": bytes(reversed(range(256))) * 9,
            "gone.txt": None,
            "new empty": b"",
            'dir/ümläut \t"quoted".txt': b"odd name\n",
            "no newline": b"end",
            "trailing.txt": b"spaces   \n\t\n\n\n",
        }
    )
    (path / "old name.py").rename(path / "new name.py")
    with (path / "new name.py").open("ab") as handle:
        handle.write(b"added\n")
    (path / "script.sh").chmod(0o755)
    (path / "link").symlink_to("dir/../script.sh")
    (path / "empty").rename(path / os.fsdecode(b"renamed-\xe9"))


@pytest.mark.parametrize("form", ["diff", "mailbox"])
@pytest.mark.parametrize("renames", ["--no-renames", "--find-renames"])
def test_every_kind_of_change_is_byte_exact(
    upstream: Repository, tmp_path: Path, form: str, renames: str
) -> None:
    # Attributes would convert on the way in, which is the upstream's business and not tested here.
    (upstream.git_dir / "info").mkdir(exist_ok=True)
    (upstream.git_dir / "info/attributes").write_text("* -text -ident -filter\n")
    base = upstream.commit(BASE)
    _everything(upstream)
    upstream.commit(message="subject\n\nbody")
    patch = (
        upstream.git("diff", "--binary", renames, base)
        if form == "diff"
        else upstream.mailbox(base, renames)
    )
    work = tmp_path / "work"
    applied = run(upstream, base, [patch], work)
    assert applied.tree == upstream.tree()
    applied.git.checkout(applied.tree, tmp_path / "out", epoch=1)
    for path in upstream.path.rglob("*"):
        if ".git" in path.relative_to(upstream.path).parts or path.is_dir():
            continue
        ours = tmp_path / "out" / path.relative_to(upstream.path)
        if path.is_symlink():
            assert ours.readlink() == path.readlink()
        else:
            assert ours.read_bytes() == path.read_bytes()
            assert os.access(ours, os.X_OK) == os.access(path, os.X_OK)


def test_changes_are_listed_with_hashes_and_modes(upstream: Repository, tmp_path: Path) -> None:
    base = upstream.commit({"a": b"1\n", "b": b"2\n"})
    middle = upstream.commit({"a": b"one\n"})
    (upstream.path / "b").chmod(0o755)
    upstream.commit({"c": b"3\n"})
    patches = [
        upstream.git("diff", base, middle),
        upstream.git("diff", middle, "HEAD"),
    ]
    applied = run(upstream, base, patches, tmp_path / "w", per_patch=True)
    blob = {
        f"{commit}:{name}": upstream.git("rev-parse", f"{commit}:{name}").decode().strip()
        for commit, name in ((base, "a"), ("HEAD", "a"), ("HEAD", "b"), ("HEAD", "c"))
    }
    rows = [tuple(change.model_dump().values()) for change in applied.files]
    assert rows == [
        ("a", blob[f"{base}:a"], "100644", blob["HEAD:a"], "100644"),
        ("b", blob["HEAD:b"], "100644", blob["HEAD:b"], "100755"),
        ("c", None, None, blob["HEAD:c"], "100644"),
    ]
    assert [[change.path for change in one] for one in applied.per_patch] == [["a"], ["b", "c"]]


def test_a_mailbox_of_dependent_commits(upstream: Repository, tmp_path: Path) -> None:
    """Change, rename, change again, recreate: git apply alone would fail on the whole file."""
    rows = b"".join(b"row %d\n" % i for i in range(30))
    base = upstream.commit({"a.py": rows})
    upstream.commit({"a.py": rows.replace(b"row 3\n", b"row three\n")}, "From here\n\ndiff it")
    upstream.git("mv", "a.py", "b.py")
    upstream.commit(message="move")
    upstream.commit({"b.py": rows.replace(b"row 9\n", b"nine\n"), "a.py": b"fresh\n"})
    upstream.commit({}, "empty commit")
    box = upstream.mailbox(base)
    assert run(upstream, base, [box], tmp_path / "w").tree == upstream.tree()
    assert (
        run(
            upstream, base, [upstream.mailbox(base, "--cover-letter", "--always")], tmp_path / "w2"
        ).tree
        == upstream.tree()
    )


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_a_mailbox_may_come_in_any_chunks(upstream: Repository, tmp_path: Path, size: int) -> None:
    base = upstream.commit({"a.py": b"".join(b"row %d\n" % i for i in range(9))})
    for number in range(3):
        upstream.git("mv", f"{'a' * (number + 1)}.py", f"{'a' * (number + 2)}.py")
        upstream.commit({"n": b"From %d\n---\n" % number}, f"m {number}\n\n----\n---x\n- --")
    box = upstream.mailbox(base, "--find-renames")
    chunks = (box[at : at + size] for at in range(0, len(box), size))
    applied = apply_patches(
        upstream.git_dir,
        upstream.tree(base),
        [Diff("box", chunks)],
        object_dir=tmp_path / "o",
        work=tmp_path / "w",
        per_patch=True,
    )
    assert applied.tree == upstream.tree()
    assert len(applied.per_patch) == 1


def test_an_error_while_a_patch_is_read_passes_through(
    upstream: Repository, tmp_path: Path
) -> None:
    base = upstream.commit({"a": b"1\n"})

    def chunks() -> Iterator[bytes]:
        yield new_file("b")
        raise RelforgeError("the chunks end", code=ExitCode.SOURCE)

    with pytest.raises(RelforgeError, match="the chunks end"):
        apply_patches(
            upstream.git_dir,
            upstream.tree(base),
            [Diff("p", chunks())],
            object_dir=tmp_path / "o",
            work=tmp_path / "w",
        )


def test_a_message_that_quotes_a_diff_is_no_diff(upstream: Repository, tmp_path: Path) -> None:
    base = upstream.commit({"a": b"1\n"})
    quoted = "fix\n\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-9\n+8\n"
    upstream.commit({"b": b"2\n"}, quoted)
    assert run(upstream, base, [upstream.mailbox(base)], tmp_path / "w").tree == upstream.tree()


def test_the_user_s_repository_is_only_read(upstream: Repository, tmp_path: Path) -> None:
    base = upstream.commit({"a": b"1\n"})
    upstream.commit({"a": b"2\n"})
    patch = upstream.git("diff", base, "HEAD")
    upstream.git("reset", "-q", "--hard", base)
    (upstream.path / "a").write_bytes(b"the user's edit\n")
    hooks = upstream.git_dir / "hooks"
    for hook in ("pre-commit", "applypatch-msg", "post-index-change", "post-checkout"):
        hooks.mkdir(exist_ok=True)
        (hooks / hook).write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\nexit 1\n")
        (hooks / hook).chmod(0o755)

    def state() -> dict[str, tuple[int, bytes]]:
        # Git renews the time of an object that it finds again; nothing else may change.
        return {
            str(p): (0 if "objects" in p.parts else p.stat().st_mtime_ns, p.read_bytes())
            for p in upstream.path.rglob("*")
            if p.is_file()
        }

    before = state()
    run(upstream, base, [patch], tmp_path / "w")
    assert state() == before
    assert not (tmp_path / "hook-ran").exists()


def test_a_linked_worktree_is_a_store_too(upstream: Repository, tmp_path: Path) -> None:
    base = upstream.commit({"a": b"1\n"})
    upstream.commit({"a": b"2\n"})
    upstream.git("worktree", "add", "-q", str(tmp_path / "wt"), base)
    git_dir = Path((tmp_path / "wt/.git").read_text().removeprefix("gitdir: ").strip())
    patch = Diff("p", upstream.git("diff", base, "HEAD"))
    applied = apply_patches(
        git_dir, upstream.tree(base), [patch], object_dir=tmp_path / "o", work=tmp_path / "w"
    )
    assert applied.tree == upstream.tree()


def new_file(path: str, mode: str = "100644", content: str = "evil") -> bytes:
    return (
        f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n"
        f"@@ -0,0 +1 @@\n+{content}\n\\ No newline at end of file\n"
    ).encode()


def moved(old: str, new: str, how: str) -> bytes:
    rows = (f"diff --git a/{old} b/{new}", "similarity index 100%", f"{how} from {old}")
    return "\n".join((*rows, f"{how} to {new}", "")).encode()


def turned(link: str, old: str, new: str) -> bytes:
    """A link that is in the tree already, with another target."""
    none = "\\ No newline at end of file\n"
    return (
        f"diff --git a/{link} b/{link}\nindex 1111111..2222222 120000\n--- a/{link}\n+++ b/{link}\n"
        f"@@ -1 +1 @@\n-{old}\n{none}+{new}\n{none}"
    ).encode()


def retyped(path: str, old: str, target: str) -> bytes:
    """A file that becomes a link, as git writes it: deleted, then new."""
    gone = (
        f"diff --git a/{path} b/{path}\ndeleted file mode 100644\n--- a/{path}\n+++ /dev/null\n"
        f"@@ -1 +0,0 @@\n-{old}\n"
    )
    return gone.encode() + new_file(path, "120000", target)


HOOK = ".git/hooks/post-checkout"
ESCAPES = {
    "dotdot": ([new_file("../evil")], "../evil"),
    "deep dotdot": ([new_file("x/../../evil")], "x/../../evil"),
    "absolute": ([b"--- /dev/null\n+++ b//tmp/evil\n@@ -0,0 +1 @@\n+evil\n"], "/tmp/evil"),
    "git": ([new_file(HOOK, "100755")], HOOK),
    "git in a folder": ([new_file("sub/.git/config")], "sub/.git/config"),
    "git in capitals": ([new_file(".GIT/config")], ".GIT/config"),
    "git as Windows names it": ([new_file("git~1/config")], "git~1/config"),
    "git with a character that some systems ignore": ([new_file(".g\u200cit/x")], None),
    "git as a file": ([new_file(".git", content="gitdir: /tmp/evil")], ".git"),
    "a folder's git as a file": ([new_file("d/.git")], "d/.git"),
    "a hook by renaming": ([moved("d/file", HOOK, "rename")], HOOK),
    "a hook by copying": ([moved("d/file", HOOK, "copy")], HOOK),
    "renamed out of the tree": ([moved("d/file", "../evil", "rename")], "../evil"),
    "submodule": ([new_file("sub", "160000", "Subproject commit " + "a" * 40)], "sub"),
    "absolute link": ([new_file("link", "120000", "/etc")], "link"),
    "climbing link": ([new_file("d/link", "120000", "../../outside")], "d/link"),
    "the source's link turned outwards": ([turned("own-link", "d", "/etc")], "own-link"),
    "a file becomes a link": ([retyped("d/file", "1", "../../x")], "d/file"),
    "through a new link": ([new_file("l", "120000", "d") + new_file("l/evil")], "l/evil"),
    "through an earlier link": ([new_file("l", "120000", "d"), new_file("l/evil")], "l/evil"),
    "through the source's link": ([new_file("own-link/evil")], "own-link/evil"),
}


@pytest.mark.parametrize("case", ESCAPES)
def test_a_patch_that_would_escape_is_refused(
    upstream: Repository, tmp_path: Path, case: str
) -> None:
    (upstream.path / "own-link").symlink_to("d")
    base = upstream.commit({"d/file": b"1\n"})
    patches, path = ESCAPES[case]
    work = tmp_path / "deep" / "er" / "work"
    outside_before = sorted(p for p in tmp_path.rglob("*") if "deep" not in p.parts)
    with pytest.raises(RelforgeError) as caught:
        run(upstream, base, patches, work)
    assert caught.value.code is ExitCode.SOURCE
    assert f"{len(patches)}.patch" in caught.value.what
    assert caught.value.where == (f"{len(patches)}.patch: {path}" if path else caught.value.where)
    assert sorted(p for p in tmp_path.rglob("*") if "deep" not in p.parts) == outside_before
    assert [p.name for p in (tmp_path / "deep/er").iterdir()] == ["work"]


def test_an_absolute_path_means_one_inside_the_tree(upstream: Repository, tmp_path: Path) -> None:
    """Its first part is stripped like any other (-p1), so that it ends below the root."""
    base = upstream.commit({"a": b"1\n"})
    target = tmp_path / "evil"
    patch = f"--- /dev/null\n+++ {target}\n@@ -0,0 +1 @@\n+evil\n".encode()
    applied = run(upstream, base, [patch], tmp_path / "w")
    assert [change.path for change in applied.files] == [str(target).lstrip("/")]
    assert not target.exists()


def test_a_moved_submodule_is_refused(upstream: Repository, tmp_path: Path) -> None:
    upstream.git("update-index", "--add", "--cacheinfo", f"160000,{'a' * 40},sub")
    upstream.git("commit", "-q", "-m", "base")
    base = upstream.head
    upstream.git("update-index", "--cacheinfo", f"160000,{'b' * 40},sub")
    upstream.git("commit", "-q", "-m", "moved")
    patch = upstream.git("diff", "--submodule=short", base, "HEAD")
    with pytest.raises(RelforgeError, match="refused") as caught:
        run(upstream, base, [patch], tmp_path / "w")
    assert caught.value.where == "1.patch: sub"


def test_links_inside_the_tree_are_welcome(upstream: Repository, tmp_path: Path) -> None:
    base = upstream.commit({"d/file": b"1\n"})
    patch = new_file("d/link", "120000", "../d/./file")
    applied = run(upstream, base, [patch], tmp_path / "w")
    assert [change.after_mode for change in applied.files] == ["120000"]


def test_a_patch_that_does_not_fit_names_patch_file_and_hunk(
    upstream: Repository, tmp_path: Path
) -> None:
    rows = b"".join(b"row %d\n" % i for i in range(60))
    base = upstream.commit({"x.py": rows, "other.py": b"1\n"})
    changed = rows.replace(b"row 5\n", b"five\n").replace(b"row 40\n", b"forty\n")
    upstream.commit({"x.py": changed, "other.py": b"2\n"})
    patch = upstream.git("diff", base, "HEAD").replace(b" row 41", b" row 4711")
    with pytest.raises(RelforgeError, match=r"patch 1\.patch does not apply") as caught:
        run(upstream, base, [patch], tmp_path / "w")
    assert caught.value.code is ExitCode.SOURCE
    assert caught.value.where == "1.patch: x.py"
    assert "hunk 2 (at line 38)" in str(caught.value)
    # Patches may be secret: their text is not in the message.
    assert "forty" not in str(caught.value)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        (b"", "no diff"),
        (b"just words\n", "no diff"),
        (b"diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n", "corrupt"),
        (b"--- a/absent\n+++ b/absent\n@@ -1 +1 @@\n-1\n+2\n", "exist"),
        (new_file("a"), "exists"),
        (
            b"From " + b"0" * 40 + b" Mon Sep 17 00:00:00 2001\nFrom: x <x@y>\n"
            b"Content-Transfer-Encoding: base64\n\nLS0tIGEvYQo=\n---\ndiff --git a b\n",
            "encoded",
        ),
    ],
)
def test_what_is_no_usable_patch_is_refused(
    upstream: Repository, tmp_path: Path, patch: bytes, why: str
) -> None:
    base = upstream.commit({"a": b"1\n"})
    with pytest.raises(RelforgeError) as caught:
        run(upstream, base, [patch], tmp_path / "w")
    assert caught.value.code is ExitCode.SOURCE
    assert "1.patch" in str(caught.value)
    assert why in str(caught.value)


def test_whitespace_is_never_mended(upstream: Repository, tmp_path: Path) -> None:
    base = upstream.commit({"a": b"1\n"})
    upstream.commit({"a": b"1  \t\n \t  tabs\n\n\n\n"})
    patch = upstream.git("diff", base, "HEAD")
    upstream.git("config", "core.whitespace", "trailing-space,tab-in-indent,blank-at-eof")
    assert run(upstream, base, [patch], tmp_path / "w").tree == upstream.tree()


def test_a_base_that_is_not_there(upstream: Repository, tmp_path: Path) -> None:
    upstream.commit({"a": b"1\n"})
    with pytest.raises(RelforgeError, match="base of the patches") as caught:
        apply_patches(
            upstream.git_dir, "a" * 40, (), object_dir=tmp_path / "o", work=tmp_path / "w"
        )
    assert caught.value.code is ExitCode.SOURCE


def test_a_repository_with_sha256_hashes(tmp_path: Path) -> None:
    path = tmp_path / "up"
    path.mkdir()
    upstream = Repository(path)
    upstream.git("init", "-q", "--object-format=sha256")
    base = upstream.commit({"a": b"1\n"})
    upstream.commit({"a": b"2\n"})
    patch = upstream.git("diff", base, "HEAD")
    applied = run(upstream, base, [patch], tmp_path / "w")
    assert applied.tree == upstream.tree()
    assert len(applied.tree) == 64
