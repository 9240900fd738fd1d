"""Entries of April and May 2025, whose file names say the base and whose files are laid over."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relforge.errors import ExitCode
from tests.support.flagscale import LittleFlagScale, seal, world
from tests.support.patching import MARK, files_with_mark

OURS = "flagscale/backends/vllm"
WORDS = ("--device-type", "BI_V150", "--task", "inference")


@dataclass
class Early:
    """``base`` lays one file over vllm; the vendor's patch adds one and removes one."""

    little: LittleFlagScale
    base: str
    patch: bytes

    def unpatch(self, *words: str | Path) -> Path:
        done = self.little.unpatch("--backend", "vllm", *WORDS, *words)
        assert done.code == 0, done.err
        return Path(done.trees[0]["folder"])


@pytest.fixture
def early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Early:
    little = world(tmp_path, monkeypatch, capsys)
    fs = little.fs
    base = fs.commit({f"{OURS}/vllm/extra.py": b"e = 1   \n"}, "whole files")
    fs.commit(
        {
            f"{OURS}/vllm/core.py": b"a = 1\nb = 3   \n# " + MARK + b"\n",
            f"{OURS}/deleted_files.txt": b"setup.py\nnot/there.py\n\n",
        },
        "vendor",
    )
    patch = fs.git("diff", "--binary", base, "HEAD")
    fs.git("reset", "-q", "--hard", base)
    return Early(little, base, patch)


def _is_laid_over(folder: Path) -> None:
    vllm = folder / "third_party" / "vllm"
    assert (vllm / "vllm" / "core.py").read_bytes() == b"a = 1\nb = 3   \n# " + MARK + b"\n"
    assert (vllm / "vllm" / "extra.py").read_bytes() == b"e = 1   \n"
    assert not (vllm / "setup.py").exists()
    assert not (vllm / "deleted_files.txt").exists()
    assert (folder / OURS / "deleted_files.txt").exists()


def test_an_early_entry_is_found_and_its_files_are_laid_over_the_submodule(early: Early) -> None:
    little = early.little
    little.early("BI_V150", "vllm", early.patch, early.base)
    root = little.fs.git("diff", "--binary", little.base, little.vendor)
    little.early("BI_V150", "FlagScale", root, early.base)
    little.fs.commit(message="entry")
    before = little.fs.git("status", "--porcelain"), little.fs.head
    folder = early.unpatch()
    _is_laid_over(folder)
    assert not (folder / "flagscale" / "vendor.py").exists()
    both = little.unpatch("--backend", "vllm", "FlagScale", *WORDS)
    assert (both.code, both.trees[0]["status"]) == (0, "replaced")
    _is_laid_over(folder)
    assert (folder / "flagscale" / "vendor.py").exists()
    assert both.trees[0]["base_commit"] == early.base
    again = little.unpatch("--backend", "vllm", "FlagScale", *WORDS)
    assert again.trees[0]["status"] == "unchanged"
    assert (little.fs.git("status", "--porcelain"), little.fs.head) == before


def test_whitespace_is_repaired_in_the_patch_alone(early: Early) -> None:
    early.little.early("BI_V150", "vllm", early.patch, early.base)
    early.little.fs.commit(message="entry")
    vllm = early.unpatch("--whitespace", "fix") / "third_party" / "vllm" / "vllm"
    assert (vllm / "core.py").read_bytes() == b"a = 1\nb = 3\n# " + MARK + b"\n"
    assert (vllm / "extra.py").read_bytes() == b"e = 1   \n"


def test_without_the_submodule_only_flagscales_own_files_are_patched(early: Early) -> None:
    early.little.early("BI_V150", "vllm", early.patch, early.base)
    early.little.fs.commit(message="entry")
    folder = early.unpatch("--no-init-submodule")
    assert list((folder / "third_party" / "vllm").iterdir()) == []
    assert (folder / OURS / "vllm" / "core.py").exists()


@pytest.mark.parametrize("rooted", [True, False])
def test_a_sealed_entry_of_may_2025_shows_only_opened_where_it_belongs(
    early: Early, rooted: bool
) -> None:
    little = early.little
    patch = early.patch if rooted else little.vllm_patch
    little.entry(
        "BI_V150",
        "vllm",
        {"diff.patch.encrypted": seal(patch)},
        commit=early.base,
        backends_commit={},
    )
    little.fs.commit(message="entry")
    folder = early.unpatch("--key-path", little.keys)
    if rooted:
        _is_laid_over(folder)
    else:
        vllm = folder / "third_party" / "vllm"
        assert (vllm / "vllm" / "core.py").read_bytes() == b"a = 1\nb = 22\n"
        assert (vllm / "setup.py").exists()
        assert not (vllm / "vllm" / "extra.py").exists()
    places = (little.root / "home", little.fs.path / "hardware")
    assert files_with_mark(*places) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task": ["train"]}, "made for train"),
        ({"device_type": "MUSA_S5000"}, "made for another device"),
    ],
)
def test_what_an_early_entry_says_of_itself_counts(
    early: Early, changes: dict[str, Any], says: str
) -> None:
    folder = early.little.early("BI_V150", "vllm", early.patch, early.base, **changes)
    early.little.fs.commit(message="entry")
    done = early.little.unpatch("--backend", "vllm", *WORDS)
    assert done.code == ExitCode.SOURCE
    assert says in done.err
    assert f"{early.base[:7]}.yaml" in done.err
    (folder / f"{early.base[:7]}.yaml").unlink()
    early.little.fs.commit(message="no yaml")
    done = early.little.unpatch("--backend", "vllm", *WORDS)
    assert "no task that it names" in done.err
    _is_laid_over(early.unpatch("--any-task"))


