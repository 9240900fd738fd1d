"""Folders and tars as targets: what is there, when, and whether it is whole."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest

from relforge.attesting.sealing import is_sealed, seal_release
from relforge.cancel import CancelToken
from relforge.engine.layout import verify
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.files import held_lock
from relforge.manifest.publishing import FolderTarget as FolderSpec
from relforge.manifest.publishing import TarTarget as TarSpec
from relforge.manifest.site import Site
from relforge.oci.tar_store import TarStore
from relforge.publishing.published import Published, read_published
from relforge.publishing.target import Doing, Step, Target
from relforge.publishing.targets.folder import FolderTarget
from relforge.publishing.targets.tar import TarTarget
from relforge.verifying import verify_place
from tests.support.images import attachment
from tests.support.published import RELEASE, make_published
from tests.support.signed import Maker

Kind = Literal["folder", "tar"]
KINDS = ("folder", "tar")
BOTH: tuple[Step, ...] = ("candidate", "promote")


def make(kind: str, path: Path) -> Target:
    if kind == "folder":
        return FolderTarget("shelf", FolderSpec(kind="folder", path=path), Site())
    return TarTarget("shelf", TarSpec(kind="tar", path=path), Site())


def released(tmp_path: Path, python: bytes = b"print(1)\n") -> Published:
    made = make_published(tmp_path, dist=tmp_path / f"dist-{len(python)}", python=python)
    attachment(made.layout, made.image_digest, b'{"spdx": 1}')
    return made


def digest_at(kind: str, path: Path) -> str | None:
    """Of what people find there; everything of it is read."""
    final = path / (RELEASE if kind == "folder" else f"{RELEASE}.tar")
    if not final.exists():
        return None
    if kind == "folder":
        found = read_published(final)
        assert verify(found.layout).digest == found.image_digest
        return found.image_digest
    ((_, root),) = TarStore(final).roots()
    return root.digest


def test_a_signed_release_that_waits_is_brought_up_to_date(tmp_path: Path) -> None:
    maker = Maker.at(tmp_path / "maker")
    folder, target = maker.released(), make("folder", tmp_path / "shelf")
    target.apply(read_published(folder), "candidate", Doing())
    record = json.loads((folder / "release.json").read_text())
    (folder / "release.json").write_text(json.dumps({**record, "created": "2026-02-02"}))
    assert seal_release(folder, maker.key)
    again = target.apply(read_published(folder), "candidate", Doing())
    assert again.sent_bytes > 0
    target.apply(read_published(folder), "promote", Doing())
    final = tmp_path / "shelf" / RELEASE
    assert is_sealed(final, maker.key.public)
    assert verify_place(final).finding("contents").verdict == "pass"


@pytest.mark.parametrize("kind", KINDS)
def test_people_see_it_after_promotion_alone(tmp_path: Path, kind: str) -> None:
    release, shelf = released(tmp_path), tmp_path / "shelf"
    target = make(kind, shelf)
    assert not target.plan(release, "candidate").nothing
    assert not shelf.exists()
    done = target.apply(release, "candidate", Doing())
    assert done.sent_bytes > 0
    assert digest_at(kind, shelf) is None
    assert Path(done.references[0]).exists()
    assert target.plan(release, "candidate").nothing
    promoted = target.apply(release, "promote", Doing())
    assert digest_at(kind, shelf) == release.image_digest
    assert Path(promoted.references[0]) == Path(target.place(release))


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_publisher_waits(tmp_path: Path, kind: str) -> None:
    published, target = released(tmp_path), make(kind, tmp_path / "shelf")
    lines: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        with held_lock(tmp_path / "shelf/.relforge/lock", purpose="promote of another"):
            other = pool.submit(target.apply, published, "candidate", Doing(line=lines.append))
            with pytest.raises(TimeoutError):
                other.result(timeout=0.5)
            assert "promote of another" in lines[0]
            assert not (tmp_path / "shelf/.relforge/candidate").exists()
        assert other.result(timeout=60).sent_bytes > 0


@pytest.mark.parametrize("kind", KINDS)
def test_again_nothing_is_written(tmp_path: Path, kind: str) -> None:
    release, shelf = released(tmp_path), tmp_path / "shelf"
    target = make(kind, shelf)
    for step in BOTH:
        target.apply(release, step, Doing())

    def state() -> dict[str, tuple[int, int]]:
        found = (path for path in shelf.rglob("*") if path.name != "lock")
        return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in found}

    before = state()
    for step in BOTH:
        assert target.plan(release, step).nothing
        assert target.apply(release, step, Doing()).sent_bytes == 0
    assert state() == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_newer_release_takes_the_place_and_gives_it_back(tmp_path: Path, kind: str) -> None:
    shelf = tmp_path / "shelf"
    target = make(kind, shelf)
    old, new = released(tmp_path), released(tmp_path, b"print('newer')\n")
    for step in BOTH:
        target.apply(old, step, Doing())
    target.apply(new, "candidate", Doing())
    assert digest_at(kind, shelf) == old.image_digest
    done = target.apply(new, "promote", Doing())
    assert done.changes[0].action == "replace"
    assert done.changes[0].before == old.image_digest
    assert digest_at(kind, shelf) == new.image_digest
    target.undo(new, done, Doing())
    assert digest_at(kind, shelf) == old.image_digest
    target.apply(new, "promote", Doing())
    assert digest_at(kind, shelf) == new.image_digest


@pytest.mark.parametrize("kind", KINDS)
def test_withdrawing_takes_this_release_and_no_other(tmp_path: Path, kind: str) -> None:
    shelf = tmp_path / "shelf"
    target = make(kind, shelf)
    old, new = released(tmp_path), released(tmp_path, b"print('newer')\n")
    for step in BOTH:
        target.apply(new, step, Doing())
    assert target.plan(old, "withdraw").nothing
    target.apply(old, "withdraw", Doing())
    assert digest_at(kind, shelf) == new.image_digest
    assert [c.action for c in target.plan(new, "withdraw").changes] == ["remove"]
    target.apply(new, "withdraw", Doing())
    assert digest_at(kind, shelf) is None
    assert target.plan(new, "withdraw").nothing


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_promoted_that_did_not_wait(tmp_path: Path, kind: str) -> None:
    release, shelf = released(tmp_path), tmp_path / "shelf"
    with pytest.raises(RelforgeError, match="the candidate is not there") as caught:
        make(kind, shelf).apply(release, "promote", Doing())
    assert caught.value.code is ExitCode.PUBLISH
    assert digest_at(kind, shelf) is None


@pytest.mark.parametrize("kind", KINDS)
def test_undoing_a_candidate_removes_it(tmp_path: Path, kind: str) -> None:
    release, shelf = released(tmp_path), tmp_path / "shelf"
    target = make(kind, shelf)
    done = target.apply(release, "candidate", Doing())
    target.undo(release, done, Doing())
    assert not Path(done.references[0]).exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_candidate_is_made_anew(tmp_path: Path, kind: str) -> None:
    release, shelf = released(tmp_path), tmp_path / "shelf"
    target = make(kind, shelf)
    waiting = Path(target.apply(release, "candidate", Doing()).references[0])
    if kind == "tar":
        waiting.write_bytes(waiting.read_bytes()[:2000])
    else:
        (waiting / "contents.json").unlink()
        next((waiting / "image/blobs/sha256").iterdir()).write_bytes(b"short")
    with pytest.raises(RelforgeError):
        target.apply(release, "promote", Doing())
    target.apply(release, "candidate", Doing())
    target.apply(release, "promote", Doing())
    assert digest_at(kind, shelf) == release.image_digest


@pytest.mark.parametrize("kind", KINDS)
def test_an_altered_layer_is_not_passed_on(tmp_path: Path, kind: str) -> None:
    release, shelf = released(tmp_path), tmp_path / "shelf"
    blob = max((release.layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    target = make(kind, shelf)
    with pytest.raises(RelforgeError):
        target.apply(release, "candidate", Doing())
    with pytest.raises(RelforgeError):
        target.apply(release, "promote", Doing())
    assert digest_at(kind, shelf) is None


def test_an_altered_card_is_not_passed_on(tmp_path: Path) -> None:
    release, shelf = released(tmp_path), tmp_path / "shelf"
    (release.folder / "README.md").write_text("another card")
    target = make("folder", shelf)
    with pytest.raises(RelforgeError, match="not the one that was published"):
        target.apply(release, "candidate", Doing())


@pytest.mark.parametrize("kind", KINDS)
def test_a_cancelled_copy_goes_on(tmp_path: Path, kind: str) -> None:
    release, shelf = released(tmp_path), tmp_path / "shelf"
    target = make(kind, shelf)
    token = CancelToken()
    token.cancel("Ctrl-C")
    with pytest.raises(Cancelled):
        target.apply(release, "candidate", Doing(cancel=token))
    assert digest_at(kind, shelf) is None
    for step in BOTH:
        target.apply(release, step, Doing())
    assert digest_at(kind, shelf) == release.image_digest


def test_a_folder_goes_on_file_by_file(tmp_path: Path) -> None:
    release, shelf = released(tmp_path), tmp_path / "shelf"
    target = make("folder", shelf)
    waiting = Path(target.apply(release, "candidate", Doing()).references[0])
    kept = waiting / "README.md"
    inode = kept.stat().st_ino
    for name in ("contents.json", "release.json"):
        (waiting / name).unlink()
    left = {c.name for c in target.plan(release, "candidate").changes if c.action == "add"}
    assert left == {"contents.json", "release.json"}
    target.apply(release, "candidate", Doing())
    assert kept.stat().st_ino == inode


def test_a_folder_of_somebody_else_stays(tmp_path: Path) -> None:
    release, shelf = released(tmp_path), tmp_path / "shelf"
    (shelf / RELEASE).mkdir(parents=True)
    (shelf / RELEASE / "thesis.txt").write_text("not ours")
    with pytest.raises(RelforgeError, match="holds something else"):
        make("folder", shelf).apply(release, "candidate", Doing())
    assert (shelf / RELEASE / "thesis.txt").read_text() == "not ours"


def test_a_tar_has_the_name_of_the_card(tmp_path: Path) -> None:
    release, shelf = released(tmp_path), tmp_path / "shelf"
    target = make("tar", shelf)
    for step in BOTH:
        target.apply(release, step, Doing())
    found = TarStore(shelf / f"{RELEASE}.tar")
    assert found.full_name(release.image_digest) == release.record["results"]["build"]["image_name"]
    assert len(found.referrers(release.image_digest)) == 1


def test_the_folder_is_the_published_one(tmp_path: Path) -> None:
    release, shelf = released(tmp_path), tmp_path / "shelf"
    target = make("folder", shelf)
    for step in BOTH:
        target.apply(release, step, Doing())

    def files(folder: Path) -> dict[str, bytes]:
        return {
            p.relative_to(folder).as_posix(): p.read_bytes()
            for p in folder.rglob("*")
            if p.is_file()
        }

    assert files(shelf / RELEASE) == files(release.folder)
    assert json.loads((shelf / RELEASE / "contents.json").read_bytes())["image_digest"]
