"""A wheel imported as a tree and packed again installs like the first one."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git, TreeFile, init_store
from relforge.sources.archive import ArchiveReader
from relforge.sources.wheel import repack, requires_of
from tests.support.sources import wheel

EPOCH = 1_700_000_000


@pytest.fixture
def store(tmp_path: Path) -> Git:
    return init_store(tmp_path / "git")


def unpacked(store: Git, tmp_path: Path, data: bytes, name: str = "w.whl") -> Path:
    (tmp_path / name).write_bytes(data)
    tree = store.import_files(ArchiveReader(tmp_path / name, strip=False))
    out = tmp_path / f"tree-{name}"
    store.checkout(tree, out, epoch=EPOCH)
    return out


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {n: archive.read(n) for n in archive.namelist()}


def test_the_repacked_wheel_equals_the_original_and_installs(store: Git, tmp_path: Path) -> None:
    original = wheel(
        "demo_x", "1.2", {"demo_x/data.bin": b"\r\n\0", "demo_x/tool.sh": b"#!/bin/sh"}
    )
    tree = unpacked(store, tmp_path, original)
    made = repack(tree, tmp_path / "out", EPOCH)
    assert made.name == "demo_x-1.2-py3-none-any.whl"
    assert contents(made) == contents(tmp_path / "w.whl")
    target = tmp_path / "installed"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet",
         "--disable-pip-version-check", "--target", str(target), str(made)],
        check=True,
    )  # fmt: skip
    assert (target / "demo_x" / "data.bin").read_bytes() == b"\r\n\0"
    assert (target / "demo_x" / "tool.sh").stat().st_mode & 0o111


def test_the_same_tree_gives_the_same_bytes(store: Git, tmp_path: Path) -> None:
    tree = unpacked(store, tmp_path, wheel("demo", "1"))
    first = repack(tree, tmp_path / "a", EPOCH)
    (tree / "demo" / "__init__.py").touch()
    second = repack(tree, tmp_path / "b", EPOCH)
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.infolist()[-1].filename == "demo-1.dist-info/RECORD"
        assert archive.infolist()[0].date_time == (2023, 11, 14, 22, 13, 20)
    assert [p.name for p in (tmp_path / "a").iterdir()] == [first.name]


def test_a_patched_file_gets_its_own_row_in_record(store: Git, tmp_path: Path) -> None:
    tree = unpacked(store, tmp_path, wheel("demo", "1"))
    (tree / "demo" / "__init__.py").write_text("value = 2\n")
    (tree / "demo" / "new, file.py").write_text("")
    (tree / "demo-1.dist-info" / "RECORD.jws").write_text("{}")
    made = contents(repack(tree, tmp_path / "out", EPOCH))
    record = made["demo-1.dist-info/RECORD"].decode()
    before = contents(tmp_path / "w.whl")["demo-1.dist-info/RECORD"].decode()
    assert record.splitlines()[0] != before.splitlines()[0]
    assert '"demo/new, file.py",sha256=' in record
    assert "demo-1.dist-info/RECORD.jws" not in made


def test_tags_of_several_pythons_and_a_build_number_make_the_name(
    store: Git, tmp_path: Path
) -> None:
    tree = unpacked(store, tmp_path, wheel("demo", "1+cpu"))
    (tree / "demo-1+cpu.dist-info" / "WHEEL").write_text(
        "Wheel-Version: 1.0\nBuild: 3\nTag: py2-none-any\nTag: py3-none-any\n"
    )
    assert repack(tree, tmp_path / "o", 0).name == "demo-1+cpu-3-py2.py3-none-any.whl"
    (tree / "demo-1+cpu.dist-info" / "WHEEL").write_text(
        "Wheel-Version: 1.0\nTag: cp311-cp311-linux_x86_64\nTag: py3-none-any\n"
    )
    with pytest.raises(RelforgeError, match="cannot be written as one file name"):
        repack(tree, tmp_path / "o", 0)


def test_what_is_no_wheel_is_refused(store: Git, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    with pytest.raises(RelforgeError, match=r"one \.dist-info folder") as caught:
        repack(tmp_path / "t", tmp_path / "o", 0)
    assert caught.value.code is ExitCode.SOURCE
    (tmp_path / "t" / "a-1.dist-info").mkdir()
    with pytest.raises(RelforgeError, match=r"lacks a-1\.dist-info/WHEEL"):
        repack(tmp_path / "t", tmp_path / "o", 0)
    tree = unpacked(store, tmp_path, wheel("demo", "1"))
    (tree / "demo" / "l").symlink_to("/etc/passwd")
    with pytest.raises(RelforgeError, match="cannot hold the link demo/l"):
        repack(tree, tmp_path / "o", 0)
    assert not (tmp_path / "o").exists() or list((tmp_path / "o").iterdir()) == []


def test_requirements_of_a_wheel_and_of_an_sdist(store: Git, tmp_path: Path) -> None:
    rows = ("numpy>=2", "six; python_version < '3'", 'extra-one; extra == "all"')
    (tmp_path / "w.whl").write_bytes(wheel("demo", "1", requires=rows))
    tree = store.import_files(ArchiveReader(tmp_path / "w.whl", strip=False))
    assert requires_of(store, tree).requirements == ("numpy>=2",)
    asked = requires_of(store, tree, extras=("all",), environment={"python_version": "2.7"})
    assert asked.requirements == ("numpy>=2", "six", "extra-one")
    info = (
        b"Metadata-Version: 2.2\nName: d\nVersion: 1\nDynamic: Requires-Dist\n\nRequires-Dist: no"
    )
    made = requires_of(store, store.import_files([TreeFile("PKG-INFO", "100644", info)]))
    assert (made.name, made.version, made.requirements, made.dynamic) == ("d", "1", (), True)
    with pytest.raises(RelforgeError, match="neither PKG-INFO"):
        requires_of(store, store.import_files([TreeFile("x", "100644", b"")]))
