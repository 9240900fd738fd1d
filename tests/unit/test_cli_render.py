"""``relforge render``: the Dockerfile on stdout or in a folder, whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site
from relforge.rendering import render_dockerfile
from relforge.subject import subject

REAL = "tiny-adder-cpu_x86"
HELLO = builtin_root() / "examples" / "hello"


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RELFORGE_SITE", raising=False)
    monkeypatch.chdir(builtin_root())


def test_it_prints_what_the_build_uses(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch("render", ["--device", "cpu_x86"]) == 0
    shown = capsys.readouterr().out
    project = Project((builtin_root(),))
    assert shown == render_dockerfile(subject(project, project.release(REAL), Site()))
    assert dispatch("render", ["--release", REAL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"dockerfiles": {REAL: shown}}


def test_several_go_to_a_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--all"]
    assert dispatch("render", words) == ExitCode.USAGE
    assert "--out DIR" in capsys.readouterr().err
    assert dispatch("render", [*words, "--out", str(tmp_path / "out")]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    written = {path.parent.name for path in paths}
    assert written >= {REAL, "deepseek-r1-int4-bi_V150"}
    assert "deepseek-r1-int8-kunlunxin" not in written, "its image is taken as it is"
    assert all(path.read_text().count("FROM ") > 3 for path in paths)


def test_what_cannot_be_built_yet_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch("render", ["--release", "deepseek-r1-nvidia_h100-vllm"]) == 0
    said = capsys.readouterr()
    assert "FROM " in said.out
    assert "cannot be built yet; not resolved: source vllm (https://" in said.err
    assert dispatch("render", ["--release", REAL]) == 0
    assert capsys.readouterr().err == ""


def test_all_are_those_of_the_project(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--project", str(HELLO), "--all", "--out", str(tmp_path)]
    assert dispatch("render", words) == 0
    (only,) = capsys.readouterr().out.splitlines()
    assert Path(only).parent.name == "hello-cpu_x86"


def test_an_image_that_is_taken_as_it_is_has_no_dockerfile(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert dispatch("render", ["--release", "deepseek-r1-int8-kunlunxin"]) == ExitCode.USAGE
    assert "has no Dockerfile" in capsys.readouterr().err


def test_when_one_cannot_be_rendered_nothing_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(HELLO, project)
    manifest = project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    text = manifest.read_text().replace("\nbuild:\n", "\nbuild:\n  template: absent.j2\n")
    manifest.write_text(text)
    words = ["--project", str(project), "--all", "--out", str(tmp_path / "out")]
    assert dispatch("render", words) == ExitCode.USAGE
    assert "the template absent.j2 does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
