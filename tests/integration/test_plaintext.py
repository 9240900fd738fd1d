"""The search for plaintext finds it wherever it hides; else every test that uses it would lie."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.support.patching import MARK, files_with_mark, new_repository
from tests.support.plaintext import files_holding

NOISE = b"".join(b"%d " % (number * 7919 % 100_003) for number in range(30_000))
TEXT = NOISE + MARK + NOISE
LONG = TEXT + os.urandom(150_000).hex().encode()


def tar(content: bytes = TEXT, name: str = "folder/file") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped(content: bytes = TEXT) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("first", NOISE)
        archive.writestr("second", content)
    return out.getvalue()


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


WAYS: dict[str, Callable[[], bytes]] = {
    "plain": lambda: TEXT,
    "tar": tar,
    "tar.gz": lambda: gzip.compress(tar()),
    "gz of two members": lambda: gzip.compress(NOISE) + gzip.compress(TEXT),
    "tar.bz2": lambda: bz2.compress(tar()),
    "tar.xz": lambda: lzma.compress(tar()),
    "zip": zipped,
    "tar.zst": lambda: zstd(tar()),
    "zst of two frames": lambda: zstd(NOISE) + zstd(TEXT),
    "zst after a frame to skip": lambda: b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstd(TEXT),
    "zip in tar.zst": lambda: zstd(tar(zipped())),
    "git object in tar.gz": lambda: gzip.compress(tar(zlib.compress(b"blob 9\0" + TEXT))),
    "gz in zst in xz": lambda: lzma.compress(zstd(gzip.compress(TEXT))),
    "cut gz": lambda: gzip.compress(tar(LONG))[:-1000],
    "cut zst": lambda: zstd(tar(LONG))[:-1000],
    "cut xz": lambda: lzma.compress(tar(LONG))[:-1000],
    "cut zip": lambda: zipped(LONG)[:-3000],
}


@pytest.mark.parametrize("way", WAYS)
def test_packed_in_any_way(tmp_path: Path, way: str) -> None:
    data = WAYS[way]()
    assert way in ("plain", "tar") or MARK not in data
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/it").write_bytes(data)
    (tmp_path / "noise").write_bytes(gzip.compress(NOISE))
    (tmp_path / "link").symlink_to("deep/it")
    assert files_with_mark(tmp_path) == [tmp_path / "deep/it"]


@pytest.mark.parametrize("kind", ["loose", "pack", "delta", "unfinished pack"])
def test_in_git_objects(tmp_path: Path, kind: str) -> None:
    repository = new_repository(tmp_path / "r")
    lines = b"".join(b"some line %d of the file\n" % number for number in range(3000))
    # Text that a delta inserts is cut after every 127 bytes: across what is searched for here.
    texts = [os.urandom(80).hex().encode() for _ in range(3)] if kind == "delta" else [MARK]
    for number, text in enumerate(texts):
        repository.commit({f"file{number}": lines + b"\n" + text + b"\n" + lines})
    # What the working tree holds is not meant here.
    objects = repository.git_dir / "objects"
    if kind != "loose":
        repository.git("repack", "-q", "-a", "-d", "-f", "--window=50")
        (pack,) = objects.glob("pack/*.pack")
        assert MARK not in pack.read_bytes()
        for other in objects.glob("pack/*.idx"):
            other.unlink()
    if kind == "unfinished pack":
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:-25])
    wanted = [text[115:140] if kind == "delta" else text for text in texts]
    for text in wanted:
        assert len(files_holding(text, objects)) == 1


def test_files_that_did_not_change_since_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(MARK)
    since = (tmp_path / "old").stat().st_ctime
    while (tmp_path / "clock").exists() is False or (tmp_path / "clock").stat().st_ctime <= since:
        (tmp_path / "clock").write_bytes(b"")
        time.sleep(0.005)
    (tmp_path / "new").write_bytes(MARK)
    os.utime(tmp_path / "new", (1, 1))
    assert files_holding(MARK, tmp_path, changed_after=since) == [tmp_path / "new"]
    os.mkfifo(tmp_path / "pipe")
    assert len(files_holding(MARK, tmp_path)) == 2
