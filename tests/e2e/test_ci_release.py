"""The jobs of generated workflows with an engine: a change is built, a tag is released."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import junitparser
import pytest
import yaml

from relforge.ci.github import PATH as WORKFLOW
from tests.e2e.conftest import Hello, relforge
from tests.support.ci_steps import GithubRunner, gitlab_job
from tests.support.ci_wheel import program
from tests.support.patching import Repository, new_repository

pytestmark = pytest.mark.timeout(900)


def in_git(hello: Hello, tmp_path: Path) -> tuple[Repository, Path]:
    """The project in a repository, with a site configuration that has a target and a secret."""
    repository = new_repository(tmp_path / "repository")
    shutil.copytree(hello.project, repository.path, dirs_exist_ok=True)
    shelf = tmp_path / "shelf"
    site = json.loads(hello.site.read_text())
    site.pop("dist")
    assert relforge("keys", "new", "--out", tmp_path / "keys", "--name", "maker").code == 0
    site["publish"] = {
        "targets": {"shelf": {"kind": "folder", "path": str(shelf)}},
        "signing": {"key": "secrets/signing.pem"},
    }
    site["ci"] = {
        "install": [],
        "runner_install": [],
        "secrets": [{"name": "SIGNING_KEY", "file": "secrets/signing.pem"}],
    }
    (repository.path / "ci").mkdir()
    (repository.path / "ci" / "site.yaml").write_text(json.dumps(site))
    for kind in ("github", "gitlab"):
        done = relforge("ci", kind, "--project", repository.path, "--site",
                        repository.path / "ci" / "site.yaml")  # fmt: skip
        assert done.code == 0, done.stderr
    repository.commit()
    return repository, shelf


def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A runner's that has relforge: a home of its own, and this host's engine and indexes."""
    home = tmp_path / "runner-home"
    home.mkdir()
    place = program(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    kept = ("PATH", "DOCKER_", "PIP_", "SSL_", "HTTP", "http", "REQUESTS_")
    env = {k: v for k, v in os.environ.items() if k.startswith(kept)} | {"HOME": str(home)}
    # Where pip looks may be settings of the person who runs the tests.
    own = Path.home() / ".config" / "pip" / "pip.conf"
    return {"PIP_CONFIG_FILE": str(own), **env} if own.is_file() else env


def test_github_builds_a_change_and_releases_a_tag(
    hello: Hello, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, shelf = in_git(hello, tmp_path)
    key = (tmp_path / "keys" / "maker.sign.pem").read_text()
    values: dict[str, Any] = {
        "github.repository": "team/hello",
        "github.ref_type": "branch",
        "secrets.SIGNING_KEY": key,
    }
    runner = GithubRunner(
        tmp_path / "github", repository.path, values, environment(tmp_path, monkeypatch)
    )
    workflow = repository.path / WORKFLOW
    plan = runner.run(workflow, "plan")
    assert plan.code == 0, plan.said
    (job,) = json.loads(plan.outputs["matrix"])["include"]
    build = runner.run(workflow, "build", matrix=job)
    assert build.code == 0, build.said
    (suite,) = junitparser.JUnitXml.fromstring(build.files["relforge-ci/build.xml"])
    passed = {one.name for one in suite if one.is_passed}
    assert {"build", "smoke"} <= passed
    assert "evaluate" not in passed
    assert "hello" in build.summary

    values["github.ref_type"] = "tag"
    publish = runner.run(workflow, "publish", matrix=job)
    assert publish.code == 0, publish.said
    assert "Remove secrets" in publish.steps
    assert not (runner.folder / "work" / "ci" / "secrets" / "signing.pem").exists()
    assert not (shelf / "hello-cpu_x86").exists(), "a candidate is not where people look"
    promote = runner.run(workflow, "promote", matrix=job)
    assert promote.code == 0, promote.said
    assert (shelf / "hello-cpu_x86" / "release.json").is_file()
    (suite,) = junitparser.JUnitXml.fromstring(promote.files["relforge-ci/promote.xml"])
    assert "promote shelf" in {one.name for one in suite if one.is_passed}
    for done in (build, publish, promote):
        assert key.splitlines()[1] not in done.said + done.summary

    # Another image in the folder than the one that was handed over is not promoted.
    handed = runner.artifacts["relforge-publish-hello-cpu_x86"]
    other = json.loads(handed["published.json"])
    other["image_digest"] = "sha256:" + "0" * 64
    handed["published.json"] = json.dumps(other).encode()
    refused = runner.run(workflow, "promote", matrix=job)
    assert refused.code == 7
    assert "another image" in refused.said
    # Of what was not published nothing is promoted.
    del runner.artifacts["relforge-publish-hello-cpu_x86"]
    assert runner.run(workflow, "promote", matrix=job).code == 1


def test_gitlab_releases_a_tag(
    hello: Hello, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, shelf = in_git(hello, tmp_path)
    work = tmp_path / "work"
    subprocess.run(["git", "clone", "-q", repository.path, work], check=True)
    env = {
        **environment(tmp_path, monkeypatch),
        "CI_PROJECT_PATH": "team/hello",
        "CI_COMMIT_TAG": "v1",
        "SIGNING_KEY": str(tmp_path / "keys" / "maker.sign.pem"),
    }
    content = yaml.safe_load((work / ".gitlab-ci.yml").read_text())
    planned = gitlab_job(content["relforge-plan"], work, env)
    assert planned.returncode == 0, planned.stderr
    child = yaml.safe_load((work / "relforge-ci" / "child.yml").read_text())
    for name in ("publish hello-cpu_x86", "promote hello-cpu_x86"):
        done = gitlab_job(child[name], work, env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not (work / "ci" / "secrets" / "signing.pem").exists()
        report = work / child[name]["artifacts"]["reports"]["junit"]
        (suite,) = junitparser.JUnitXml.fromfile(str(report))
        assert suite.errors == suite.failures == 0
    assert (shelf / "hello-cpu_x86" / "release.json").is_file()
