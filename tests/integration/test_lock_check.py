"""Locks of several releases: each that is missing or stale is told, and none stops the others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode
from relforge.lock import NotAsLocked
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site
from relforge.subject import subject


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """hello; its source is a repository of this test."""
    root = tmp_path / "project"
    shutil.copytree(builtin_root() / "examples" / "hello", root)
    served = tmp_path / "git" / "hello.git"
    served.parent.mkdir()
    make: list[str | Path] = [sys.executable, root / "make_repo.py", served]
    subprocess.run(make, check=True, capture_output=True)
    (root / ".relforge").mkdir()
    (root / ".relforge" / "site.yaml").write_text(
        f"kind: site\nhome: home\n"
        f"git_mirrors: [{{prefix: 'https://git.example/', to: 'file://{served.parent}/'}}]\n"
    )
    monkeypatch.delenv("RELFORGE_SITE", raising=False)
    monkeypatch.chdir(root)
    return root


def release(root: Path, device: str, **changes: str) -> Path:
    """hello on one more device, with texts of its manifest replaced."""
    devices = root / "manifests" / "devices"
    devices.mkdir(exist_ok=True)
    text = (builtin_root() / "manifests" / "devices" / "cpu_x86.yaml").read_text()
    text = text.replace("name: cpu_x86", f"name: {device}").replace("aliases: [CPU-X86]", "")
    (devices / f"{device}.yaml").write_text(text.replace("default_release: tiny-adder-cpu_x86", ""))
    folder = root / "manifests" / "releases"
    path = folder / f"hello-{device}.yaml"
    text = (folder / "hello-cpu_x86.yaml").read_text().replace("cpu_x86", device)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    lock = (folder / "hello-cpu_x86.lock.yaml").read_text().replace("cpu_x86", device)
    lock_of(root, device).write_text(lock)
    return path


def lock_of(root: Path, device: str) -> Path:
    return root / "manifests" / "releases" / f"hello-{device}.lock.yaml"


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, rows by release, and stderr of ``relforge lock WORDS --json``."""
    code = dispatch("lock", [*words, "--json"])
    shown = capsys.readouterr()
    rows = json.loads(shown.out)["locks"]
    return code, {row["release"]: row for row in rows}, shown.err


def test_every_lock_that_does_not_fit_is_told_without_fetching(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release(project, "good")
    release(project, "missing")
    lock_of(project, "missing").unlink()
    release(project, "stale", **{"setuptools>=78,<81": "setuptools>=79,<81"})
    release(project, "unread")
    lock_of(project, "unread").write_text("kind: lock\nrelease: [\n")
    release(project, "broken", **{"engine: command": "engine: abacus"})
    shutil.rmtree(project.parent / "git")
    code, rows, stderr = told(capsys, "--check", "--all", "--offline")
    assert code == ExitCode.USAGE
    states = {name.removeprefix("hello-"): row["state"] for name, row in rows.items()}
    assert states == {
        "good": "fits",
        "cpu_x86": "fits",
        "missing": "missing",
        "stale": "stale",
        "unread": "stale",
        "broken": "failed",
    }
    for name in ("missing", "stale"):
        row = rows[f"hello-{name}"]
        assert row["hint"] == f"relforge lock --release hello-{name}"
        assert row["exit_code"] == ExitCode.USAGE
    assert "abacus" in stderr
    assert not (project / ".relforge" / "home" / "git").exists()
    assert dispatch("lock", ["--check", "--all", "--offline"]) == ExitCode.USAGE
    shown = capsys.readouterr().out
    assert f"{lock_of(project, 'missing')}  missing: hello-missing has no lock\n" in shown
    assert "  next: relforge lock --release hello-stale\n" in shown


def test_a_patch_set_that_changed_makes_its_lock_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("manifests", "patches", "dockerfiles", "examples"):
        shutil.copytree(builtin_root() / folder, tmp_path / folder)
    patch = next((tmp_path / "patches" / "vllm-0.32.0-cpu").glob("*.patch"))
    patch.write_bytes(patch.read_bytes() + b"\n")
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RELFORGE_SITE", raising=False)
    monkeypatch.chdir(tmp_path)
    words = ["--check", "--offline", "--release", "tiny-adder-cpu_x86"]
    code, rows, _stderr = told(capsys, *words)
    assert code == ExitCode.USAGE
    row = rows["tiny-adder-cpu_x86"]
    assert row["state"] == "stale"
    assert "vllm-0.32.0-cpu is not the one in the lock" in row["why"]
    project = Project((tmp_path,))
    with pytest.raises(NotAsLocked):
        subject(project, project.release("tiny-adder-cpu_x86"), Site())


def test_what_a_lock_pins_is_compared_with_what_is_there(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release(project, "altered")
    lock = lock_of(project, "altered")
    before = lock.read_text().replace("\n    tree: 576f3ce0", "\n    tree: 00000000")
    lock.write_text(before)
    release(project, "unpinned", **{"git.example/hello.git": "other.example/nothing.git"})
    words = ("--release", "hello-altered", "--release", "hello-cpu_x86")
    code, rows, _stderr = told(capsys, "--check", *words)
    assert code == ExitCode.USAGE
    assert rows["hello-cpu_x86"]["state"] == "unchanged"
    assert rows["hello-altered"]["state"] == "stale"
    assert "sources.hello.tree: 00000000" in rows["hello-altered"]["why"]
    assert lock.read_text() == before, "--check writes nothing"
    assert dispatch("lock", ["--check", "--release", "hello-cpu_x86"]) == 0


def test_a_release_that_cannot_be_locked_stops_no_other(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release(project, "a1", **{"git.example/hello.git": "gone.invalid/hello.git"})
    release(project, "a2", **{"engine: command": "engine: abacus"})
    release(project, "z1")
    lock_of(project, "z1").unlink()
    code, rows, stderr = told(capsys, "--all")
    assert {name: row["state"] for name, row in rows.items()} == {
        "hello-a1": "failed",
        "hello-a2": "failed",
        "hello-cpu_x86": "unchanged",
        "hello-z1": "written",
    }
    assert code == rows["hello-a1"]["exit_code"] == ExitCode.SOURCE
    assert rows["hello-a2"]["exit_code"] == ExitCode.USAGE
    assert "gone.invalid" in stderr
    assert "tiny-adder-cpu_x86" not in rows, "the built-in project's locks come with it"
    assert dispatch("lock", ["--check", "--release", "hello-z1"]) == 0


def test_offline_is_for_check(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch("lock", ["--all", "--offline"]) == ExitCode.USAGE
    assert "relforge lock --check --offline" in capsys.readouterr().err
