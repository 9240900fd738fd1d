"""Locks of what cannot be had where they are made: said, planned, and never built."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from relforge.cancel import CancelToken
from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.lock import load_lock
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site
from relforge.resolving import resolve_lock

FLEET = Project((builtin_root(),))
GIVEN = "deepseek-r1-int8-kunlunxin"


def resolved(project: Project, name: str, home: Path, *, partial: bool) -> list[str]:
    said: list[str] = []
    lock = resolve_lock(
        project,
        project.release(name),
        Site(),
        home=home,
        on_line=said.append,
        cancel=CancelToken(),
        partial=partial,
    )
    return [*lock.unresolved, *said]


def test_what_is_handed_out_on_request_is_named_with_whom_to_ask(tmp_path: Path) -> None:
    with pytest.raises(RelforgeError, match="handed out on request") as caught:
        resolved(FLEET, GIVEN, tmp_path, partial=False)
    assert caught.value.code == ExitCode.SOURCE
    assert "ask kunlunxin-support@baidu.com for the FlagRelease image" in (caught.value.hint or "")
    found = resolved(FLEET, GIVEN, tmp_path, partial=True)
    assert found[0].startswith("digest of iregistry.baidu-int.com/xmlir/")
    assert "unresolved: the image" in found[1]


def test_a_mistake_in_a_manifest_is_no_matter_of_where_one_stands(tmp_path: Path) -> None:
    for folder in ("manifests", "patches", "dockerfiles", "examples"):
        shutil.copytree(builtin_root() / folder, tmp_path / folder)
    manifest = tmp_path / "manifests" / "releases" / "deepseek-r1-nvidia_h100-sglang.yaml"
    manifest.write_text(manifest.read_text().replace("sglang[all]==0.4.3.post4", "sglang=="))
    project = Project((tmp_path,))
    with pytest.raises(RelforgeError, match="not a Python requirement") as caught:
        resolved(project, "deepseek-r1-nvidia_h100-sglang", tmp_path / "home", partial=True)
    assert caught.value.code == ExitCode.USAGE


def test_a_source_that_was_not_had_is_known_by_its_pin() -> None:
    release = FLEET.release("deepseek-r1-nvidia_h100-vllm")
    device = FLEET.device(release.device).for_release(release.stack)
    lock = load_lock(FLEET, release, device)
    assert lock.sources["vllm"].tree is None
    assert lock.tree("vllm") == release.sources["vllm"].commit  # type: ignore[union-attr]
    assert any(what.startswith("source vllm (https://") for what in lock.unresolved)
    assert "Python packages" in lock.unresolved


def test_such_a_release_is_planned_and_rendered_and_its_build_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site.yaml").write_text("kind: site\nhome: home\ndist: dist\n")
    monkeypatch.setenv("RELFORGE_SITE", str(tmp_path / "site.yaml"))
    monkeypatch.chdir(builtin_root())
    name = "deepseek-r1-distill-qwen-32b-nvidia_h100"
    assert dispatch("plan", ["--release", name, "--json"]) == 0
    (planned,) = json.loads(capsys.readouterr().out)["releases"]
    assert {s["status"] for s in planned["stages"] if s["name"] in ("sources", "build")} == {"run"}
    assert planned["unresolved"][-1].startswith("digest of flagrelease-registry.")
    assert dispatch("plan", ["--release", name]) == 0
    assert "! cannot be built yet; not resolved: " in capsys.readouterr().out
    assert dispatch("render", ["--release", name]) == 0
    assert "FROM ${BASE_IMAGE} AS system" in capsys.readouterr().out
    assert dispatch("build", ["--release", name]) == 4
    said = " ".join(capsys.readouterr().err.split())
    assert f"the lock of {name} is not whole" in said
    assert "not resolved: digest of flagrelease-registry." in said
    assert f"relforge lock --release {name}" in said
