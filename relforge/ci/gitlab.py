"""The pipelines for GitLab CI: one that checks, and the one that it makes of a matrix."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from relforge.ci import shell
from relforge.ci.matrix import CiMatrix, MatrixJob
from relforge.ci.place import Place
from relforge.manifest.ci import CiSite, Work

PATH = ".gitlab-ci.yml"
CHILD = f"{shell.FOLDER}/child.yml"

Part = dict[str, Any]
_KEPT = "${HOME}/.relforge-ci/${CI_PROJECT_PATH}"
_BEFORE = "${CI_MERGE_REQUEST_DIFF_BASE_SHA:-$CI_COMMIT_BEFORE_SHA}"
_LOCK = "relforge-promote"


def pipeline(ci: CiSite, place: Place) -> Part:
    """What lies in the repository; it can be included by another one."""
    image = {"image": ci.image or f"python:{ci.python}"}
    script = shell.matrix('[ -n "${CI_COMMIT_TAG:-}" ]', _BEFORE)
    script += (
        f'if [ -n "${{CI_COMMIT_TAG:-}}" ]; then event=tag; else event=change; fi\n'
        f'relforge ci gitlab --child "$event" --matrix {shell.MATRIX} --out {CHILD}\n'
    )
    return {
        "relforge-check": {
            **image,
            **_when(ci),
            **_variables(ci, place),
            "before_script": _before(ci.install, place),
            "script": [shell.check()],
            **_reports(place, "check"),
        },
        "relforge-plan": {
            **image,
            **_when(ci),
            # Every commit: what changed is told by comparing with an earlier one.
            **_variables(ci, place, {"GIT_DEPTH": "0"}),
            "needs": ["relforge-check"],
            "before_script": _before(ci.install, place),
            "script": [script],
            "artifacts": {"paths": [f"{place.before}{name}" for name in (CHILD, shell.MATRIX)]},
        },
        "relforge": {
            **_when(ci),
            "needs": ["relforge-plan"],
            "trigger": {
                "include": [{"artifact": f"{place.before}{CHILD}", "job": "relforge-plan"}],
                "strategy": "depend",
            },
        },
    }


def child(ci: CiSite, place: Place, matrix: CiMatrix, *, release: bool) -> Part:
    """The jobs of a matrix: builds of what a change concerns, or a release."""
    jobs: Part = {}
    for job in matrix.include:
        if release:
            jobs |= _release(ci, place, job)
        else:
            jobs[f"build {job.name}"] = {
                **_job(ci, place, job, "build", {"VERB": job.verb}),
                "script": _script(ci, place, "build", shell.build()),
                **_reports(place, "build"),
            }
    if not jobs:
        # A pipeline has at least one job.
        jobs["nothing to do"] = {
            "image": ci.image or f"python:{ci.python}",
            "variables": {"GIT_STRATEGY": "none"},
            "script": ["echo 'no release has changed'"],
        }
    return {"workflow": {"rules": [{"when": "always"}]}, **jobs}


def _release(ci: CiSite, place: Place, job: MatrixJob) -> Part:
    publish, promote = f"publish {job.name}", f"promote {job.name}"
    found = {
        publish: {
            **_job(ci, place, job, "publish"),
            "script": _script(ci, place, "publish", shell.publish(ci, _KEPT)),
            # Of two tags only one at a time replaces what waits to be promoted.
            "resource_group": f"relforge-publish-{job.name}",
            **_reports(place, "publish", shell.PUBLISHED),
        }
    }
    if ci.targets:
        environment = {"environment": {"name": ci.environment}} if ci.environment else {}
        found[promote] = {
            **_job(ci, place, job, "promote"),
            "needs": [publish],
            "script": _script(ci, place, "promote", shell.promote(ci, _KEPT)),
            # Over all pipelines of the project: promotions happen one after the other.
            "resource_group": _LOCK,
            **environment,
            **_reports(place, "promote"),
        }
    return found


def _job(
    ci: CiSite, place: Place, job: MatrixJob, work: Work, more: dict[str, str] | None = None
) -> Part:
    variables = {"RELEASES": " ".join(job.releases), **(more or {})}
    after = [one for one in ci.secrets if work in one.jobs]
    enter = [f"cd {shlex.quote(place.inside)} || exit 1\n"] if place.inside else []
    removal = [*enter, shell.remove_secrets(after, place.secrets_folder())]
    return {
        "tags": list(job.tags),
        "timeout": f"{ci.timeout_minutes} minutes",
        **_variables(ci, place, variables, work),
        "before_script": _before(ci.runner_install, place),
        **({"after_script": removal} if after else {}),
    }


def _script(ci: CiSite, place: Place, work: Work, script: str) -> list[str]:
    found = [one for one in ci.secrets if work in one.jobs]
    if not found:
        return [script]
    return [shell.secrets_to_files(found, place.secrets_folder()), script]


def _variables(
    ci: CiSite, place: Place, more: dict[str, str] | None = None, work: Work | None = None
) -> Part:
    found = dict(more or {})
    if place.site_file and not (work and ci.runners_have_sites):
        found["RELFORGE_SITE"] = f"$CI_PROJECT_DIR/{place.site_file}"
    return {"variables": found} if found else {}


def _before(requirements: Sequence[str], place: Place) -> list[str]:
    found = [f"cd {shlex.quote(place.inside)} || exit 1\n"] if place.inside else []
    if (script := shell.install(requirements)) is not None:
        found += [script + f'export PATH="$PWD/{shell.FOLDER}/venv/bin:$PATH"\n']
    return found or ["relforge --version\n"]


def _reports(place: Place, name: str, *paths: str) -> Part:
    """A job's JUnit report, which the merge request shows, and what it hands on."""
    report = f"{place.before}{shell.FOLDER}/{name}.xml"
    found: Part = {"when": "always", "reports": {"junit": report}}
    found["paths"] = [report, *(f"{place.before}{path}" for path in paths)]
    return {"artifacts": found}


def _when(ci: CiSite) -> Part:
    """Merge requests, pushes to some branches, and tags that release."""
    return {
        "rules": [
            {"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'},
            *({"if": f"$CI_COMMIT_BRANCH =~ {_pattern(one)}"} for one in ci.branches),
            *({"if": f"$CI_COMMIT_TAG =~ {_pattern(one)}"} for one in ci.release_tags),
        ]
    }


def _pattern(glob: str) -> str:
    """A regular expression as GitLab writes it."""
    parts = re.split(r"(\*\*|\*)", glob)
    meaning = {"**": ".*", "*": r"[^\/]*"}
    found = "".join(meaning.get(part) or re.escape(part).replace("/", r"\/") for part in parts)
    return f"/^{found}$/"
