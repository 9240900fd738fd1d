"""What a killed process leaves is removed by the next one, and what a living one holds is not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relforge import leftovers, owner, sweeping, workarea
from relforge.engine.layout import replace_folder
from relforge.leftovers import (
    held,
    left_behind,
    owned_file,
    owned_folder,
    remove,
    sweep_folder,
)


def killed(code: str, *arguments: Path) -> None:
    """Runs Python code that ends in ``die()``."""
    die = "import os, signal, sys\ndef die():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    done = subprocess.run([sys.executable, "-c", die + code, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL


OWNED = """
from pathlib import Path
from relforge.leftovers import owned_file, owned_folder
folder = Path(sys.argv[1])
if sys.argv[2] == "file":
    os.write(owned_file(folder, "file")[0], b"half of it")
    die()
with owned_folder(folder, sys.argv[2]) as made:
    (made / "blobs").mkdir()
    (made / "blobs" / "half").write_text("half of it")
    die()
"""


@pytest.mark.parametrize(
    ("place", "stem"),
    [
        ("home/store/outputs/build/0123abcd", ".image"),
        ("home/store/files/.incoming", "file"),
        ("home/store/wheelhouses", ".0123abcd"),
        ("home/base/0123abcd", ".layout"),
        ("dist", ".tiny-adder-cpu_x86"),
        ("home/work", "base-0123abcd"),
    ],
)
def test_half_made_results_of_killed_runs_go(tmp_path: Path, place: str, stem: str) -> None:
    folder = tmp_path / place
    (folder / "finished").mkdir(parents=True)
    (folder / ".hidden").touch()
    killed(OWNED, folder, Path(stem))
    (left,) = [p for p in folder.iterdir() if p.name not in ("finished", ".hidden")]
    said: list[str] = []
    assert sweeping.files(tmp_path / "home", tmp_path / "dist", said.append) == [left]
    assert said == [f"removed {left}, left by a run that was killed"]
    assert sorted(p.name for p in folder.iterdir()) == [".hidden", "finished"]
    assert sweeping.files(tmp_path / "home", tmp_path / "dist", said.append) == []


def test_whoever_is_at_work_is_spared(tmp_path: Path) -> None:
    descriptor, file = owned_file(tmp_path, "file")
    with owned_folder(tmp_path, ".image") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert sweep_folder(tmp_path) == []
        assert folder.is_dir()
        assert file.is_file()
    assert not folder.exists()
    os.close(descriptor)
    assert sweep_folder(tmp_path) == [], "its process still runs"
    file.unlink()


def test_a_lock_spares_owners_that_cannot_be_seen_from_here(tmp_path: Path) -> None:
    # As an owner in another pid namespace: the id means nothing here, the lock is held.
    me = owner.current()
    folder = tmp_path / f".image-4194999-{me.start_ticks}-{me.boot_id[:8]}-abcdefgh"
    folder.mkdir()
    lock = os.open(folder, os.O_RDONLY)
    leftovers.hold(lock)
    assert held(folder)
    assert sweep_folder(tmp_path) == []
    os.close(lock)
    assert not held(folder)
    assert sweep_folder(tmp_path) == [folder]


def test_names_that_only_look_like_ours_stay(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (tmp_path / ".image-12-34-zzzzzzzz-abcdefgh").mkdir()
    (tmp_path / "backup-2024-01").mkdir()
    link = tmp_path / ".image-4194999-1-00000000-abcdefgh"
    link.symlink_to(precious)
    assert sweep_folder(tmp_path) == []
    with left_behind(link) as gone:
        assert not gone
    assert precious.exists()
    assert sweep_folder(tmp_path / "absent") == []


def test_a_removed_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "there" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert remove(tmp_path / "link")
    assert (tmp_path / "there" / "deep").is_dir()


def test_a_folder_that_was_being_replaced_comes_back(tmp_path: Path) -> None:
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "old").touch()
    (tmp_path / "new").mkdir()
    killed(
        "from pathlib import Path\n"
        "from relforge.engine.layout import replace_folder\n"
        "folder, whole = Path(sys.argv[1]), Path.replace\n"
        "def replace(path, target):\n"
        "    die() if path.name == 'new' else whole(path, target)\n"
        "Path.replace = replace\n"
        "replace_folder(folder / 'new', folder / 'hello')\n",
        tmp_path,
    )
    assert not (tmp_path / "hello").exists()
    assert len(sweep_folder(tmp_path)) == 1
    assert (tmp_path / "hello" / "old").exists()
    # Where the new one is in its place, the old one is not wanted any more.
    replace_folder(tmp_path / "new", tmp_path / "hello")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hello"]
    assert list((tmp_path / "hello").iterdir()) == []


def test_a_killed_bootstrap_is_swept_when_any_verb_starts(tmp_path: Path) -> None:
    killed(
        "from pathlib import Path\n"
        "from relforge.engine import apt, base_image, rootfs\n"
        "from relforge.manifest.facts import BootstrapBase\n"
        "from relforge.manifest.site import Site\n"
        "def bootstrap(spec, root, **_):\n"
        "    (root / 'etc').mkdir(parents=True)\n"
        "    (root / 'etc').chmod(0o500)\n"
        "    die()\n"
        "rootfs.bootstrap = bootstrap\n"
        "apt.bootstrap_mirror = lambda *_: None\n"
        "home, key = Path(sys.argv[1]), '0' * 64\n"
        "spec = BootstrapBase(suite='bookworm', variant='minbase', packages=())\n"
        "base_image._make(spec, key, home / 'base' / key, home, 'amd64', Site(), print, None)\n",
        tmp_path,
    )
    (area,) = (tmp_path / "work").iterdir()
    assert area.name.startswith("base-000000000000-")
    assert (area / "root" / "etc").is_dir()
    assert workarea.sweep(tmp_path) == [area]
    assert list((tmp_path / "work").iterdir()) == []


def test_nothing_is_deleted_below_a_mount_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    area = tmp_path / "a b" / "base-1"
    (area / "root" / "proc").mkdir(parents=True)
    (area / "root" / "proc" / "precious").touch()
    mounts = tmp_path / "mountinfo"
    shown = str(area / "root" / "proc").replace(" ", "\\040")
    mounts.write_text(
        "22 1 0:21 / / rw - ext4 /dev/vda rw\n"
        f"90 22 0:5 / {tmp_path}-elsewhere/root rw - proc proc rw\n"
        f"91 22 0:5 / {shown} rw - proc proc rw\n"
    )
    monkeypatch.setattr(leftovers, "_MOUNTS", mounts)
    said: list[str] = []
    assert not remove(area, said.append)
    assert (area / "root" / "proc" / "precious").exists()
    assert said[0].startswith(f"warning: {area} stays: {area}/root/proc is mounted")
    mounts.write_text(mounts.read_text().rpartition("91 22")[0])
    assert remove(area, said.append)
    assert not area.exists()


def test_a_mount_below_is_unmounted_first(tmp_path: Path) -> None:
    apart = ["unshare", "--mount", "--propagation", "private", "--"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"]).returncode != 0:
        pytest.skip("mounting needs root")
    precious, area = tmp_path / "precious", tmp_path / "base-1"
    precious.mkdir()
    (precious / "file").touch()
    (area / "root" / "mnt").mkdir(parents=True)
    subprocess.run(
        [*apart, "sh", "-ec", 'mount --bind "$1" "$2"; exec "$3" -c "$4" "$5"', "sh",
         precious, area / "root" / "mnt", sys.executable,
         "import sys\nfrom pathlib import Path\nfrom relforge.leftovers import remove\n"
         "area = Path(sys.argv[1])\nassert (area / 'root/mnt/file').exists()\n"
         "assert remove(area, print)\n", area],
        check=True,
    )  # fmt: skip
    assert not area.exists()
    assert (precious / "file").exists()


def left_by_a_killed_owner(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    killed(OWNED, tmp_path / "work", Path("unpatch"))
    (area,) = (tmp_path / "work").iterdir()
    return area


@pytest.mark.parametrize("variable", ["GIT_OBJECT_DIRECTORY", "GIT_WORK_TREE"])
def test_a_git_that_outlived_its_owner_is_ended_and_one_sweep_removes_all(
    tmp_path: Path, variable: str
) -> None:
    """As one whose owner died before it could be told to die with it: it goes on writing."""
    area = left_by_a_killed_owner(tmp_path)
    place = area if variable == "GIT_OBJECT_DIRECTORY" else tmp_path / f".relforge-{area.name}"
    place.mkdir(exist_ok=True)
    (area / ".outside").write_bytes(os.fsencode(tmp_path / f".relforge-{area.name}"))
    writes = 'n=0; while n=$((n+1)); do mkdir -p "$0/d$n" && echo x >"$0/d$n/f"; done'
    orphan = subprocess.Popen(["sh", "-c", writes, place], env={**os.environ, variable: str(place)})
    stranger = subprocess.Popen(["sleep", "60"], env={**os.environ, "PLACE": str(area)})
    try:
        while not (place / "d3").exists():
            time.sleep(0.005)
        assert workarea.sweep(tmp_path) == [area]
        assert orphan.wait(10) == -signal.SIGKILL
        assert [path.name for path in tmp_path.iterdir()] == ["work"]
        assert list((tmp_path / "work").iterdir()) == []
        assert stranger.poll() is None, "only git works in such a place"
    finally:
        for process in (orphan, stranger):
            process.kill()
            process.wait()


def test_a_child_that_was_just_being_started_delays_the_sweep_by_a_moment(tmp_path: Path) -> None:
    """Until it becomes its program, it has the owner's lock."""
    area = left_by_a_killed_owner(tmp_path)
    lock = os.open(area, os.O_RDONLY)
    starting = subprocess.Popen(
        ["sh", "-c", "echo here; sleep 0.2"], stdout=subprocess.PIPE, pass_fds=[lock]
    )
    leftovers.hold(lock)
    os.close(lock)
    assert starting.stdout is not None
    assert starting.stdout.readline() == b"here\n"
    assert held(area)
    assert workarea.sweep(tmp_path) == [area]
    assert not area.exists()
    starting.communicate(timeout=10)


def test_of_the_users_folder_only_half_written_bundles_are_swept(tmp_path: Path) -> None:
    theirs = "4194999-1-00000000-abcdefgh"
    kept = [f"sealing-{theirs}", f".relforge-unpatch-{theirs}", ".relforge-sealing-2024-notes"]
    for name in (*kept, f"{workarea.UNFINISHED}-{theirs}"):
        (tmp_path / name).touch()
    (tmp_path / f"{workarea.UNFINISHED}-{theirs}a").mkdir()
    (tmp_path / f"{workarea.UNFINISHED}-{theirs}b").symlink_to("sealing")
    mine, path = owned_file(tmp_path, workarea.UNFINISHED)
    swept = [tmp_path / f"{workarea.UNFINISHED}-{theirs}"]
    assert workarea.sweep_unfinished(tmp_path) == swept
    assert len(list(tmp_path.iterdir())) == len(kept) + 3
    assert path.exists()
    os.close(mine)
    assert workarea.sweep_unfinished(tmp_path / "absent") == []
