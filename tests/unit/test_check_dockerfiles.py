"""Rendered Dockerfiles are linted: faults stand at their templates' lines, and what could not be
looked at is told, never taken for well."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from relforge.checking import CheckReport, check_project, hadolint
from relforge.checking.origins import origins
from relforge.checking.remarks import EXEMPT
from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site
from relforge.rendering import render_dockerfile
from relforge.subject import subject

BAD = """\
{% extends "dockerfiles/base.j2" %}
{% block runtime %}
{{ super() }}
# What hadolint and BuildKit think of this is known.
ADD settings /etc/{{ release.device }}
{% endblock %}
"""
RULE = "DL3020"
REAL = "tiny-adder-cpu_x86"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The hello example; no engine answers, and no docker client is found."""
    root = tmp_path / "project"
    shutil.copytree(builtin_root() / "examples" / "hello", root)
    (root / "dockerfiles").mkdir()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("setpriv", "sh", "cat"):
        (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RELFORGE_SITE", raising=False)
    monkeypatch.chdir(root)
    return Project((root, behind(tmp_path / "behind")))


def behind(root: Path) -> Path:
    """What stands behind a project, with one device and one release alone."""
    for folder in ("dockerfiles", "examples", "patches"):
        shutil.copytree(builtin_root() / folder, root / folder)
    for kind, name in (("devices", "cpu_x86"), ("models", "tiny-adder"), ("releases", REAL)):
        manifests = root / "manifests" / kind
        manifests.mkdir(parents=True)
        for path in (builtin_root() / "manifests" / kind).glob(f"{name}.*"):
            shutil.copy(path, manifests)
    return root


def spoil(project: Project, text: str = BAD) -> Path:
    """The device's template says something that linters fault."""
    template = project.root / "dockerfiles" / "cpu_x86.j2"
    template.write_text(text)
    return template


def check(project: Project) -> CheckReport:
    return check_project(project, Site())


def program(name: str, script: str) -> None:
    """A program of this name, first on PATH."""
    path = Path(os.environ["PATH"].split(os.pathsep)[0]) / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_fault_stands_at_its_line_of_the_template(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    template = spoil(project)
    (fault,) = check(project).faults[:1]
    assert fault.where == f"{template}:5"
    assert fault.subject == "template dockerfiles/cpu_x86.j2"
    assert RULE in fault.message
    assert "`ADD settings /etc/cpu_x86`" in fault.message
    assert "relforge render --release" in (fault.hint or "")
    assert dispatch("check", []) == ExitCode.USAGE
    assert f"{template}:5: hadolint {RULE}" in capsys.readouterr().out


def test_releases_with_the_same_fault_tell_it_once_and_one_program_looks_at_all(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(project)
    log = tmp_path / "log"
    real = hadolint.program()
    program("hadolint", f'echo run >> {log}\nexec {real} "$@"')
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    report = check(project)
    (fault,) = report.faults
    # hello and tiny-adder: another package each, so that both are looked at.
    assert "and of 1 more" in fault.message
    assert log.read_text().splitlines() == ["run"]


def test_without_hadolint_the_look_is_not_run_and_faults_alone_decide(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(project)
    monkeypatch.setattr("sysconfig.get_path", lambda _name: "/nonexistent")
    assert dispatch("check", ["--json"]) == 0
    told = CheckReport.model_validate_json(capsys.readouterr().out)
    assert told.faults == ()
    (missing,) = (look for look in told.not_run if look.look == "hadolint")
    assert missing.reason == "hadolint is not installed"
    assert missing.remedy == "pip install 'relforge[lint]'"
    assert dispatch("check", []) == 0
    shown = capsys.readouterr().out
    assert "not-run: hadolint: hadolint is not installed\n  next: pip install" in shown
    assert " 0 faults," in shown
    assert ", 2 looks not taken\n" in shown
    spoil(project, "{{ nothing.has.this }}\n")
    assert dispatch("check", []) == ExitCode.USAGE


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo '<html>'", "gave no JSON"), ("echo broken >&2; exit 3", "broken")],
)
def test_a_hadolint_that_gives_no_answer_is_not_run(
    project: Project, script: str, reason: str
) -> None:
    program("hadolint", script)
    (look,) = (one for one in check(project).not_run if one.look == "hadolint")
    assert reason in look.reason


def test_configuration_for_hadolint_that_lies_about_does_not_count(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(project)
    (project.root / ".hadolint.yaml").write_text(f"ignored: [{RULE}]\n")
    monkeypatch.setenv("HADOLINT_IGNORE", RULE)
    monkeypatch.setenv("HADOLINT_OVERRIDE_INFO", RULE)
    assert RULE in check(project).faults[0].message


def test_a_template_may_say_itself_that_a_rule_does_not_fit(project: Project) -> None:
    spoil(project, BAD.replace("\nADD", f"\n# hadolint ignore={RULE}\nADD"))
    assert check(project).faults == ()


def test_an_unreadable_here_document_names_its_commonest_cause(project: Project) -> None:
    template = spoil(project, BAD.replace("ADD settings", "RUN <<'SH'\ntrue\nSH\nRUN true"))
    (fault,) = check(project).faults
    assert fault.where == f"{template}:8"
    assert "an empty line behind a here-document" in fault.message


@pytest.mark.parametrize("one", [one for one in EXEMPT if one.rule.startswith("DL")], ids=str)
def test_an_exempt_rule_is_one_that_hadolint_has(one: object, tmp_path: Path) -> None:
    lines = ("FROM debian:12", "RUN apt-get install -y gcc", "RUN cd /x", "USER root")
    (tmp_path / "D").write_text("\n".join((*lines, "")))
    rules = {remark.rule for remark in hadolint.remarks(tmp_path, ["D"])["D"]}
    assert getattr(one, "rule", None) in rules


def test_a_rule_that_is_exempt_in_one_stage_counts_in_others(project: Project) -> None:
    """The report is read as root; the image must not run as root unsaid."""
    template = spoil(project, BAD.replace("ADD settings /etc/{{ release.device }}", "USER root"))
    assert [fault.where for fault in check(project).faults] == [f"{template}:5"]


@pytest.mark.parametrize("name", ["hello-cpu_x86", "tiny-adder-cpu_x86"])
def test_every_line_is_led_back_to_the_template_that_has_it(project: Project, name: str) -> None:
    spoil(project)
    loaded = subject(project, project.release(name), Site())
    text = render_dockerfile(loaded)
    found = origins(loaded, text)
    assert len(found) == len(text.split("\n"))
    literal = 0
    for line, place in zip(text.split("\n"), found, strict=True):
        if not line.strip():
            continue
        assert place is not None
        file, number = place.rsplit(":", 1)
        source = Path(file).read_text().split("\n")[int(number) - 1]
        if "{" not in source:
            assert source == line
            literal += 1
    assert literal > 40


INFO = {
    "ServerVersion": "28.5.2",
    "ClientInfo": {"Plugins": [{"Name": "buildx", "Version": "VERSION", "Path": "/x/buildx"}]},
}


def docker(version: str, bake: str) -> None:
    """A docker client as ``docker info`` and ``docker buildx bake`` show it."""
    info = json.dumps(INFO).replace("VERSION", version)
    program("docker", f"case $1 in info) cat <<'J'\n{info}\nJ\n;; *) {bake} ;; esac")


def warning(rule: str, line: int) -> dict[str, object]:
    """One warning, as buildx 0.29 prints it."""
    place = {"ranges": [{"start": {"line": line}, "end": {"line": line}}]}
    url = "https://docs.example/rule/"
    return {"ruleName": rule, "description": "d", "url": url, "detail": "said", "location": place}


def test_an_old_buildx_is_not_run(project: Project) -> None:
    docker("v0.13.1", "exit 9")
    (look,) = check(project).not_run
    assert look.look == "BuildKit's check"
    assert "buildx 0.13.1 is too old" in look.reason
    assert "buildx 0.16 or newer" in (look.remedy or "")


def test_an_engine_whose_buildkit_cannot_check_is_not_run(project: Project) -> None:
    docker("v0.29.1", "echo 'ERROR: unsupported request frontend.lint' >&2; exit 1")
    (look,) = check(project).not_run
    assert look.reason == "the engine's BuildKit is too old to check"
    docker("v0.29.1", "echo 'ERROR: Cannot connect to the Docker daemon' >&2; exit 1")
    (look,) = check(project).not_run
    assert "Cannot connect" in look.reason


def test_what_buildkit_says_is_a_fault_at_its_line_and_exempt_rules_are_not(
    project: Project, tmp_path: Path
) -> None:
    checks = {
        "0": {"warnings": [warning("InvalidDefaultArgInFrom", 5), warning("StageNameCasing", 5)]},
        "1": {
            "warnings": None,
            "buildError": {
                "message": "nope: failed to resolve source metadata for docker.io/library/nope",
                "location": {},
            },
        },
    }
    told = {"group": {}, "target": {name: {"check": check} for name, check in checks.items()}}
    (tmp_path / "told.json").write_text(json.dumps(told))
    seen = tmp_path / "bake.json"
    docker("v0.29.1", f"cat bake.json > {seen}; cat {tmp_path}/told.json; exit 1")
    report = check(project)
    (fault,) = report.faults
    assert "BuildKit StageNameCasing: said: `FROM ${BASE_IMAGE} AS system`" in fault.message
    base = project.roots[1] / "dockerfiles" / "base.j2"
    number = base.read_text().split("\n").index("FROM ${BASE_IMAGE} AS system") + 1
    assert fault.where == f"{base}:{number}"
    (look,) = report.not_run
    assert look.look.startswith("BuildKit's check of ")
    assert "library/nope" in look.reason
    asked = json.loads(seen.read_text())
    contexts = [set(target["contexts"]) for target in asked["target"].values()]
    assert {"tools", "wheels", "build-wheels", "hello"} in contexts
