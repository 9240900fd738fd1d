"""Validates a whole project without running anything: every fault, not only the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from relforge.checking import references, rules
from relforge.checking.dockerfiles import Dockerfiles
from relforge.checking.places import device_fact, is_exact, named_in
from relforge.checking.report import CheckReport, Fault, NotRun, Open
from relforge.checking.translations import of_translations
from relforge.errors import ExitCode, RelforgeError
from relforge.lock import lock_path
from relforge.manifest.device import Device
from relforge.manifest.evaluation import EvaluationTask
from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.fileversion import known_sha256
from relforge.manifest.loader import load
from relforge.manifest.model import Model
from relforge.manifest.places import Keys, place
from relforge.manifest.project import Project
from relforge.manifest.reference import ReferenceFigures
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.manifest.translations import Translations
from relforge.manifest.weights import LocalWeights
from relforge.plan import subject
from relforge.rendering import render_dockerfile
from relforge.serving.place import example_hosts
from relforge.serving.spec import launch_spec

__all__ = ["CheckReport", "Fault", "NotRun", "check_project"]

ResultT = TypeVar("ResultT")


def check_project(project: Project, site: Site, *, lint: bool = True) -> CheckReport:
    """Loads every device and model and the project's own releases (those behind them come with the
    program, and are not the user's to mend); checks each against itself and against the others, and
    locks, patch sets, templates and launches; with ``lint`` also what linters say of the
    rendered Dockerfiles."""
    return _Check(project, site, lint).report()


class _Check:
    def __init__(self, project: Project, site: Site, lint: bool) -> None:
        self.project, self.site, self.lint = project, site, lint
        self.checked: list[str] = []
        self.faults: list[Fault] = []
        self.open: list[Open] = []
        self.known: set[tuple[str | None, str]] = set()
        self.dockerfiles = Dockerfiles()

    def report(self) -> CheckReport:
        project = self.project
        devices: dict[str, Device] = {}
        for name, file in project.device_files.items():
            device = self.attempt(f"device {name}", partial(project.device, name), file)
            if device is not None:
                devices[name] = device
        if len(devices) == len(project.device_files):
            self.attempt("devices", lambda: project.devices)
        for name, device in devices.items():
            self.device(device, project.device_files[name])
        models: dict[str, Model] = {}
        for name, file in project.model_files.items():
            model = self.attempt(f"model {name}", partial(project.model, name), file)
            if model is not None:
                models[name] = model
        releases: dict[str, Release] = {}
        for name in project.own_releases:
            file = project.release_files[name]
            release = self.attempt(f"release {name}", partial(project.release, name), file)
            if release is not None:
                releases[name] = release
        own = {release.model for release in releases.values()}
        for name, model in models.items():
            file = project.model_files[name]
            self.model(model, models, file, own=name in own or file.is_relative_to(project.root))
        for name, file in project.reference_files.items():
            found = self.attempt(f"reference {name}", partial(project.reference, name), file)
            if found is not None:
                self.reference(found, models, file)
        for name, release in releases.items():
            self.release(release, devices, project.release_files[name])
        for file in project.translation_files:
            name = f"translations {file.stem}"
            words = self.attempt(name, partial(load, file, Translations), file)
            if words is not None and file.is_relative_to(project.root):
                said = (*devices.values(), *models.values(), *releases.values())
                self.contradictions(name, of_translations(words, said), file)
        faults, not_run = self.dockerfiles.look(self.site) if self.lint else ([], [])
        return CheckReport(
            checked=tuple(dict.fromkeys(self.checked)),
            faults=(*self.faults, *faults),
            open=tuple(self.open),
            not_run=tuple(not_run),
        )

    def attempt(
        self,
        name: str,
        action: Callable[[], ResultT],
        file: Path | None = None,
        keys: Keys = ("name",),
    ) -> ResultT | None:
        """What *action* gives; a fault of it stands where *keys* are in *file*, unless it says."""
        self.checked.append(name)
        try:
            return action()
        except RelforgeError as error:
            message = error.what if not error.why else f"{error.what}: {error.why}"
            where = error.where
            if (fact := device_fact(where)) and fact[0] in self.project.device_files:
                where = place(self.project.device_files[fact[0]], fact[1])
            elif file is not None and not is_exact(where):
                where = place(file, named_in(error, keys))
                if error.where and error.where not in where and "/" in error.where:
                    message += f" ({error.where})"
            self.fault(name, where, message, error.hint)
            return None

    def fault(self, name: str, where: str | None, message: str, hint: str | None) -> None:
        # Several releases meet one fault of a device, and one fault can be met in two ways.
        same = {(where, message), (name, message)}
        if not same & self.known:
            self.known |= same
            self.faults.append(Fault(subject=name, where=where, message=message, hint=hint))

    def contradictions(self, name: str, found: Iterable[rules.Contradiction], file: Path) -> None:
        for one in found:
            self.fault(name, place(file, one.keys), f"{one.what}: {one.why}", one.hint)

    def device(self, device: Device, file: Path) -> None:
        name, project = f"device {device.name}", self.project
        self.contradictions(name, rules.of_device(device), file)
        self.attempt(name, lambda: project.path(device.template), file, ("template",))
        if device.vendor.public_key is not None:
            from relforge.patching.keys import load_signer

            key = device.vendor.public_key.encode()
            self.attempt(
                name, lambda: load_signer(device.vendor.name, key), file, ("vendor", "public_key")
            )
        if device.default_release is not None:
            self.attempt(name, lambda: project.default_release(device), file, ("default_release",))

    def model(self, model: Model, models: dict[str, Model], file: Path, *, own: bool) -> None:
        name, weights = f"model {model.name}", model.weights
        self.contradictions(name, rules.of_model(model, models), file)
        if own and getattr(weights, "revision", None) == UNRESOLVED:
            self.open.append(
                Open(
                    subject=name,
                    where=place(file, ("weights", "revision")),
                    what="the weights are not pinned",
                    remedy=f"relforge weights pin --model {model.name} --write",
                )
            )
        if isinstance(weights, LocalWeights):
            for path, digest in weights.files.items():
                self.attempt(
                    name,
                    partial(_pinned, self.project, f"{weights.path}/{path}", digest, model.name),
                    file,
                    ("weights", "files", path),
                )
        if (reference := model.reference) is not None:
            self.attempt(
                name,
                partial(_pinned, self.project, reference.path, reference.sha256, model.name),
                file,
                ("reference", "sha256"),
            )

    def reference(self, reference: ReferenceFigures, models: dict[str, Model], file: Path) -> None:
        name = f"reference {reference.name}"
        self.attempt(name, lambda: self.project.model(reference.model), file, ("model",))
        model = models.get(reference.model)
        self.contradictions(name, references.of_reference(reference, model), file)
        for number, figure in enumerate(reference.figures):
            if figure.evidence is not None:
                evidence = self.attempt(
                    name,
                    partial(references.evidence_of, self.project, figure.evidence),
                    file,
                    ("figures", number, "evidence"),
                )
                if evidence is not None:
                    found = references.of_evidence(reference, number, evidence)
                    self.contradictions(name, found, file)

    def release(self, release: Release, devices: dict[str, Device], file: Path) -> None:
        name, project = f"lock of {release.name}", self.project
        known = self.attempt(name, lambda: project.device(release.device), file, ("device",))
        model = self.attempt(name, lambda: project.model(release.model), file, ("model",))
        if known is None or model is None or known.name not in devices:
            return
        builds = release.build.image is None
        device = self.attempt(
            name, lambda: known.for_release(release.stack, builds=builds), file, ("stack",)
        )
        self.contradictions(name, rules.of_release(release, known, model), file)
        self.contradictions(name, references.of_reported(release), file)
        for number, ref in enumerate(release.patches):
            if ref.repository is None and ref.name not in self.site.patch_sets:
                self.attempt(
                    name, partial(project.path, ref.path), file, ("patches", number, "path")
                )
        template = release.build.template
        if template is not None:
            self.attempt(name, lambda: project.path(template), file, ("build", "template"))
        if release.evaluation is not None:
            for number, declared in enumerate(release.evaluation.each):
                at = ("evaluation", *release.evaluation.at(number), "task")
                self.attempt(name, partial(_evaluation, project, release, declared), file, at)
                if model.reference is not None or release.evaluation.names_references:
                    self.attempt(name, partial(_compared, project, model, declared), file, at)
        if device is None:
            return
        weights = Path("/weights")
        self.attempt(
            name,
            lambda: launch_spec(
                release, device, image=_NO_IMAGE, weights=weights, hosts=example_hosts(release)
            ),
            file,
            ("serve",),
        )
        lock = lock_path(project, release)
        loaded = self.attempt(
            name,
            lambda: subject(project, release, self.site),
            lock if lock.is_file() else file,
            ("request",),
        )
        if loaded is not None and loaded.lock.unresolved:
            self.open.append(
                Open(
                    subject=name,
                    where=str(lock),
                    what="not resolved: " + "; ".join(loaded.lock.unresolved),
                    remedy=f"relforge lock --release {release.name}, where these can be had",
                )
            )
        if loaded is not None and builds:
            text = self.attempt(name, lambda: render_dockerfile(loaded), file, ("build",))
            if text is not None:
                self.dockerfiles.add(loaded, text)


_NO_IMAGE = "sha256:" + "0" * 64


def _pinned(project: Project, path: str, digest: str, model: str) -> Any:
    """Raises RelforgeError (SOURCE) when a file that a model pins is missing or another one."""
    file = project.path(path)
    if not file.is_file() or (found := known_sha256(file)) != digest:
        raise RelforgeError(
            f"{model}: {path} is " + ("not the pinned file" if file.is_file() else "missing"),
            code=ExitCode.SOURCE,
            where=str(file),
            why=f"the manifest pins sha256 {digest}, found {found}" if file.is_file() else None,
            hint="restore the file; if the change is meant, pin its new hash in the model",
        )


def _evaluation(project: Project, release: Release, declared: EvaluationTask) -> None:
    """Raises RelforgeError (USAGE) when a task file cannot be read, or has too few questions.

    What lm-eval's own tasks have, it says when it loads them.
    """
    from relforge.evaluation.task import read_questions, read_task

    if declared.file is None:
        return
    path = project.path(declared.file)
    questions = read_questions(path, read_task(path))
    if len(questions) < declared.questions:
        raise RelforgeError(
            f"evaluation.questions of {release.name} is more than its task has",
            code=ExitCode.USAGE,
            where=str(path),
            why=f"{declared.questions} asked, {len(questions)} there",
            hint="lower evaluation.questions in the release",
        )


def _compared(project: Project, model: Model, declared: EvaluationTask) -> None:
    """Raises RelforgeError (USAGE) when a task has nothing to be compared with."""
    from relforge.evaluation.gating import task_input

    task_input(project, model, declared)
