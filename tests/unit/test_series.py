"""Plain patch sets: what a series file may say."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.series import check_patch_name, read_series
from tests.support.examples import examples
from tests.support.patching import write_patch_set


def test_order_comments_and_options(tmp_path: Path) -> None:
    folder = write_patch_set(tmp_path / "set", {"b.patch": b"B", "a.patch": b"A", "d/c.diff": b"C"})
    (folder / "series").write_bytes(
        b"# first\n\nb.patch -p1  # why\r\n  a.patch\t-p1\nd/c.diff #x\n#z.patch\n"
    )
    read = read_series(folder)
    assert read.patch_set.name == "set"
    assert [p.name for p in read.patch_set.patches] == ["b.patch", "a.patch", "d/c.diff"]
    assert dict(read) == {"b.patch": b"B", "a.patch": b"A", "d/c.diff": b"C"}


def test_the_content_hash_is_of_names_contents_and_order(tmp_path: Path) -> None:
    hashes = set()
    for number, patches in enumerate(
        (
            {"a": b"1", "b": b"2"},
            {"b": b"2", "a": b"1"},
            {"a": b"2", "b": b"1"},
            {"a": b"1", "c": b"2"},
            {"a": b"1"},
        )
    ):
        folder = write_patch_set(tmp_path / str(number), patches)
        hashes.add(read_series(folder).patch_set.content_sha256)
    assert len(hashes) == 5
    same = write_patch_set(tmp_path / "same", {"a": b"1", "b": b"2"})
    (same / "series").write_text("# other comment\na\nb -p1\n")
    assert read_series(same).patch_set.content_sha256 in hashes


@pytest.mark.parametrize(
    ("series", "line", "why"),
    [
        (b"a\nb\na\n", 3, "line 1"),
        (b"a\nmissing\n", 2, "missing"),
        (b"../a\n", 1, "inside"),
        (b"/etc/passwd\n", 1, "inside"),
        (b"x/../a\n", 1, "inside"),
        (b"a -p0\n", 1, "-p1"),
        (b"a -R\n", 1, "-p1"),
        (b"empty\n", 1, "empty"),
        (b"folder\n", 1, "file"),
        (b"link\n", 1, "leaves"),
        (b"\xff\xfe\n", 1, "UTF-8"),
        (b"series\n", 1, "taken"),
    ],
)
def test_what_is_refused_names_file_and_line(
    tmp_path: Path, series: bytes, line: int, why: str
) -> None:
    folder = write_patch_set(tmp_path / "set", {"a": b"A", "b": b"B"})
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(Path(__file__))
    (folder / "series").write_bytes(series)
    with pytest.raises(RelforgeError) as caught:
        read_series(folder)
    assert caught.value.code is ExitCode.SOURCE
    assert caught.value.where == f"{folder / 'series'}:{line}"
    assert why in str(caught.value)


def test_nothing_to_apply_and_no_series(tmp_path: Path) -> None:
    folder = write_patch_set(tmp_path / "set", {"a": b"A"})
    (folder / "series").write_text("# none\n")
    with pytest.raises(RelforgeError, match="cannot be used"):
        read_series(folder)
    (folder / "series").unlink()
    with pytest.raises(RelforgeError, match="no patch set") as caught:
        read_series(folder)
    assert caught.value.hint is not None
    assert "series" in caught.value.hint


@pytest.mark.parametrize("change", [b"A", b"AAAA", b"BBB"])
def test_a_patch_that_changes_meanwhile_is_noticed(tmp_path: Path, change: bytes) -> None:
    folder = write_patch_set(tmp_path / "set", {"a": b"AAA"})
    read = read_series(folder)
    (folder / "a").write_bytes(change)
    with pytest.raises(RelforgeError) as caught:
        list(read)
    assert caught.value.code is ExitCode.SOURCE
    assert "changed while" in str(caught.value)


@examples(200)
@given(name=st.text(max_size=40))
def test_a_name_that_passes_stays_inside(tmp_path: Path, name: str) -> None:
    if check_patch_name(name) is None:
        assert (tmp_path / name).resolve().is_relative_to(tmp_path.resolve())
        assert (tmp_path / name).resolve() != tmp_path.resolve()


@examples(100)
@given(content=st.binary(max_size=200))
def test_any_series_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "series").write_bytes(content)
    (tmp_path / "a").write_bytes(b"A")
    # Any other exception than RelforgeError is a fault of ours and fails this test.
    with contextlib.suppress(RelforgeError):
        assert [p.name for p in read_series(tmp_path).patch_set.patches] == ["a"]
