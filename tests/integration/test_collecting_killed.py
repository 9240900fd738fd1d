"""A collector that is killed at any moment loses nothing that is needed, and the next one ends it.

Where it is killed is one of the system calls that change something, chosen by a seed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge.evidence.store import Record
from relforge.files import sha256_file
from relforge.gitio import init_store
from tests.support.made_homes import Home, aged, key

CHECKOUT = Path(__file__).resolve().parents[2]
SEEDS = range(20 if os.environ.get("RELFORGE_LONG") else 8)
SERVER = """
import os, signal, sys
from collections.abc import Iterator
from pathlib import Path
from relforge.collecting import caches, git, items, of_engine
from tests.support.made_homes import Home
import relforge.pipeline, relforge.sweeping
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod",
           "subprocess.Popen"}

def collect(folder, at):
    left = at
    def count(event, _words):
        nonlocal left
        if event in CHANGES:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    home = Home(Path(folder))
    sys.addaudithook(count)
    home.collect(keep_last=1)
    print(at - left, flush=True)

for line in sys.stdin:
    folder, at = line.split()
    child = os.fork()
    if not child:
        try:
            collect(folder, int(at))
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("ended", status, flush=True)
"""
"""Collects in a child for each line that names a folder and at which change it is killed: what a
collector loads takes longer than what it does."""


class Server:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER], cwd=CHECKOUT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def collect(self, folder: Path, at: int = 1 << 30) -> tuple[int, int]:
        """Exit status, and how many changes were made (0 when it was killed)."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{folder} {at}\n")
        self.process.stdin.flush()
        changes = 0
        while not (line := self.process.stdout.readline()).startswith("ended"):
            assert line, "the server died"
            changes = int(line)
        return int(line.split()[1]), changes

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


def _made(folder: Path) -> tuple[Home, dict[str, str]]:
    """A home with garbage of every kind among what is needed; the needed results by word."""
    made = Home(folder)
    keys: dict[str, str] = {}
    for word in ("kept", "used", "old", "older", "oldest"):
        keys[word] = made.result(
            "build", word, 60, folder=True, blobs=(f"blob of {word}", "blob of all"),
            commit=key(word)[:40], wheels=key(f"wheels {word}"),
        )  # fmt: skip
        made.result("smoke", f"smoke {word}", 60, blobs=(f"report of {word}",))
        made.put(f"store/wheelhouses/{key(f'wheels {word}')}/a.whl", word, 60)
        made.put(f"store/wheelhouses/{key(f'wheels {word}')}.json", "{}", 60)
        made.put(f"base/{key(f'base {word}')}/context/rootfs.tar", word, 60)
    made.store.remember("hello-cpu_x86", {"build": keys["kept"], "smoke": key("smoke kept")})
    made.run("20260901T000000Z-aaaaaa", 60, {"build": keys["old"]})
    made.run("20260902T000000Z-bbbbbb", 50, {"build": keys["used"]})
    for number in range(6):
        made.put(f"scan/layers/p{number}/{key(str(number))}.json", "{}", 60)
    _commits(made, keys)
    return made, {word: keys[word] for word in ("kept", "used")}


def _commits(made: Home, keys: dict[str, str]) -> None:
    """One commit for each result, under the reference that a fetch makes."""
    git = init_store(made.home / "store" / "git")
    for word, one in keys.items():
        blob = git.run("hash-object", "-w", "--stdin", stdin=word.encode() * 200).text
        tree = git.run("mktree", stdin=f"100644 blob {blob}\tfile\n".encode()).text
        commit = git.text("commit-tree", tree, "-m", word)
        git.run("update-ref", f"refs/relforge/commits/{commit}", commit)
        path = made.home / "store" / "results" / "build" / f"{one}.json"
        path.write_text(path.read_text().replace(key(word)[:40], commit))
        aged(path, 60)
    aged(git.git_dir, 60)


def _content(folder: Path) -> dict[str, str]:
    """Files by name and hash; git's packs have names of their own."""
    return {
        str(path.relative_to(folder)): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "objects" not in path.parts
    }


def _assert_needed(made: Home, needed: dict[str, str]) -> None:
    for word, one in needed.items():
        record = made.store.lookup("build", one)
        assert isinstance(record, Record), (word, record)
        wheels = made.home / "store" / "wheelhouses" / record.result["wheels"] / "a.whl"
        assert wheels.read_text() == word
        git = init_store(made.home / "store" / "git")
        assert git.has(record.result["commit"], "commit")
        assert git.read_file(record.result["commit"], "file") == word.encode() * 200
    assert isinstance(made.store.lookup("smoke", key("smoke kept")), Record)


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, server: Server
) -> tuple[Path, dict[str, str], int]:
    """What a collection that nobody disturbs leaves, and how many changes it makes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    made, needed = _made(folder)
    status, changes = server.collect(folder)
    assert status == 0
    _assert_needed(made, needed)
    assert made.results() == {
        f"build {needed['kept']}", f"build {needed['used']}", f"smoke {key('smoke kept')}",
    }  # fmt: skip
    return folder, _content(folder), changes


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_at_any_change(
    seed: int, tmp_path: Path, server: Server, undisturbed: tuple[Path, dict[str, str], int]
) -> None:
    _, wanted, changes = undisturbed
    assert changes > 60
    chance = random.Random(seed)
    made, needed = _made(tmp_path)
    at = chance.randint(1, changes)
    assert server.collect(tmp_path, at)[0] == -signal.SIGKILL, at
    _assert_needed(made, needed)
    # Killed once more, somewhere on the way through the rest, then left alone.
    server.collect(tmp_path, chance.randint(1, changes))
    _assert_needed(made, needed)
    assert server.collect(tmp_path)[0] == 0
    _assert_needed(made, needed)
    assert _same_but_times(_content(tmp_path), wanted)
    git = init_store(made.home / "store" / "git")
    assert not [*git.git_dir.rglob("*.lock"), *git.git_dir.rglob("unpruned")]
    git.run("fsck", "--full", "--strict")


def _same_but_times(found: dict[str, str], wanted: dict[str, str]) -> bool:
    """The same files; of records that have times or places in them the names alone."""
    own = ("runs/", "store/results/")
    assert sorted(found) == sorted(wanted)
    for name, digest in wanted.items():
        if not any(part in name for part in own):
            assert found[name] == digest, name
    return True


def test_what_is_left_of_a_killed_one_goes_first(tmp_path: Path) -> None:
    made, _ = _made(tmp_path)
    (made.home / "leaving" / "0123").mkdir(parents=True)
    (made.home / "leaving" / "0123" / "half").write_text("half")
    output = made.collect(days=9999)
    assert [(one.kind, one.name) for one in output.gone] == [("left-behind", "leaving/0123")]
    assert list((made.home / "leaving").iterdir()) == []
