"""The jobs of generated workflows run, block by block, on clones of a project."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import junitparser
import pytest
import yaml

from relforge.ci.github import PATH as WORKFLOW
from relforge.ci.shell import remove_secrets, secrets_to_files
from relforge.cli.dispatch import dispatch
from relforge.manifest.ci import CiSecret
from relforge.manifest.project import builtin_root
from tests.support.ci_linters import schema_faults
from tests.support.ci_steps import Done, GithubRunner, gitlab_job
from tests.support.ci_wheel import offline_pip, program
from tests.support.patching import Repository, new_repository

pytestmark = pytest.mark.timeout(300)
NO_ENGINE = "unix:///nowhere/docker.sock"
RELEASE = "manifests/releases/hello-cpu_x86.yaml"


@dataclass
class Scene:
    """A repository of the hello project with its workflows in it, and a runner."""

    repository: Repository
    runner: GithubRunner
    env: dict[str, str]
    first: str

    def commit(self, old: str | None = None, new: str = "", **files: str) -> str:
        if old is not None:
            path = self.repository.path / RELEASE
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new))
        for name, text in files.items():
            (self.repository.path / f"{name}.md").write_text(text)
        return self.repository.commit()

    def github(self, job: str, **more: Any) -> Done:
        return self.runner.run(self.repository.path / WORKFLOW, job, **more)

    def event(self, *, before: str = "", base: str = "", ref_type: str = "branch") -> None:
        self.runner.values |= {
            "github.event.before": before,
            "github.event.pull_request.base.sha": base,
            "github.ref_type": ref_type,
        }

    def planned(self) -> list[str]:
        """The releases that the plan job has jobs for."""
        done = self.github("plan")
        assert done.code == 0, done.said
        jobs = json.loads(done.outputs["matrix"])["include"]
        return [name for job in jobs for name in job["releases"]]


def written(project: Path, *words: str) -> None:
    """Both workflows."""
    given = ["--project", str(project), "--site", str(project / "ci" / "site.yaml"), *words]
    for kind in ("github", "gitlab"):
        assert dispatch("ci", [kind, *given]) == 0


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    repository = new_repository(tmp_path / "repository")
    shutil.copytree(builtin_root() / "examples" / "hello", repository.path, dirs_exist_ok=True)
    settings = json.dumps({"kind": "site", "ci": {"install": [], "runner_install": []}})
    repository.write({"ci/site.yaml": settings.encode()})
    written(repository.path)
    first = repository.commit()
    home = tmp_path / "runner-home"
    home.mkdir()
    place = program(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "DOCKER_HOST": NO_ENGINE}
    runner = GithubRunner(tmp_path / "github", repository.path, {}, env)
    runner.values["github.repository"] = "team/hello"
    scene = Scene(repository, runner, env, first)
    scene.event()
    return scene


def test_check_passes_and_reports(scene: Scene) -> None:
    done = scene.github("check")
    assert done.code == 0, done.said
    assert done.summary.startswith("### relforge check: ")
    report = scene.runner.artifacts["relforge-check"]["check.xml"]
    (suite,) = junitparser.JUnitXml.fromstring(report)
    assert suite.tests > 5
    assert suite.failures == suite.errors == 0


def test_every_job_installs_what_it_needs_and_finds_it(scene: Scene, tmp_path: Path) -> None:
    (scene.repository.path / "ci" / "site.yaml").write_text("kind: site\n")
    written(scene.repository.path)
    scene.repository.commit()
    env = {**scene.env, **offline_pip(tmp_path / "wheels")}
    scene.runner.env = env
    done = scene.github("check")
    assert done.code == 0, done.said
    assert done.steps == ["Install relforge", "Check"]
    assert (scene.runner.folder / "work" / "relforge-ci" / "venv" / "bin" / "relforge").is_file()
    work = tmp_path / "gitlab"
    subprocess.run(["git", "clone", "-q", scene.repository.path, work], check=True)
    content = yaml.safe_load((work / ".gitlab-ci.yml").read_text())
    ran = gitlab_job(content["relforge-check"], work, env, shell=("sh", "-e", "-c"))
    assert ran.returncode == 0, ran.stderr
    assert (work / "relforge-ci" / "venv" / "bin" / "relforge").is_file()


def test_check_fails_on_a_fault_and_reports_it_all_the_same(scene: Scene) -> None:
    scene.commit("port: ", "prot: ")
    done = scene.github("check")
    assert done.code == 2
    assert "❌" in done.summary
    report = scene.runner.artifacts["relforge-check"]["check.xml"]
    (suite,) = junitparser.JUnitXml.fromstring(report)
    (bad,) = [one for one in suite if one.is_failure]
    assert "prot" in bad.result[0].message


def test_plan_has_jobs_for_what_a_change_concerns(scene: Scene) -> None:
    for_people = scene.commit(README="For people.\n")
    scene.event(before=scene.first)
    assert scene.planned() == []
    scene.commit("title: ", "title: The ")
    scene.event(before=for_people)
    assert scene.planned() == ["hello-cpu_x86"]
    scene.event(base=scene.first)
    assert scene.planned() == ["hello-cpu_x86"], "a pull request is all of its commits"


def test_a_pull_request_is_compared_with_where_it_left_the_branch(scene: Scene) -> None:
    """What others merged meanwhile is not its own."""
    scene.repository.git("checkout", "-q", "-b", "topic")
    scene.commit(NOTES="Mine.\n")
    scene.repository.git("checkout", "-q", "main")
    theirs = scene.commit("title: ", "title: Their ")
    scene.repository.git("checkout", "-q", "topic")
    scene.event(base=theirs)
    assert scene.planned() == []


@pytest.mark.parametrize("before", ["", "0" * 40, "f" * 40])
def test_a_new_branch_or_a_lost_commit_means_everything(scene: Scene, before: str) -> None:
    scene.event(before=before)
    assert scene.planned() == ["hello-cpu_x86"]


def test_a_tag_means_everything(scene: Scene) -> None:
    scene.event(before=scene.first, ref_type="tag")
    assert scene.planned() == ["hello-cpu_x86"]


def test_a_new_release_needs_no_new_workflow(scene: Scene) -> None:
    folder = scene.repository.path / "manifests" / "releases"
    for end in (".yaml", ".lock.yaml"):
        text = (folder / f"hello-cpu_x86{end}").read_text()
        (folder / f"hello-cpu_x86-second{end}").write_text(
            text.replace(
                "name: hello-cpu_x86\n", "name: hello-cpu_x86-second\nvariant: second\n"
            ).replace("release: hello-cpu_x86\n", "release: hello-cpu_x86-second\n")
        )
    scene.repository.commit()
    scene.event(before=scene.first)
    assert scene.planned() == ["hello-cpu_x86-second"]
    written(scene.repository.path, "--check")


def test_a_build_that_cannot_be_done_reports_why(scene: Scene) -> None:
    """Here no engine answers."""
    scene.event(before="")
    matrix = json.loads(scene.github("plan").outputs["matrix"])["include"][0]
    done = scene.github("build", matrix=matrix)
    assert done.code == 3, done.said
    report = scene.runner.artifacts["relforge-build-hello-cpu_x86"]["build.xml"]
    (suite,) = junitparser.JUnitXml.fromstring(report)
    assert suite.name == "hello-cpu_x86"
    assert suite.errors == 1
    assert {one.name for one in suite} >= {"preflight", "build", "smoke"}
    assert not [one.name for one in suite if one.name in ("build", "smoke") and one.is_passed]
    assert str(scene.runner.folder) not in report.decode()


def test_gitlab_checks_and_makes_its_child(scene: Scene, tmp_path: Path) -> None:
    content = yaml.safe_load((scene.repository.path / ".gitlab-ci.yml").read_text())
    before = scene.repository.head
    scene.commit("title: ", "title: The ")
    for event, names in (
        ({"CI_COMMIT_BEFORE_SHA": before}, {"build hello-cpu_x86"}),
        ({"CI_COMMIT_BEFORE_SHA": scene.repository.head}, {"nothing to do"}),
        (
            {"CI_MERGE_REQUEST_DIFF_BASE_SHA": before, "CI_COMMIT_BEFORE_SHA": "0" * 40},
            {"build hello-cpu_x86"},
        ),
        ({"CI_COMMIT_TAG": "v1"}, {"publish hello-cpu_x86", "promote hello-cpu_x86"}),
    ):
        work = tmp_path / "gitlab"
        shutil.rmtree(work, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", scene.repository.path, work], check=True)
        env = {**scene.env, "CI_PROJECT_PATH": "team/hello", **event}
        for job in ("relforge-check", "relforge-plan"):
            # dash is the shell of a small image
            shell = (
                ("sh", "-e", "-c") if job == "relforge-plan" else ("bash", "-eo", "pipefail", "-c")
            )
            done = gitlab_job(content[job], work, env, shell=shell)
            assert done.returncode == 0, done.stderr
        assert (work / content["relforge-check"]["artifacts"]["reports"]["junit"]).is_file()
        included = work / content["relforge"]["trigger"]["include"][0]["artifact"]
        child = yaml.safe_load(included.read_text())
        assert set(child) - {"workflow"} == names
        assert schema_faults("gitlab-ci", included) == []


def test_secrets_are_files_of_their_own_and_no_argument(tmp_path: Path) -> None:
    secrets = [
        CiSecret(name="SIGNING_KEY", file="keys/signing key.pem"),
        CiSecret(name="A_FILE", file="keys/other"),
    ]
    value = "first line\n$(touch pwned) 'quoted' \\n"
    (tmp_path / "given").write_text("given as a file\n")
    env = {"PATH": os.environ["PATH"], "SIGNING_KEY": value, "A_FILE": str(tmp_path / "given")}
    log = tmp_path / "trace"
    script = secrets_to_files(secrets, "site/")
    subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=execve", "-s", "9999", "-o", log, "sh", "-ec", script],
        cwd=tmp_path,
        env=env,
        check=True,
    )
    key = tmp_path / "site" / "keys" / "signing key.pem"
    assert key.read_text() == f"{value}\n"
    assert (tmp_path / "site" / "keys" / "other").read_text() == "given as a file\n"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert not (tmp_path / "pwned").exists()
    assert "execve(" in log.read_text()
    assert "first line" not in log.read_text()
    subprocess.run(["sh", "-ec", remove_secrets(secrets, "site/")], cwd=tmp_path, check=True)
    assert list((tmp_path / "site" / "keys").iterdir()) == []


def test_a_secret_that_is_not_there_stops_the_job_and_is_named(tmp_path: Path) -> None:
    script = secrets_to_files([CiSecret(name="SIGNING_KEY", file="key")], "")
    env = {"PATH": os.environ["PATH"], "SIGNING_KEY": ""}
    done = subprocess.run(
        ["sh", "-ec", script], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "SIGNING_KEY" in done.stderr
    assert list(tmp_path.iterdir()) == []
