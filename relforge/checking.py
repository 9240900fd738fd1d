"""Validates a whole project without running anything: every fault, not only the first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from relforge.errors import ExitCode, RelforgeError
from relforge.files import sha256_file
from relforge.frozen import Frozen
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.plan import subject
from relforge.rendering import render_dockerfile
from relforge.serving.spec import launch_spec


class Fault(Frozen):
    """One thing that is wrong, with its place."""

    subject: str
    where: str | None
    message: str
    hint: str | None


class CheckReport(Frozen):
    """What was checked, and what is wrong with it."""

    checked: tuple[str, ...]
    faults: tuple[Fault, ...]


def check_project(project: Project, site: Site) -> CheckReport:
    """Loads every device, model and release; checks locks, patch sets, templates and launches."""
    checked: list[str] = []
    faults: list[Fault] = []

    def attempt(name: str, action: Callable[[], Any]) -> Any:
        checked.append(name)
        try:
            return action()
        except RelforgeError as error:
            message = error.what if not error.why else f"{error.what}: {error.why}"
            fault = Fault(subject=name, where=error.where, message=message, hint=error.hint)
            if fault.model_copy(update={"subject": ""}) not in (
                f.model_copy(update={"subject": ""}) for f in faults
            ):
                faults.append(fault)
            return None

    devices = attempt("devices", lambda: project.devices) or {}
    for device in devices.values():
        if device.default_release is not None:
            attempt(f"device {device.name}", partial(project.default_release, device))
    for name in project.model_files:
        attempt(f"model {name}", partial(project.model, name))
    for name in project.release_files:
        release = attempt(f"release {name}", partial(project.release, name))
        if release is not None:
            attempt(f"lock of {name}", partial(_release, project, site, release))
    return CheckReport(checked=tuple(checked), faults=tuple(faults))


def _release(project: Project, site: Site, release: Release) -> None:
    from relforge.evaluation.task import read_questions, read_task

    loaded = subject(project, release, site)
    render_dockerfile(loaded)
    launch_spec(release, loaded.device, image="sha256:" + "0" * 64, weights=Path("/weights"))
    folder = project.path(loaded.model.weights.path)
    for name, digest in loaded.model.weights.files.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != digest:
            raise RelforgeError(
                f"weights of {loaded.model.name}: {name} is "
                + ("not the pinned file" if path.is_file() else "missing"),
                code=ExitCode.SOURCE,
                where=str(path),
                hint="restore the file, or correct weights.files in the model manifest",
            )
    if release.evaluation is not None:
        path = project.path(release.evaluation.task)
        questions = read_questions(path, read_task(path))
        if len(questions) < release.evaluation.questions:
            raise RelforgeError(
                f"{release.name} asks more questions than its task has",
                code=ExitCode.USAGE,
                where=str(path),
                why=f"{release.evaluation.questions} asked, {len(questions)} there",
                hint="lower evaluation.questions in the release",
            )
