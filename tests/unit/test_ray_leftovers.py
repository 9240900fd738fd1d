"""What killed jobs, collected homes and a shared folder that fails leave to the next job."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge.cancel import CancelToken
from relforge.events import Event, StageLine
from relforge.executor import ray_shared
from relforge.executor.ray_host import WorkerPlace
from relforge.executor.ray_sent import ProjectFiles, SentFile, pack
from relforge.executor.ray_shared import LargeFiles, SharedFolder, large_files_now
from relforge.executor.ray_store import WorkerFiles
from relforge.executor.ray_worksite import looked_at
from relforge.files import sha256_file
from relforge.leftovers import owned_file
from relforge.manifest.site_file import load_site
from relforge.stage import Resources, StageContext
from tests.support.ray_toys import Errand, errand

KILLED = """
import os, sys
from pathlib import Path
from relforge.executor.ray_store import room_for
from relforge.leftovers import owned_folder
from relforge.workarea import work_area
home = Path(sys.argv[1])
(home / "ray").mkdir(parents=True)
with (
    work_area(home, "build") as area,
    room_for(home / "store/outputs/build/key/image/blobs/one", home) as made,
    room_for(home / "ray/projects/key/0/dockerfiles/tools/two", home) as placed,
    owned_folder(home / "ray", ".pack") as pack,
):
    for folder in (area, made, placed, pack):
        (folder / "file").write_text("decrypted")
    os.kill(os.getpid(), 9)
"""
CONTENT = b"weights" * 1000


def test_a_job_removes_what_killed_ones_left_first(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = subprocess.run([sys.executable, "-c", KILLED, home], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(holding(home, "decrypted")) == 4
    site_file = tmp_path / "site.yaml"
    site_file.write_text(f"home: {home}\n")
    site = load_site(site_file)
    place = WorkerPlace(name="north", home=home, site=site_file, code="")
    job = errand(home, site=site)
    sent = pack(Errand(), job, Resources(), ProjectFiles(site)).sent
    told: list[Event] = []
    looked_at(sent, place, job.env, StageContext("toy", "errand", CancelToken(), told.append))
    assert holding(home, "decrypted") == []
    assert len([e for e in told if isinstance(e, StageLine) and "was killed" in e.text]) == 4


def holding(home: Path, text: str) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and path.read_text() == text]


def test_what_a_collected_home_still_has_is_not_sent_again(tmp_path: Path) -> None:
    file = SentFile(path=Path("w"), sha256=sha256_of(CONTENT, tmp_path), size_bytes=len(CONTENT))
    asked: list[str] = []

    def fetch(sha256: str, _size: int) -> Iterator[bytes]:
        asked.append(sha256)
        yield CONTENT

    home = tmp_path / "home"
    weights = home / "store" / "weights" / "w"
    files = WorkerFiles(home, CancelToken())
    assert files.lay_out([(file, weights)], fetch) == (1, len(CONTENT))
    (kept,) = (home / "ray" / "files").glob("??/*")
    os.utime(kept, (0, 0))
    assert files.lay_out([(file, weights)], fetch) == (0, 0)
    assert kept.stat().st_mtime > time.time() - 60, "who collects by age leaves it"
    kept.unlink()
    assert files.lay_out([(file, weights)], fetch) == (0, 0)
    assert kept.exists()
    kept.unlink()
    weights.write_bytes(CONTENT[::-1])
    assert files.lay_out([(file, weights)], fetch) == (1, len(CONTENT))
    assert weights.read_bytes() == CONTENT
    assert len(asked) == 2


def sha256_of(data: bytes, folder: Path) -> str:
    path = folder / "content"
    path.write_bytes(data)
    return sha256_file(path)


def test_a_shared_folder_that_goes_away_costs_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    site_file = tmp_path / "site.yaml"
    site_file.write_text(f"home: {tmp_path / 'home'}\nray: {{large_files: {{folder: {folder}}}}}\n")
    site = load_site(site_file)
    lines: list[str] = []
    found = large_files_now(site, line=lines.append, cancel=CancelToken())
    assert isinstance(found, LargeFiles)
    folder.rename(tmp_path / "elsewhere")
    assert large_files_now(site, line=lines.append, cancel=CancelToken()) is None
    (line,) = lines
    assert line.startswith("large files go through the driver: ")
    assert str(folder) in line


def test_what_another_host_puts_there_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    sha256 = sha256_of(CONTENT, tmp_path)
    made = tmp_path / "content"
    place, other = (SharedFolder(folder, CancelToken()) for _ in range(2))
    seen: list[bool] = []

    def has(sha256: str, size_bytes: int) -> bool:
        other.put(made, sha256, size_bytes)
        return False

    def made_here(parent: Path, stem: str) -> tuple[int, Path]:
        seen.append(other.has(sha256, len(CONTENT)))
        return owned_file(parent, stem)

    monkeypatch.setattr(place, "has", has)
    monkeypatch.setattr(ray_shared, "owned_file", made_here)
    place.put(made, sha256, len(CONTENT))
    assert seen == [False, True]
    assert b"".join(place.read(sha256, len(CONTENT))) == CONTENT


def test_a_file_system_without_hard_links_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuses)
    place = SharedFolder(tmp_path, CancelToken())
    assert SharedFolder(tmp_path, CancelToken()).id == place.id
    sha256 = sha256_of(CONTENT, tmp_path)
    place.put(tmp_path / "content", sha256, len(CONTENT))
    assert b"".join(place.read(sha256, len(CONTENT))) == CONTENT
    assert list(tmp_path.rglob(".part*")) == []


def test_what_killed_hosts_left_there_goes_when_it_is_old(tmp_path: Path) -> None:
    place = SharedFolder(tmp_path, CancelToken())
    room = tmp_path / "ab"
    room.mkdir()
    old, new = room / ".part-1-2-abcdef01-x", room / ".part-1-2-abcdef01-y"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    place.sweep()
    assert sorted(room.iterdir()) == [new]
