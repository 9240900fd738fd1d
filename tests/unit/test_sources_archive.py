"""Archives: the same tree each time, and nothing that leaves its folder."""

from __future__ import annotations

import gzip
import io
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.sources.archive import ArchiveReader, Limits
from tests.support.sources import sdist, wheel


def read(path: Path, data: bytes, *, strip: bool = True, limits: Limits | None = None):  # type: ignore[no-untyped-def]
    path.write_bytes(data)
    reader = ArchiveReader(path, strip=strip, limits=limits)
    return {f.path: (f.mode, f.data) for f in reader}, reader.newest_epoch


def test_an_sdist_loses_its_top_folder(tmp_path: Path) -> None:
    found, epoch = read(
        tmp_path / "a.tar.gz",
        sdist("a-1", {"x/y.py": b"1\r\n", "run.sh": b"#!", "x/up": b"->../run.sh"}),
    )
    assert found == {
        "x/y.py": ("100644", b"1\r\n"),
        "run.sh": ("100755", b"#!"),
        "x/up": ("120000", b"../run.sh"),
    }
    assert epoch == 1_700_000_000


def test_a_zip_and_a_wheel_are_read_too(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a-1/", b"")
        archive.writestr(zipfile.ZipInfo("a-1/f", (2020, 1, 1, 0, 0, 0)), b"1")
    assert read(tmp_path / "a.zip", buffer.getvalue()) == ({"f": ("100644", b"1")}, 1577836800)
    found, epoch = read(tmp_path / "w.whl", wheel("w", "1", {"w/a.sh": b""}), strip=False)
    assert found["w/a.sh"] == ("100755", b"")
    assert "w-1.dist-info/RECORD" in found
    assert epoch == 1714979290


def test_a_hard_link_is_a_file(tmp_path: Path) -> None:
    def link(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("a-1/again")
        member.type, member.linkname = tarfile.LNKTYPE, "a-1/f"
        tar.addfile(member)

    found, _ = read(tmp_path / "a.tar.gz", sdist("a-1", {"f": b"text"}, extra=link))
    assert found["again"] == ("100644", b"text")


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[..., None]:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        tar.addfile(info)

    return add


@pytest.mark.parametrize(
    ("evil", "why"),
    [
        (member("/etc/passwd"), "leaves its folder"),
        (member("a-1/../../x"), "leaves its folder"),
        (member("a-1\\..\\x"), "leaves its folder"),
        (member("other/x"), "one top folder"),
        (member("lonely"), "one top folder"),
        (member("a-1/.git/hooks/x"), ".git folder"),
        (member("a-1/sub/.GIT/config"), ".git folder"),
        (member("a-1/f"), "twice"),
        (member("a-1/f/below"), "twice"),
        (member("a-1/tty", tarfile.CHRTYPE), "no file, folder or link"),
        (member("a-1/pipe", tarfile.FIFOTYPE), "no file, folder or link"),
        (member("a-1/l", tarfile.SYMTYPE, "/etc/passwd"), "link that leaves"),
        (member("a-1/l", tarfile.SYMTYPE, "../x"), "link that leaves"),
        (member("a-1/d/l", tarfile.SYMTYPE, "../../x"), "link that leaves"),
        (member("a-1/d/l", tarfile.SYMTYPE, "e/../../../x"), "link that leaves"),
        (member("a-1/h", tarfile.LNKTYPE, "/etc/passwd"), "hard link to nothing"),
        (member("a-1/h", tarfile.LNKTYPE, "a-1/later"), "hard link to nothing"),
    ],
)
def test_evil_members_are_refused(tmp_path: Path, evil: Callable[..., None], why: str) -> None:
    with pytest.raises(RelforgeError, match=why) as caught:
        read(tmp_path / "a.tar.gz", sdist("a-1", {"f": b"1"}, extra=evil))
    assert caught.value.code is ExitCode.SOURCE
    assert caught.value.hint


def test_an_evil_zip_member_is_refused(tmp_path: Path) -> None:
    for name, bits in (("../x", 0), ("dev", stat.S_IFCHR), ("l", stat.S_IFLNK)):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, (bits | 0o644) << 16
            archive.writestr(entry, "/etc/passwd")
        with pytest.raises(RelforgeError):
            read(tmp_path / "w.whl", buffer.getvalue(), strip=False)


def test_bounds_hold(tmp_path: Path) -> None:
    data = sdist("a-1", {"f": b"0" * 5000, "g": b"0" * 5000, "h": b""})
    for limits in (Limits(file_bytes=4999), Limits(total_bytes=9999), Limits(files=2)):
        with pytest.raises(RelforgeError, match=r"limit|more than 2 files"):
            read(tmp_path / "a.tar.gz", data, limits=limits)
    assert len(read(tmp_path / "a.tar.gz", data, limits=Limits(files=3))[0]) == 3


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_damaged_archive_is_an_error_of_ours(tmp_path: Path, keep: float) -> None:
    data = sdist("a-1", {"f": bytes(range(256)) * 400})
    with pytest.raises(RelforgeError, match="damaged"):
        read(tmp_path / "a.tar.gz", data[: int(len(data) * keep)])


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RelforgeError, match="no files"):
        read(tmp_path / "a.tar.gz", sdist("a-1", {}))


@pytest.mark.parametrize("kind", ["a.tar.gz", "a.tar", "a.zip"])
def test_flipped_bytes_never_crash_the_reader(tmp_path: Path, kind: str) -> None:
    data = sdist("a-1", {"f": bytes(range(256)) * 4, "d/g": b"text", "l": b"->f"})
    if kind == "a.tar":
        data = gzip.decompress(data)
    elif kind == "a.zip":
        data = wheel("a", "1", {"a/f": bytes(range(256)) * 4})
    chance = random.Random(1)
    refused = 0
    for _ in range(300):
        bad = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        try:
            read(tmp_path / kind, bytes(bad), strip=kind != "a.zip")
        except RelforgeError:
            refused += 1
    assert refused > 20
