"""Generated workflows: what real linters say of them, and that they are the same every time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.ci import github, gitlab
from relforge.ci.matrix import CiMatrix, _job, matrix_of
from relforge.cli.dispatch import dispatch
from relforge.errors import RelforgeError
from relforge.manifest.ci import CiSite
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site
from tests.support.ci_linters import actionlint, schema_faults, shell_faults
from tests.support.ci_steps import every_script
from tests.support.fleet import make_project

FULL = """\
kind: site
ci:
  install: ["relforge[lint]==1.2.3"]
  runner_install: []
  python: "3.11"
  branches: [main, "release/**"]
  release_tags: ["v*", "hello/*"]
  targets: [hub, mirror]
  per: device
  runner: ubuntu-22.04
  image: registry.example/python:3.11
  labels: {cpu_x86: [self-hosted, big-cpu]}
  environment: production
  timeout_minutes: 90
  secrets:
    - {name: SIGNING_KEY, file: secrets/signing key.pem}
    - {name: IDENTITY, file: secrets/identity.txt, jobs: [build, publish]}
  actions: {checkout: v4.1.0}
"""


def repository(folder: Path, inside: str = "", settings: str | None = None) -> Path:
    """A repository with the hello project; returns the project's folder."""
    root = folder / "repository"
    shutil.copytree(builtin_root() / "examples" / "hello", root / inside)
    subprocess.run(["git", "init", "-q", root], check=True)
    if settings is not None:
        (root / inside / "ci").mkdir()
        (root / inside / "ci" / "site.yaml").write_text(settings)
    return root / inside


def matrix_file(project: Path, *words: str) -> Path:
    file = project.parent / "matrix.json"
    out = subprocess_free("plan", "--all", "--matrix", "--project", str(project), *words)
    file.write_text(out)
    return file