@pytest.mark.parametrize("name", ["../../flagscale/engine.py", "/etc/passwd", "a/../../b"])
def test_a_list_of_files_to_remove_does_not_lead_out_of_the_submodule(
    early: Early, name: str
) -> None:
    patch = early.patch.replace(b"+setup.py\n", b"+" + name.encode() + b"\n")
    early.little.early("BI_V150", "vllm", patch, early.base)
    early.little.fs.commit(message="entry")
    done = early.little.unpatch("--backend", "vllm", *WORDS)
    assert done.code == ExitCode.SOURCE
    assert "lies outside the submodule" in done.err
    assert not (early.little.fs.path / "build").exists()


def test_digits_of_two_commits_mean_the_one_that_the_entry_comes_after(early: Early) -> None:
    fs = early.little.fs
    tree = fs.tree(early.base)
    seen: dict[str, bytes] = {}
    for number in itertools.count():
        body = b"tree %b\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\n%d\n" % (
            tree.encode(),
            number,
        )
        short = hashlib.sha1(b"commit %d\0%b" % (len(body), body)).hexdigest()[:7]
        if short in seen:
            break
        seen[short] = body
    write = ("hash-object", "-t", "commit", "-w", "--stdin")
    one, other = (fs.git(*write, stdin=b).decode().strip() for b in (seen[short], body))
    early.little.early("BI_V150", "vllm", early.patch, short)
    entry = fs.commit(message="entry")
    done = early.little.unpatch("--backend", "vllm", *WORDS)
    assert done.code == ExitCode.SOURCE
    assert f"the commit id {short} is ambiguous" in done.err
    assert one in done.err
    assert other in done.err
    joined = fs.git("commit-tree", f"{entry}^{{tree}}", "-p", entry, "-p", other, "-m", "joined")
    done = early.little.unpatch("--backend", "vllm", *WORDS, "--commit", joined.decode().strip())
    assert done.code == 0, done.err
    assert done.trees[0]["base_commit"] == other


def test_a_patch_whose_content_is_missing_is_said_to_be_missing(early: Early) -> None:
    little = early.little
    little.early("BI_V150", "vllm", early.patch, early.base)
    little.fs.commit(message="entry")
    path = f"HEAD:hardware/BI_V150/vllm/{early.base[:7]}.patch"
    oid = little.fs.git("rev-parse", path).decode().strip()
    (little.fs.path / ".git" / "objects" / oid[:2] / oid[2:]).unlink()
    done = little.unpatch("--backend", "vllm", *WORDS)
    assert done.code == ExitCode.SOURCE
    assert f"there is no object {oid}" in done.err


def test_an_entry_of_april_2025_is_one_patch_for_all_backends_of_a_task(early: Early) -> None:
    little = early.little
    fs = little.fs
    base = fs.commit(
        {"flagscale/inference/backends/vllm/vllm/extra.py": b"whole\n"}, "as it was in April"
    )
    fs.git("rm", "-q", "-r", OURS)
    base = fs.commit({"flagscale/engine.py": b"old\n"}, "base")
    fs.commit(
        {
            "flagscale/engine.py": b"new\n",
            "flagscale/inference/backends/vllm/deleted_files.txt": b"setup.py\n",
        },
        "vendor",
    )
    patch = fs.git("diff", "--binary", base, "HEAD").rstrip(b"\n")
    fs.git("reset", "-q", "--hard", base)
    file = fs.path / "hardware" / "BI_V150" / "inference" / "vllm" / f"{base[:7]}.patch"
    file.parent.mkdir(parents=True)
    file.write_bytes(patch)
    fs.commit(message="entry")
    folder = early.unpatch()
    vllm = folder / "third_party" / "vllm"
    assert (folder / "flagscale" / "engine.py").read_bytes() == b"new\n"
    assert (vllm / "vllm" / "extra.py").read_bytes() == b"whole\n"
    assert not (vllm / "setup.py").exists()
    other = little.unpatch("--backend", "vllm", "--device-type", "BI_V150", "--task", "train")
    assert other.code == ExitCode.SOURCE
    assert "BI_V150 has no entry for vllm" in other.err
