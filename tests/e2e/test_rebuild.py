"""The same lock gives the same digest, whoever builds it where; what a rebuild says when not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from relforge.engine.images import find_image
from tests.e2e.conftest import CHECKOUT, Hello, command
from tests.e2e.test_hello import edited_source, pin
from tests.support.residue import residue, written_at

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif("RELFORGE_LONG" not in os.environ, reason="minutes: RELFORGE_LONG=1"),
]


def built(hello: Hello) -> dict[str, Any]:
    """The result of ``relforge build``, as the store has it."""
    done = hello.run("build", "--json")
    assert done.code == 0, done.stderr
    for path in (hello.home / "store" / "results" / "build").glob("*.json"):
        result: dict[str, Any] = json.loads(path.read_text())["result"]
        if result["image_digest"] == done.json["image_digest"]:
            return result
    raise AssertionError("the store has no such result")


def test_a_rebuild_elsewhere_gives_the_same_digest(hello: Hello, tmp_path: Path) -> None:
    """Another checkout, home, umask, time zone, hash seed and host name."""
    result = built(hello)
    tree = tmp_path / "another place" / "checkout"
    home = tmp_path / "another home"
    home.mkdir()
    (home / "base").symlink_to((hello.home / "base").resolve())
    site = hello.other_site(tmp_path / "elsewhere.yaml", home=str(home))
    words = command(
        "rebuild", "--check", "--json", "--against", result["layout"], "--project",
        tree / "examples" / "hello", "--release", "hello-cpu_x86", "--site", site,
    )  # fmt: skip
    before = os.umask(0o077)
    try:
        for folder in ("relforge", "dockerfiles", "manifests", "patches", "examples"):
            shutil.copytree(CHECKOUT / folder, tree / folder, copy_function=shutil.copyfile)
        done = subprocess.run(
            ["unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec "$@"', "-", *words],
            capture_output=True, text=True, check=False, cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "TZ": "Pacific/Kiritimati",
                 "LC_ALL": "C", "PYTHONHASHSEED": "7"},
        )  # fmt: skip
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)
    assert found["image_digest"] == result["image_digest"]
    assert found["compared"]["identical"]
    assert found["layout"] is None
    assert [path.name for path in (home / "work").iterdir() if path.is_dir()] == []
    assert not list((home / "store" / "results").glob("*build/*.json"))


def test_a_rebuild_takes_nothing_from_the_store_and_replaces_nothing(hello: Hello) -> None:
    result = built(hello)
    kept = find_image(result["image_name"])
    stamps = {path: path.stat().st_mtime_ns for path in Path(result["layout"]).rglob("*")}
    done = hello.run("rebuild", "--json")
    assert done.code == 0, done.stderr
    found = done.json
    assert found["compared"]["identical"]
    assert found["notes"] == []
    assert found["seconds"] > 3, "a compiler ran"
    log = (Path(found["layout"]).parent / "logs" / "buildkit.log").read_text()
    steps = [row for row in log.splitlines() if row.startswith("[") and "] RUN" in row]
    assert steps
    assert not [row for row in steps if row.endswith(": cached")]
    assert Path(found["layout"]) != Path(result["layout"])
    assert find_image(result["image_name"]) == kept
    assert {p: p.stat().st_mtime_ns for p in Path(result["layout"]).rglob("*")} == stamps
    again = hello.run("build", "--json")
    assert {s["name"]: s["status"] for s in again.json["stages"]}["build"] == "reused"


def test_a_planted_time_is_named_with_its_step_and_path(hello: Hello) -> None:
    manifest = hello.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    text = manifest.read_text()
    planted = "RUN date +%s%N > /home/relforge/built-at"
    assert text.count("\nbuild:\n") == 1
    manifest.write_text(
        text.replace("\nbuild:\n", f"\nbuild:\n  blocks:\n    healthcheck: {planted}\n")
    )
    locked = hello.run("lock")
    assert locked.code == 0, locked.stderr
    built(hello)
    done = hello.run("rebuild", "--check", "--json")
    assert done.code == 5, done.stderr
    (layer,) = done.json["compared"]["layers"]
    assert "date +%s%N > /home/relforge/built-at" in layer["created_by"]
    files = {file["path"]: file["kinds"] for file in layer["files"]}
    assert files["/home/relforge/built-at"] == ["content", "mtime"]
    assert files.keys() <= {"/home/relforge", "/home/relforge/built-at"}


def test_nothing_recorded_is_said_before_anything_is_built(hello: Hello, tmp_path: Path) -> None:
    home = tmp_path / "empty"
    home.mkdir()
    site = hello.other_site(tmp_path / "empty.yaml", home=str(home))
    done = hello.run("rebuild", "--check", site=site)
    assert done.code == 2, done.stderr
    assert "nothing is recorded to compare with" in done.stderr
    assert "--against" in done.stderr
    assert not (home / "store" / "results").exists()


def test_another_lock_is_told_from_an_unsteady_build(hello: Hello, tmp_path: Path) -> None:
    done = hello.run("release", "--json")
    assert done.code == 0, done.stderr
    pin(hello, edited_source(tmp_path, "hello_server/__init__.py", "# another lock\n"))
    found = hello.run("rebuild", "--check", "--json", "--against", hello.dist / "hello-cpu_x86")
    assert found.code == 5, found.stderr
    assert any("built of other inputs: trees.hello" in note for note in found.json["notes"])
    (layer,) = found.json["compared"]["layers"]
    changed = {file["path"].rpartition("site-packages/")[2] for file in layer["files"]}
    assert changed == {
        "hello_server/__init__.py",
        "hello_server/__pycache__/__init__.cpython-311.pyc",
        "hello_server-1.0.0.dist-info/RECORD",
    }


def test_hellos_image_holds_no_caches_logs_or_times(hello: Hello) -> None:
    layout = Path(built(hello)["layout"])
    assert list(residue(layout)) == []
    assert [(index, entry.path) for index, entry in written_at(layout)] == []


def test_the_real_image_holds_no_caches_logs_or_times(quickstart_dist: Path) -> None:
    layout = quickstart_dist / "image"
    assert list(residue(layout)) == []
    assert [(index, entry.path) for index, entry in written_at(layout)] == []
