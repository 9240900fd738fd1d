"""What a person types at `relforge release`, and what becomes of it: no engine, until `render`."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relforge.evidence.reading_runs import list_runs
from relforge.evidence.runs import Run
from tests.e2e.conftest import Result, command
from tests.support.hello_fleet import make_project, make_site

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Scene:
    work: Path
    names: tuple[str, ...]

    @property
    def project(self) -> Path:
        return self.work / "project"

    @property
    def home(self) -> Path:
        return self.work / "home"

    @property
    def runs(self) -> list[Run]:
        return list(list_runs(self.home))

    def site(self, **more: Any) -> Path:
        settings = {
            "kind": "site", "home": str(self.home),
            "engine": {"host": f"unix://{self.work / 'none.sock'}"}, **more,
        }  # fmt: skip
        return make_site(self.work / "site.yaml", self.work, settings)

    def type(self, *words: str | Path, cwd: Path | None = None) -> Result:
        site = self.work / "site.yaml"
        if not site.exists():
            self.site()
        done = subprocess.run(
            command(*words, "--site", site), capture_output=True, text=True, check=False,
            cwd=cwd or self.project, timeout=120,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    def spoil(self, name: str) -> tuple[Path, str]:
        """A release that cannot be planned; its file, and the text that it had."""
        path = self.project / "manifests" / "releases" / f"{name}.yaml"
        text = path.read_text()
        path.write_text(text.replace("port: 8000", "prot: 8000"))
        return path, text


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, make_project(tmp_path / "project", 3))


def test_a_stage_that_is_not_there_makes_no_run(scene: Scene) -> None:
    done = scene.type("release", "--all", "--until", "rendr")
    assert done.code == 2
    assert done.stderr.count("unknown stage 'rendr'") == 1
    assert "did you mean 'render'?" in done.stderr
    done = scene.type("release", "--all", "--from", "build", "--until", "render")
    assert done.code == 2
    assert "--from build comes after --until render" in done.stderr
    assert scene.runs == []


def test_a_run_goes_on_in_its_own_project_wherever_one_stands(scene: Scene) -> None:
    path, text = scene.spoil(scene.names[1])
    assert scene.type("release", "--all", "--until", "render").code == 2
    (run,) = scene.runs
    path.write_text(text)
    other = scene.work / "other"
    shutil.copytree(scene.project, other)
    for name in scene.names:
        manifest = other / "manifests" / "releases" / f"{name}.yaml"
        manifest.write_text(manifest.read_text().replace("title:", "title: Another"))
    done = scene.type("release", "--resume", run.id, "--jobs", "3", "--fail-fast", cwd=other)
    assert done.code == 0, done.stderr
    (again,) = scene.runs
    assert again.state == "done"
    assert (again.asked.root, again.asked.dist) == (run.asked.root, run.asked.dist)
    assert (again.asked.jobs, again.asked.fail_fast) == (3, True)
    assert (run.asked.jobs, run.asked.fail_fast) == (None, False)


def test_what_was_changed_since_fails_alone_when_the_run_goes_on(scene: Scene) -> None:
    assert scene.type("release", "--all", "--until", "build").code == 3, "there is no engine"
    (run,) = scene.runs
    first, spoilt, changed = scene.names
    path, _ = scene.spoil(spoilt)
    other = scene.project / "manifests" / "releases" / f"{changed}.yaml"
    other.write_text(other.read_text().replace("port: 8000", "port: 8001"))
    done = scene.type("release", "--resume", run.id, "--json")
    assert done.code == 3, done.stderr
    assert f"{path}:" in done.stderr, "where the manifest is wrong"
    assert f"{changed} is not what it was when the run began" in done.stderr
    assert [one["release"] for one in done.json["releases"]] == [first]
    assert [one["release"] for one in done.json["not_started"]] == [spoilt, changed]
    assert done.json["not_started"][0]["where"].startswith(f"{path}:")
    (again,) = scene.runs
    assert [one.exit_code for one in again.releases] == [3, 2, 2]
    assert again.asked.keys == run.asked.keys
    assert again.release(changed).next == f"begin a new run: relforge release --release {changed}"
    assert again.release(first).stages[0].name == "preflight"


def test_a_project_that_is_gone_is_named(scene: Scene) -> None:
    path, text = scene.spoil(scene.names[1])
    assert scene.type("release", "--all", "--until", "render").code == 2
    (run,) = scene.runs
    path.write_text(text)
    moved = scene.work / "moved"
    scene.project.rename(moved)
    done = scene.type("release", "--resume", run.id, cwd=scene.work)
    assert done.code == 2
    assert f"the project of run {run.id} is gone" in done.stderr
    assert str(scene.project) in done.stderr
    done = scene.type("release", "--resume", run.id, "--project", moved, cwd=scene.work)
    assert done.code == 0, done.stderr


def test_fail_fast_counts_what_cannot_be_planned(scene: Scene) -> None:
    scene.spoil(scene.names[2])
    done = scene.type("release", "--all", "--until", "render", "--fail-fast")
    assert done.code == 2
    assert "nothing was begun" in done.stderr
    assert scene.runs == []


def test_one_cause_is_told_once_and_json_has_it(scene: Scene) -> None:
    done = scene.type("release", "--all", "--until", "build", "--json")
    assert done.code == 3
    assert done.stderr.count(f"3 releases ({', '.join(scene.names)})") == 1
    for one in json.loads(done.stdout)["releases"]:
        assert (one["state"], one["exit_code"]) == ("failed", 3)
        assert "preflight" in one["error"]
        assert one["next"].startswith("relforge release --resume ")
    (run,) = scene.runs
    shown = scene.type("runs", "show", run.id)
    assert shown.stdout.count("3 releases (") == 1
    one = scene.type("runs", "show", run.id, "--release", scene.names[1]).stdout
    assert f"{scene.names[1]}: this host is not ready: engine" in one


def test_a_size_needs_its_unit(scene: Scene) -> None:
    assert scene.type("release", "--all", "--until", "render").code == 0
    done = scene.type("runs", "gc", "--max-size", "5")
    assert done.code == 2
    assert "--max-size" in done.stderr
    assert len(scene.runs) == 1


def test_a_home_that_is_none_is_named(scene: Scene) -> None:
    scene.home.write_text("a file")
    for words in (("runs",), ("plan", "--all"), ("release", "--all")):
        done = scene.type(*words)
        assert done.code == 3, done.stderr
        assert f"where: {scene.home}\n" in done.stderr
        assert "RELFORGE_HOME" in done.stderr


def test_a_cluster_that_does_not_answer_is_told_at_once(scene: Scene) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        nowhere = f"127.0.0.1:{taken.getsockname()[1]}"
        scene.site(ray={"address": nowhere})
        began = time.monotonic()
        for words in (("release", "--all", "--executor", "ray"), ("worker", "--address", nowhere)):
            done = scene.type(*words)
            assert done.code == 3, done.stderr
            assert "no head of a Ray cluster answers" in done.stderr
            assert nowhere in done.stderr
        assert time.monotonic() - began < 60
    for address in ("x", ":6379", "host:99999", "me@host:1"):
        done = scene.type("worker", "--address", address)
        assert done.code == 2, done.stderr
        assert "is no address of a head" in done.stderr
