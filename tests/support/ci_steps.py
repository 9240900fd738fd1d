"""Runs the jobs of generated workflows as their runner would: each step's shell block in turn.

Of GitHub's actions only what a job reads of them is done: a checkout is a clone, artifacts are
copied. Expressions are those that the workflows have; another one is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_EXPRESSION = re.compile(r"\$\{\{ (.*?) \}\}")


@dataclass
class Done:
    """What a job came to. ``code`` is that of its first step that failed."""

    code: int = 0
    said: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)


@dataclass
class GithubRunner:
    """``values`` are the contexts that expressions read, by their whole names."""

    folder: Path
    repository: Path
    values: dict[str, Any]
    env: Mapping[str, str]
    artifacts: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def run(self, workflow: Path, job: str, *, matrix: Mapping[str, Any] | None = None) -> Done:
        """One job, or one of its matrix."""
        content = yaml.safe_load(workflow.read_text())
        plan = content["jobs"][job]
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        values = {**self.values, **{f"matrix.{k}": v for k, v in (matrix or {}).items()}}
        values["github.workspace"] = str(work)
        temp = self.folder / "runner"
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir(parents=True)
        files = {name: temp / name for name in ("output", "path", "env", "summary")}
        for path in files.values():
            path.touch()
        own = {f"GITHUB_{name.upper()}": str(files[name]) for name in ("output", "path", "env")}
        own |= {"GITHUB_STEP_SUMMARY": str(files["summary"]), "GITHUB_WORKSPACE": str(work)}
        own |= {
            name: str(values[f"github.{name.removeprefix('GITHUB_').lower()}"])
            for name in ("GITHUB_REF_TYPE", "GITHUB_REPOSITORY")
        }
        own["RUNNER_TEMP"] = str(temp)
        own |= {k: self._filled(v, values) for k, v in plan.get("env", {}).items()}
        inside = content["defaults"]["run"].get("working-directory", "")
        done = Done()
        for step in plan["steps"]:
            if "if" in step and not self._condition(step["if"], values, failed=bool(done.code)):
                continue
            if done.code and "if" not in step:
                continue
            if "uses" in step:
                self._uses(step, values, work, done)
                continue
            places = [*files["path"].read_text().split(), os.environ["PATH"]]
            env = {**self.env, **own, "PATH": os.pathsep.join(places)}
            env |= {k: self._filled(v, values) for k, v in step.get("env", {}).items()}
            ran = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=work / inside,
                env=env,
                capture_output=True,
                text=True,
            )
            done.steps.append(step["name"])
            done.said += ran.stdout + ran.stderr
            done.code = done.code or ran.returncode
        done.summary = files["summary"].read_text()
        rows = (row.partition("=") for row in files["output"].read_text().splitlines())
        done.outputs = {name: value for name, _, value in rows}
        done.files = {
            str(path.relative_to(work / inside)): path.read_bytes()
            for path in (work / inside / "relforge-ci").glob("*.*")
        }
        return done

    def _uses(
        self, step: dict[str, Any], values: Mapping[str, Any], work: Path, done: Done
    ) -> None:
        given = {k: self._filled(str(v), values) for k, v in step.get("with", {}).items()}
        match step["uses"].partition("@")[0]:
            case "actions/checkout":
                depth = [] if given.get("fetch-depth") == "0" else ["--depth=1"]
                source = f"file://{self.repository}"
                subprocess.run(["git", "clone", "-q", *depth, source, work], check=True)
            case "actions/upload-artifact":
                found = [path for one in given["path"].split() for path in sorted(work.glob(one))]
                self.artifacts[given["name"]] = {one.name: one.read_bytes() for one in found}
            case "actions/download-artifact":
                (work / given["path"]).mkdir(parents=True, exist_ok=True)
                if given["name"] not in self.artifacts:
                    done.code = done.code or 1
                    return
                for name, data in self.artifacts[given["name"]].items():
                    (work / given["path"] / name).write_bytes(data)
            case "actions/setup-python" | "actions/cache":
                pass
            case other:
                raise AssertionError(f"unknown action {other}")

    def _condition(self, text: str, values: Mapping[str, Any], *, failed: bool) -> bool:
        inner = _EXPRESSION.sub(r"\1", text)
        if inner in ("always()", "!cancelled()"):
            return True
        return bool(values[inner]) and not failed

    def _filled(self, text: str, values: Mapping[str, Any]) -> str:
        return _EXPRESSION.sub(lambda found: _value(found[1], values), str(text))


def _value(expression: str, values: Mapping[str, Any]) -> str:
    if (joined := re.fullmatch(r"join\((\S+), ' '\)", expression)) is not None:
        return " ".join(values[joined[1]])
    if expression.startswith("hashFiles("):
        return "0"
    for name in expression.split(" || "):
        if values.get(name) not in (None, ""):
            return str(values[name])
    return ""


def gitlab_job(
    job: Mapping[str, Any],
    work: Path,
    env: Mapping[str, str],
    *,
    shell: tuple[str, ...] = ("bash", "-eo", "pipefail", "-c"),
) -> subprocess.CompletedProcess[str]:
    """A job's ``before_script`` and ``script`` in one shell, its ``after_script`` in another."""
    own = {**env, **{k: os.path.expandvars(v) for k, v in job.get("variables", {}).items()}}
    own = {k: v.replace("$CI_PROJECT_DIR", str(work)) for k, v in own.items()}
    text = "\n".join([*job.get("before_script", []), *job["script"]])
    done = subprocess.run([*shell, text], cwd=work, env=own, capture_output=True, text=True)
    if "after_script" in job:
        after = "\n".join(job["after_script"])
        subprocess.run([*shell, after], cwd=work, env=own, check=True)
    return done


def every_script(content: Any) -> list[tuple[str, str]]:
    """Every shell block of a workflow, with where it stands."""
    found: list[tuple[str, str]] = []

    def walk(value: Any, at: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                if key == "run" and isinstance(inner, str):
                    found.append((at, inner))
                elif key in ("script", "before_script", "after_script"):
                    found.append((f"{at}/{key}", "\n".join(inner)))
                else:
                    walk(inner, f"{at}/{key}")
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                walk(inner, f"{at}/{number}")

    walk(content, "")
    return found
