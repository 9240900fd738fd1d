"""The note about sealed sources in BuildKit's cache: there while it is needed, and followed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from relforge.engine import sealed_cache
from relforge.engine.prune import PruneResult
from relforge.engine.sealed_cache import Note, prune_left_behind, pruned_afterwards
from relforge.errors import ExitCode, RelforgeError
from relforge.leftovers import owned_file
from relforge.manifest.site import EngineSite

SITE = EngineSite()
KILLED = """
import os, signal, sys
from pathlib import Path
from relforge.engine import sealed_cache
from relforge.manifest.site import EngineSite
sealed_cache._engine_id = lambda site: sys.argv[2]
with sealed_cache.pruned_afterwards(
    ("vllm",), steps=("target=/src/vllm",), home=Path(sys.argv[1]), site=EngineSite(), line=print
):
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Engine:
    """Stands in for BuildKit: records what is pruned; may refuse or be busy."""

    def __init__(self) -> None:
        self.pruned: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self.refuses = False
        self.busy = 0

    def prune(
        self, contexts: Iterable[str], *, steps: Iterable[str], site: EngineSite
    ) -> PruneResult:
        assert site is SITE
        if self.refuses:
            raise RelforgeError("the build cache could not be pruned", code=ExitCode.ENVIRONMENT)
        self.pruned.append((tuple(contexts), tuple(steps)))
        if self.busy:
            self.busy -= 1
            return PruneResult(removed=0, in_use=("local source for vllm",))
        return PruneResult(removed=3, in_use=())


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    fake = Engine()
    monkeypatch.setattr(sealed_cache, "prune_source_cache", fake.prune)
    monkeypatch.setattr(sealed_cache, "_engine_id", lambda _site: "engine-1")
    monkeypatch.setattr(sealed_cache, "_PAUSE_S", 0.0)
    return fake


def notes(home: Path) -> list[Path]:
    return sorted((home / "prune").iterdir()) if (home / "prune").is_dir() else []


def build(home: Path, line: list[str], contexts: tuple[str, ...] = ("vllm",)) -> None:
    with pruned_afterwards(
        contexts, steps=("target=/src/vllm",), home=home, site=SITE, line=line.append
    ):
        (path,) = notes(home)
        note = Note.model_validate_json(path.read_bytes())
        assert note == Note(engine="engine-1", contexts=("vllm",), steps=("target=/src/vllm",))
        said: list[str] = []
        prune_left_behind(home, site=SITE, line=said.append)
        assert said == [], "a build at work was taken for a killed one"
        assert notes(home) == [path]


def kill_a_build(home: Path, engine_id: str = "engine-1") -> Path:
    done = subprocess.run([sys.executable, "-c", KILLED, home, engine_id], check=False)
    assert done.returncode == -signal.SIGKILL
    (path,) = notes(home)
    return path


def test_a_note_lives_as_long_as_its_build(engine: Engine, tmp_path: Path) -> None:
    build(tmp_path, [])
    assert engine.pruned == [(("vllm",), ("target=/src/vllm",))]
    assert notes(tmp_path) == []


def test_without_sealed_sources_there_is_no_note(engine: Engine, tmp_path: Path) -> None:
    with pruned_afterwards((), steps=(), home=tmp_path, site=SITE, line=print):
        assert notes(tmp_path) == []
    assert engine.pruned == []


def test_a_failed_build_is_pruned_too(engine: Engine, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        pruned_afterwards(("vllm",), steps=(), home=tmp_path, site=SITE, line=print),
    ):
        raise KeyboardInterrupt
    assert engine.pruned == [(("vllm",), ())]
    assert notes(tmp_path) == []


def test_the_next_run_follows_the_note_of_a_killed_build(engine: Engine, tmp_path: Path) -> None:
    kill_a_build(tmp_path)
    said: list[str] = []
    prune_left_behind(tmp_path, site=SITE, line=said.append)
    assert engine.pruned == [(("vllm",), ("target=/src/vllm",))]
    assert notes(tmp_path) == []
    assert said == ["a build of vllm was killed", "removed 3 records of vllm from BuildKit's cache"]


def test_the_note_stays_when_the_engine_refuses(engine: Engine, tmp_path: Path) -> None:
    path = kill_a_build(tmp_path)
    engine.refuses = True
    said: list[str] = []
    prune_left_behind(tmp_path, site=SITE, line=said.append)
    assert notes(tmp_path) == [path]
    assert said[-1].startswith("warning: ")
    assert "the build cache could not be pruned" in said[-1]
    engine.refuses = False
    prune_left_behind(tmp_path, site=SITE, line=said.append)
    assert notes(tmp_path) == []


def test_records_in_use_are_tried_again_and_then_left_to_the_next_run(
    engine: Engine, tmp_path: Path
) -> None:
    path = kill_a_build(tmp_path)
    engine.busy = 7
    said: list[str] = []
    prune_left_behind(tmp_path, site=SITE, line=said.append)
    assert len(engine.pruned) == 5
    assert notes(tmp_path) == [path]
    assert "another build uses local source for vllm" in said[-1]
    prune_left_behind(tmp_path, site=SITE, line=said.append)
    assert len(engine.pruned) == 8
    assert notes(tmp_path) == []


def test_a_build_says_when_its_sources_could_not_be_pruned(engine: Engine, tmp_path: Path) -> None:
    engine.busy = 99
    with pytest.raises(RelforgeError) as caught:
        build(tmp_path, [])
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert len(notes(tmp_path)) == 1, "the next run is to try again"


def test_another_engine_is_not_pruned_for_this_one(engine: Engine, tmp_path: Path) -> None:
    path = kill_a_build(tmp_path, "engine-2")
    said: list[str] = []
    prune_left_behind(tmp_path, site=SITE, line=said.append)
    assert engine.pruned == []
    assert notes(tmp_path) == [path]
    assert "another engine" in said[-1]


def test_an_unreadable_note_is_kept_and_named(engine: Engine, tmp_path: Path) -> None:
    path = kill_a_build(tmp_path)
    path.write_text("{")
    said: list[str] = []
    prune_left_behind(tmp_path, site=SITE, line=said.append)
    assert notes(tmp_path) == [path]
    assert str(path) in said[-1]
    assert engine.pruned == []


def test_a_note_that_was_never_finished_goes(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "prune").mkdir()
    descriptor, unfinished = owned_file(tmp_path / "prune", sealed_cache._UNFINISHED)
    # As if made by a process that is gone, first with its lock still held.
    gone = unfinished.rename(unfinished.with_name(unfinished.name.replace("-", "-4194", 1)))
    prune_left_behind(tmp_path, site=SITE, line=print)
    assert notes(tmp_path) == [gone]
    os.close(descriptor)
    prune_left_behind(tmp_path, site=SITE, line=print)
    assert notes(tmp_path) == []
    assert engine.pruned == []


def test_no_home_no_notes(engine: Engine, tmp_path: Path) -> None:
    prune_left_behind(tmp_path / "absent", site=SITE, line=print)
    assert engine.pruned == []