def subprocess_free(verb: str, *words: str) -> str:
    """Stdout of a command that must succeed."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert dispatch(verb, list(words)) == 0
    return out.getvalue()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("settings", [None, FULL], ids=["defaults", "everything set"])
@pytest.mark.parametrize("inside", ["", "teams/serving"])
def test_linters_and_schemas_find_nothing(
    tmp_path: Path, inside: str, settings: str | None
) -> None:
    project = repository(tmp_path, inside, settings)
    words = ["--project", str(project)]
    if settings:
        words += ["--site", str(project / "ci" / "site.yaml")]
    top = tmp_path / "repository"
    assert dispatch("ci", ["github", *words]) == 0
    workflow = top / ".github" / "workflows" / "relforge.yml"
    assert actionlint(workflow) == []
    assert schema_faults("github-workflows", workflow) == []
    assert shell_faults(tmp_path / "bash", workflow, shell="bash") == ""
    assert dispatch("ci", ["gitlab", *words]) == 0
    pipelines = [top / ".gitlab-ci.yml"]
    matrix = matrix_file(project, *words[2:])
    for event in ("change", "tag"):
        child = tmp_path / f"{event}.yml"
        given = ["--child", event, "--matrix", str(matrix), "--out", str(child)]
        assert dispatch("ci", ["gitlab", *given, *words]) == 0
        pipelines.append(child)
    assert schema_faults("gitlab-ci", *pipelines) == []
    assert shell_faults(tmp_path / "sh", *pipelines) == ""


def test_the_linters_would_find_something(tmp_path: Path) -> None:
    file = tmp_path / "bad.yml"
    file.write_text(
        "'on': push\njobs:\n  a:\n    runs-on: nowhere\n    needs: [b]\n    steps:\n"
        "    - run: cd $HOME; echo ${{ steps.no.outputs.x }}\n"
    )
    assert {"nowhere", "does not exist", "not defined"} <= {
        word
        for word in ("nowhere", "does not exist", "not defined")
        if any(word in one for one in actionlint(file))
    }
    assert "SC2164" in shell_faults(tmp_path / "sh", file)
    file.write_text("'on': push\njobs: []\n")
    assert "jobs" in str(schema_faults("github-workflows", file))
    assert schema_faults("gitlab-ci", file)


def test_a_second_writing_changes_nothing_and_check_sees_an_edit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = repository(tmp_path)
    for name, path in (("github", github.PATH), ("gitlab", gitlab.PATH)):
        words = [name, "--project", str(project)]
        assert dispatch("ci", [*words, "--check"]) == 2
        assert "No such file" in capsys.readouterr().err
        assert dispatch("ci", words) == 0
        file = project / path
        before = file.read_bytes()
        assert dispatch("ci", [*words, "--check"]) == 0
        assert dispatch("ci", words) == 0
        assert file.read_bytes() == before
        assert file.read_text().startswith(f"# Made by `relforge ci {name} --project")
        file.write_text(file.read_text().replace("main", "master", 1))
        capsys.readouterr()
        assert dispatch("ci", [*words, "--check"]) == 2
        told = capsys.readouterr().err
        assert f"{file.name} is not what would be written now" in told
        assert f"next:  relforge ci {name} --project" in told
        assert dispatch("ci", [*words, "--python", "3.10"]) == 0
        assert dispatch("ci", [*words, "--check"]) == 2
        assert dispatch("ci", [*words, "--check", "--python", "3.10"]) == 0


@pytest.mark.parametrize(("name", "path"), [("github", github.PATH), ("gitlab", gitlab.PATH)])
def test_a_file_that_somebody_wrote_by_hand_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, path: str
) -> None:
    project = repository(tmp_path)
    file = project / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine: yes\n")
    assert dispatch("ci", [name, "--project", str(project)]) == 2
    assert f"{file.name} is somebody's own" in capsys.readouterr().err
    assert file.read_text() == "mine: yes\n"


def test_a_file_of_another_name_and_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = repository(tmp_path)
    out = tmp_path / "included.yml"
    words = ["gitlab", "--project", str(project)]
    assert dispatch("ci", [*words, "--out", str(out)]) == 0
    assert not (project / gitlab.PATH).exists()
    capsys.readouterr()
    assert dispatch("ci", [*words, "--out", "-"]) == 0
    assert capsys.readouterr().out == out.read_text()
    assert dispatch("ci", [*words, "--out", str(out), "--check"]) == 0


def everything(folder: Path, settings: str) -> dict[str, Any]:
    project = repository(folder, settings=settings)
    words = ["--project", str(project), "--site", str(project / "ci" / "site.yaml")]
    assert dispatch("ci", ["github", *words]) == 0
    found: dict[str, Any] = yaml.safe_load((project / github.PATH).read_text())
    return found


def test_every_setting_counts(tmp_path: Path) -> None:
    found = everything(tmp_path, FULL)
    text = json.dumps(found)
    assert found["on"]["push"] == {"branches": ["main", "release/**"], "tags": ["v*", "hello/*"]}
    for said in ("relforge[lint]==1.2.3", "checkout@v4.1.0", "--target hub --target mirror"):
        assert said in text
    assert "relforge[bench" not in text, "runners have it"
    jobs = found["jobs"]
    assert jobs["promote"]["environment"] == "production"
    assert jobs["check"]["runs-on"] == "ubuntu-22.04"
    assert {jobs[name]["timeout-minutes"] for name in ("build", "publish", "promote")} == {90}
    assert jobs["check"]["env"]["RELFORGE_SITE"].endswith("/ci/site.yaml")


def test_a_job_gets_no_secret_that_it_does_not_need(tmp_path: Path) -> None:
    found = everything(tmp_path, FULL)
    named = {job: json.dumps(content) for job, content in found["jobs"].items()}
    assert {job for job, text in named.items() if "secrets.SIGNING_KEY" in text} == {
        "publish", "promote",
    }  # fmt: skip
    assert {job for job, text in named.items() if "secrets.IDENTITY" in text} == {
        "build", "publish",
    }  # fmt: skip
    for job in ("build", "publish", "promote"):
        steps = found["jobs"][job]["steps"]
        names = [step.get("name") for step in steps]
        removal = steps[names.index("Remove secrets")]
        assert removal["if"] == "always()"
        assert names.index("Secrets as files") < names.index("Remove secrets")
        assert [step for step in steps if "secrets." in json.dumps(step)] == [
            steps[names.index("Secrets as files")]
        ]


def test_no_expression_stands_in_a_shell_block_and_no_more_is_allowed_than_reading(
    tmp_path: Path,
) -> None:
    """A name of a release, a branch or a title would else be read as a command."""
    found = everything(tmp_path, FULL)
    assert found["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in found["jobs"].values())
    scripts = every_script(found)
    assert len(scripts) > 10
    assert [at for at, text in scripts if "${{" in text] == []
    for job in found["jobs"].values():
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"actions/[a-z-]+@v[0-9]+\.[0-9]+\.[0-9]+", step["uses"])
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_promotions_do_not_interleave(tmp_path: Path) -> None:
    found = everything(tmp_path, FULL)
    assert found["jobs"]["promote"]["strategy"]["max-parallel"] == 1
    assert "github.ref_type == 'tag' && 'relforge-release'" in found["concurrency"]["group"]
    assert (
        found["concurrency"]["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"
    )
    project = tmp_path / "repository"
    matrix = CiMatrix.model_validate_json(matrix_file(project).read_text())
    place = _place(project)
    child = gitlab.child(CiSite(), place, matrix, release=True)
    assert child["promote hello-cpu_x86"]["resource_group"] == "relforge-promote"
    assert child["promote hello-cpu_x86"]["needs"] == ["publish hello-cpu_x86"]


def _place(project: Path) -> Any:
    from relforge.ci.place import Place

    return Place.of(Project((project, builtin_root())), Site())


def test_without_targets_nothing_is_promoted(tmp_path: Path) -> None:
    found = everything(tmp_path, "kind: site\nci: {targets: []}\n")
    assert "promote" not in found["jobs"]
    assert "--target" not in json.dumps(found)


def test_nothing_changed_is_a_pipeline_all_the_same() -> None:
    found = gitlab.child(CiSite(), _place(builtin_root()), CiMatrix(include=()), release=False)
    assert set(found) == {"workflow", "nothing to do"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gitlab", "--child", "tag"], "--child and --matrix go together"),
        (["github", "--python", "two"], "--python: 'two' cannot be used"),
        (["github", "--branch", "a b"], "--branch: 'a b' cannot be used"),
        (["github", "--release-tag", "$(id)"], "--release-tag: '$(id)' cannot be used"),
        (["gitlab", "--child", "tag", "--matrix", "none.json"], "this is no matrix"),
    ],
)
def test_wrong_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    project = repository(tmp_path)
    assert dispatch("ci", [*words, "--project", str(project)]) == 2
    assert said in capsys.readouterr().err
    assert not (project / ".github").exists()


def test_secrets_need_a_site_configuration_in_the_repository(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = repository(tmp_path)
    site = tmp_path / "site.yaml"
    site.write_text(FULL)
    assert dispatch("ci", ["github", "--project", str(project), "--site", str(site)]) == 2
    assert "is not in the repository" in capsys.readouterr().err


@pytest.mark.parametrize(
    "secret",
    [
        {"name": "PATH", "file": "x"},
        {"name": "GITHUB_TOKEN", "file": "x"},
        {"name": "A-B", "file": "x"},
        {"name": "KEY", "file": "../x"},
    ],
)
def test_what_no_secret_can_be(secret: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"name|file"):
        CiSite.model_validate({"secrets": [secret]})


def fleet_matrix(tmp_path: Path, count: int, **ci: Any) -> CiMatrix:
    root = tmp_path / "fleet"
    root.mkdir()
    make_project(root, count, 2)
    project = Project((root, builtin_root()))
    site = Site.model_validate({"ci": ci})
    found, failed = matrix_of(project, site, project.own_releases)
    assert failed == []
    return found


def test_a_device_is_where_its_releases_run(tmp_path: Path) -> None:
    found = fleet_matrix(tmp_path, 12, labels={"chip_1": ["self-hosted", "rack-7"]})
    by_name = {one.name: one for one in found.include}
    assert len(by_name) == 12
    assert by_name["model-0-chip_1"].runner == ("self-hosted", "rack-7")
    assert by_name["model-0-chip_1"].build_runner == ("self-hosted", "rack-7")
    assert by_name["model-0-chip_1"].tags == ("rack-7",)
    assert by_name["model-0-chip_2"].runner == ("self-hosted", "relforge-chip_2")
    assert by_name["model-0-chip_2"].build_runner == ("ubuntu-latest",)
    assert by_name["model-0-chip_2"].hosted
    assert not by_name["model-0-chip_1"].hosted


def test_a_job_for_each_device_has_all_of_its_releases(tmp_path: Path) -> None:
    found = fleet_matrix(tmp_path, 12, per="device")
    assert len(found.include) == 10
    assert found.include[0].releases == ("model-0-chip_0", "model-1-chip_0")


def test_more_jobs_than_a_matrix_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relforge.ci.matrix.MOST_JOBS", 11)
    with pytest.raises(RelforgeError, match="12 jobs are more") as told:
        fleet_matrix(tmp_path, 12)
    assert "per: device" in str(told.value.hint)


def test_what_is_open_gets_no_job_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The built-in project: most of its locks are made where a vendor's packages are."""
    assert dispatch("plan", ["--all", "--matrix", "--project", str(builtin_root())]) == 0
    told = capsys.readouterr()
    assert told.out.count("\n") == 1
    found = CiMatrix.model_validate_json(told.out)
    assert "tiny-adder-cpu_x86" in [one.name for one in found.include]
    left_out = {one.release: one.reason for one in found.left_out}
    assert "deepseek-r1-int4-bi_V150" in left_out
    assert all(reason.startswith("not resolved: ") for reason in left_out.values())
    for name, reason in left_out.items():
        assert f"{name}: no job: {reason}\n" in told.err


def test_a_release_that_cannot_be_planned_fails_the_plan_and_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "fleet"
    root.mkdir()
    make_project(root, 3, 2)
    (root / "manifests" / "releases" / "model-0-chip_1.lock.yaml").unlink()
    assert dispatch("plan", ["--all", "--matrix", "--project", str(root)]) == 2
    told = capsys.readouterr()
    names = [one["name"] for one in json.loads(told.out)["include"]]
    assert names == ["model-0-chip_0", "model-0-chip_2"]
    assert "has no lock" in told.err


def test_an_accelerators_release_is_built_and_a_processors_served() -> None:
    project = Project((builtin_root(),))
    jobs = {name: _job(name, project.device(name), CiSite()) for name in ("cpu_x86", "bi_V150")}
    assert (jobs["cpu_x86"].verb, jobs["cpu_x86"].hosted) == ("smoke", True)
    assert (jobs["bi_V150"].verb, jobs["bi_V150"].hosted) == ("build", False)
    assert jobs["bi_V150"].build_runner == ("self-hosted", "relforge-bi_V150")
