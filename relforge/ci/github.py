"""The workflow for GitHub Actions: check and plan on a hosted runner, then a matrix of jobs that is
read when the workflow runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relforge.ci import shell
from relforge.ci.place import Place
from relforge.manifest.ci import Action, CiSite, Work

PATH = ".github/workflows/relforge.yml"
ACTIONS: dict[Action, str] = {
    "checkout": "v4.2.2",
    "setup-python": "v5.6.0",
    "cache": "v4.2.3",
    "upload-artifact": "v4.6.2",
    "download-artifact": "v4.3.0",
}
"""Versions that are known to work with what is written here."""

Part = dict[str, Any]
_TAG = "github.ref_type == 'tag'"
_PULL_REQUEST = "github.event_name == 'pull_request'"
_OWN = "github.event.pull_request.head.repo.full_name == github.repository"
_ANY_JOB = "fromJSON(needs.plan.outputs.matrix).include[0] != null"
_KEPT = "${HOME}/.relforge-ci/${GITHUB_REPOSITORY}"
"""Of a runner: where published releases stay until they are promoted."""
_SOURCES = ("files", "git", "sources")
_STORE = "~/.local/share/relforge/store"


def workflow(ci: CiSite, place: Place) -> Part:
    """The workflow as YAML has it."""
    writer = _Writer(ci, place)
    jobs = {"check": writer.check(), "plan": writer.plan(), "build": writer.build()}
    jobs["publish"] = writer.publish()
    if ci.targets:
        jobs["promote"] = writer.promote()
    return {
        "name": "relforge",
        "on": {
            "pull_request": None,
            "push": {"branches": list(ci.branches), "tags": list(ci.release_tags)},
        },
        "permissions": {"contents": "read"},
        # A later push to a pull request replaces what runs for it. Every push to a branch is
        # built, or what it changed would never be. Tags wait for each other, so that promotions
        # of two of them are never under way together.
        "concurrency": {
            "group": _expression(
                f"{_TAG} && 'relforge-release' || {_PULL_REQUEST} && "
                "format('relforge-{0}', github.ref) || format('relforge-{0}', github.run_id)"
            ),
            "cancel-in-progress": _expression(_PULL_REQUEST),
        },
        "defaults": {"run": {"shell": "bash", **writer.folder}},
        "jobs": jobs,
    }


class _Writer:
    def __init__(self, ci: CiSite, place: Place) -> None:
        self.ci, self.place = ci, place
        self.folder = {"working-directory": place.inside} if place.inside else {}

    def check(self) -> Part:
        return {
            "runs-on": self.ci.runner,
            "timeout-minutes": 30,
            **self._env(),
            "steps": [
                self._checkout(),
                *self._hosted_install(),
                _step("Check", shell.check()),
                self._upload("check"),
            ],
        }

    def plan(self) -> Part:
        before = "${{ github.event.pull_request.base.sha || github.event.before }}"
        script = shell.matrix('[ "$GITHUB_REF_TYPE" = tag ]', "$BEFORE")
        script += f'echo "matrix=$(cat {shell.MATRIX})" >> "$GITHUB_OUTPUT"\n'
        return {
            "needs": "check",
            "runs-on": self.ci.runner,
            "timeout-minutes": 30,
            "outputs": {"matrix": "${{ steps.matrix.outputs.matrix }}"},
            **self._env(),
            "steps": [
                # Every commit: what changed is told by comparing with an earlier one.
                self._checkout({"fetch-depth": 0}),
                *self._hosted_install(),
                {**_step("Plan", script, {"BEFORE": before}), "id": "matrix"},
            ],
        }

    def build(self) -> Part:
        cache = {
            "name": "Sources of earlier builds",
            "if": "${{ matrix.hosted }}",
            "uses": self._action("cache"),
            "with": {
                "path": "".join(f"{_STORE}/{one}\n" for one in _SOURCES),
                "key": "relforge-sources-${{ hashFiles('**/manifests/releases/*.lock.yaml') }}",
                "restore-keys": "relforge-sources-\n",
            },
        }
        return {
            "needs": "plan",
            # What strangers propose runs on no runner of the project's own: it is checked above.
            "if": _expression(f"!({_TAG}) && ({_OWN} || !({_PULL_REQUEST})) && {_ANY_JOB}"),
            "name": "build ${{ matrix.name }}",
            **self._of_matrix("build_runner"),
            **self._env(
                "build",
                {
                    "RELEASES": "${{ join(matrix.releases, ' ') }}",
                    "VERB": "${{ matrix.verb }}",
                },
            ),
            "steps": [
                self._checkout(),
                cache,
                *self._install(self.ci.runner_install),
                *self._with_secrets("build", [_step("Build what changed", shell.build())]),
                self._upload("build-${{ matrix.name }}"),
            ],
        }

    def publish(self) -> Part:
        return {
            "needs": "plan",
            "if": _expression(f"{_TAG} && {_ANY_JOB}"),
            "name": "publish ${{ matrix.name }}",
            **self._of_matrix("runner"),
            **self._env("publish", {"RELEASES": "${{ join(matrix.releases, ' ') }}"}),
            "steps": [
                self._checkout(),
                *self._install(self.ci.runner_install),
                *self._with_secrets(
                    "publish",
                    [_step("Publish as a candidate", shell.publish(self.ci, _KEPT))],
                ),
                self._upload("publish-${{ matrix.name }}"),
            ],
        }

    def promote(self) -> Part:
        environment = {"environment": self.ci.environment} if self.ci.environment else {}
        return {
            "needs": ["plan", "publish"],
            # A release that failed stops no other; of what was not published nothing is promoted.
            "if": _expression(
                f"!cancelled() && {_TAG} && needs.plan.result == 'success' && {_ANY_JOB}"
            ),
            "name": "promote ${{ matrix.name }}",
            **self._of_matrix("runner", one_by_one=True),
            **environment,
            **self._env("promote"),
            "steps": [
                self._checkout(),
                *self._install(self.ci.runner_install),
                {
                    "name": "What was published",
                    "uses": self._action("download-artifact"),
                    "with": {
                        "name": "relforge-publish-${{ matrix.name }}",
                        "path": f"{self.place.before}{shell.FOLDER}",
                    },
                },
                *self._with_secrets("promote", [_step("Promote", shell.promote(self.ci, _KEPT))]),
                self._upload("promote-${{ matrix.name }}"),
            ],
        }

    def _of_matrix(self, runner: str, *, one_by_one: bool = False) -> Part:
        return {
            "runs-on": f"${{{{ matrix.{runner} }}}}",
            "timeout-minutes": self.ci.timeout_minutes,
            "strategy": {
                "fail-fast": False,
                **({"max-parallel": 1} if one_by_one else {}),
                "matrix": {"include": "${{ fromJSON(needs.plan.outputs.matrix).include }}"},
            },
        }

    def _env(self, work: Work | None = None, more: dict[str, str] | None = None) -> Part:
        env = dict(more or {})
        if self.place.site_file and not (work and self.ci.runners_have_sites):
            env["RELFORGE_SITE"] = f"${{{{ github.workspace }}}}/{self.place.site_file}"
        return {"env": env} if env else {}

    def _checkout(self, given: Part | None = None) -> Part:
        return {
            "uses": self._action("checkout"),
            "with": {"persist-credentials": False, **(given or {})},
        }

    def _hosted_install(self) -> list[Part]:
        python = {
            "uses": self._action("setup-python"),
            "with": {"python-version": self.ci.python},
        }
        return [python, *self._install(self.ci.install)]

    def _install(self, requirements: Sequence[str]) -> list[Part]:
        script = shell.install(requirements)
        if script is None:
            return []
        script += f'echo "$PWD/{shell.FOLDER}/venv/bin" >> "$GITHUB_PATH"\n'
        return [_step("Install relforge", script)]

    def _with_secrets(self, work: Work, steps: list[Part]) -> list[Part]:
        """The steps between writing the job's secrets to files and removing these."""
        found = [one for one in self.ci.secrets if work in one.jobs]
        if not found:
            return steps
        folder = self.place.secrets_folder()
        values = {one.name: f"${{{{ secrets.{one.name} }}}}" for one in found}
        return [
            _step("Secrets as files", shell.secrets_to_files(found, folder), values),
            *steps,
            {**_step("Remove secrets", shell.remove_secrets(found, folder)), "if": "always()"},
        ]

    def _upload(self, name: str) -> Part:
        folder = f"{self.place.before}{shell.FOLDER}"
        return {
            "name": "Reports",
            "if": "${{ !cancelled() }}",
            "uses": self._action("upload-artifact"),
            "with": {
                "name": f"relforge-{name}",
                "path": f"{folder}/*.xml\n{folder}/*.json\n",
                "if-no-files-found": "ignore",
            },
        }

    def _action(self, name: Action) -> str:
        return f"actions/{name}@{self.ci.actions.get(name) or ACTIONS[name]}"


def _step(name: str, script: str, env: dict[str, str] | None = None) -> Part:
    return {"name": name, **({"env": env} if env else {}), "run": script}


def _expression(text: str) -> str:
    return f"${{{{ {text} }}}}"
