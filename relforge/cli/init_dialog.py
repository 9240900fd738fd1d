"""The dialog of ``relforge init``: asks, checks what was answered, and writes at the very end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from relforge.checking.rules import Contradiction
from relforge.cli.asking import Asker
from relforge.cli.common import interruptible, to_stderr
from relforge.cli.init_questions import (
    Answers,
    Question,
    ask_all,
    model_questions,
    name_questions,
    release_questions,
)
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.device import Device
from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.model import Model
from relforge.manifest.project import Project, builtin_root, find_project
from relforge.manifest.site import Site
from relforge.manifest.site_file import find_site_file, home_folder, load_site
from relforge.starting.facts import told_at_once
from relforge.starting.pins import folder_hashes, folder_pins
from relforge.starting.texts import NewModel, NewRelease, model_text, release_text
from relforge.starting.writing import (
    Target,
    check_model,
    check_release,
    refuse_existing,
    write_all,
)
from relforge.weights.pinning import pinned_now

# A model is checked before its weights are looked at, which may take long.
_NO_WEIGHTS = {"kind": "on-request", "contact": "not asked yet", "ask_for": "not asked yet"}


@dataclass
class Dialog:
    """One run; ``names`` are the answers that make the release's name."""

    asker: Asker
    target: Target
    project: Project
    site: Site
    force: bool
    names: Answers = field(default_factory=dict)

    @classmethod
    def begin(
        cls, asker: Asker, out: Path | None, site_file: Path | None, *, force: bool
    ) -> Dialog:
        """Finds the project, or asks to make one. Raises RelforgeError, typer.Abort."""
        target = Target(_root(asker, out))
        project = Project(tuple(dict.fromkeys((target.root, builtin_root()))))
        site = load_site(find_site_file(project, site_file))
        return cls(asker, target, project, site, force)

    def run(self) -> list[Path]:
        """Asks everything and writes; returns what was written. Raises RelforgeError."""
        if self.asker.terminal:
            to_stderr(f"devices: {', '.join(self.project.device_files)}")
            to_stderr(f"models: {', '.join(self.project.model_files) or 'none yet'}")
        ask_all(self.asker, name_questions(self.project), self.names, {})
        device, model_name = self.names["device"], self.names["model"]
        paths: list[Path] = []
        if not self.asker.missing:
            paths.append(self.target.file("release", self.name))
        known = model_name in self.project.model_files
        if model_name is not None and not known:
            paths.append(self.target.file("model", model_name))
        # Before much is asked, and again where the file is written.
        refuse_existing(paths, force=self.force)
        if device is not None:
            self._tell_of(device)
        new = Answers() if known or model_name is None else self._ask_model(device, model_name)
        model = self._model(known, model_name, new)
        answers = self._ask_release(device, model)
        self.asker.finish()
        assert device is not None
        assert model is not None
        files = {
            **self.target.schema_files(),
            **({} if known else {paths[1]: self._model_file(new)}),
            paths[0]: self._release_file(device, model, answers),
        }
        refuse_existing(paths, force=self.force)
        write_all(files)
        to_stderr(f"next: relforge lock --release {self.name}")
        to_stderr("then: relforge check")
        return [path for path in files if path.parent.name != "schema"]

    @property
    def name(self) -> str:
        """Of the release."""
        device, variant = self.names["device"], self.names.get("variant")
        return f"{self.names['model']}-{device.name}" + (f"-{variant}" if variant else "")

    def _model(self, known: bool, name: str | None, new: Answers) -> Model | None:
        if known and name is not None:
            return self.project.model(name)
        if name is None or self.asker.missing:
            return None
        made = _new_model(new, _NO_WEIGHTS)
        path = self.target.file("model", made.name)
        return check_model(model_text(made, self.target.schemas), path, self.project)[0]

    def _ask_model(self, device: Device | None, name: str) -> Answers:
        questions = model_questions(self.target.root, device)
        answers: Answers = {"name": name}
        again: dict[str, str] = {}
        while True:
            ask_all(self.asker, questions, answers, again)
            if self.asker.missing:
                return answers
            made = _new_model(answers, _NO_WEIGHTS)
            path = self.target.file("model", made.name)
            _, found = check_model(model_text(made, self.target.schemas), path, self.project)
            again = _asked_again(found, questions, path)
            if not again:
                return answers

    def _ask_release(self, device: Device | None, model: Model | None) -> Answers:
        if device is None:
            return {}
        answers: Answers = dict(self.names)
        has_reference = model is not None and model.reference is not None
        questions = release_questions(self.project, device, has_reference, answers)
        again: dict[str, str] = {}
        while True:
            ask_all(self.asker, questions[:1], answers, again)
            on_stack = device.on(answers.get("stack"))
            if on_stack is not device:
                self._tell_of(on_stack)
            ask_all(self.asker, questions[1:], answers, again)
            if self.asker.missing or model is None:
                return answers
            path = self.target.file("release", self.name)
            text = self._release_text(on_stack, answers)
            try:
                _, found = check_release(text, path, on_stack, model)
            except RelforgeError as error:
                if not self.asker.terminal or (answers.get("nodes") or 1) == 1:
                    raise
                # What an engine can share among nodes is its own matter: both are asked again.
                del answers["nodes"]
                told = (error.what, error.why, error.hint)
                again = {"data_parallel": ": ".join(part for part in told if part)}
                continue
            again = _asked_again(found, questions, path)
            if not again:
                return answers

    def _tell_of(self, device: Device) -> None:
        for line in told_at_once(device):
            to_stderr(line)

    def _release_text(self, device: Device, answers: Answers) -> str:
        stack = device.default_stack
        plain = {name: value for name, value in answers.items() if value is not None}
        if stack == self.project.device(device.name).default_stack:
            plain.pop("stack", None)
        image = plain.pop("image_reference", None)
        source = plain.pop("image_source", None)
        if image is not None and source is not None:
            plain["image"] = {"reference": image[0], "digest": image[1], "source": source}
        release = NewRelease.model_validate({**plain, "name": self.name, "device": device.name})
        return release_text(release, device, self.target.schemas)

    def _release_file(self, device: Device, model: Model, answers: Answers) -> bytes:
        on_stack = device.on(answers.get("stack"))
        text = self._release_text(on_stack, answers)
        check_release(text, self.target.file("release", self.name), on_stack, model)
        return text.encode()

    def _model_file(self, answers: Answers) -> bytes:
        made = _new_model(answers, self._weights(answers))
        text = model_text(made, self.target.schemas)
        check_model(text, self.target.file("model", made.name), self.project)
        return text.encode()

    def _weights(self, answers: Answers) -> dict[str, Any]:
        """The section of a manifest; hashes what it can, which takes its time."""
        kind, name = answers["weights"], answers["name"]
        if kind == "local":
            folder = self.target.root / answers["weights_path"]
            hashes = folder_hashes(folder, model=name, line=to_stderr)
            return {"kind": kind, "path": answers["weights_path"], "files": hashes}
        if kind == "by-server":
            return {"kind": kind, "what": answers["what"], "source": answers["weights_source"]}
        here: Path | None = answers.get("weights_folder")
        pins = folder_pins(here, model=name, line=to_stderr) if here is not None else None
        if kind == "on-request":
            section = {"kind": kind, "contact": answers["contact"], "ask_for": answers["ask_for"]}
            return {**section, "files": pins} if pins else section
        revision = answers["branch" if kind == "huggingface" else "tag"]
        section = {"kind": kind, "repository": answers["repository"], "revision": revision}
        if pins is not None or revision == UNRESOLVED:
            return {**section, **({"files": pins} if pins is not None else {})}
        unpinned = _new_model(answers, {**section, "revision": UNRESOLVED})
        text = model_text(unpinned, self.target.schemas)
        model, _ = check_model(text, self.target.file("model", name), self.project)
        with interruptible() as cancel:
            found = pinned_now(
                model,
                revision=revision,
                home=home_folder(self.site),
                site=self.site,
                cancel=cancel,
                line=to_stderr,
            )
        content = found.model_dump(mode="json")
        return {name: content[name] for name in (*section, "files")}


def _root(asker: Asker, out: Path | None) -> Path:
    """The folder of the project that is written to."""
    if out is not None:
        if out.exists() and not out.is_dir():
            raise RelforgeError(
                f"{out} is no folder", code=ExitCode.USAGE, hint="name a folder with --out"
            )
        return out.absolute()
    here = Path.cwd()
    found = find_project(here).root
    if found != builtin_root() or here.is_relative_to(found):
        return found
    if not asker.confirm("out", f"There is no project here. Make one in {here}?"):
        if asker.terminal:
            raise typer.Abort
        return here
    return here


def _new_model(answers: Answers, weights: dict[str, Any]) -> NewModel:
    fields = NewModel.model_fields.keys() - {"weights"}
    plain = {name: answers[name] for name in fields if answers.get(name) is not None}
    return NewModel.model_validate({**plain, "weights": weights})


def _asked_again(
    found: Sequence[Contradiction], questions: Sequence[Question], path: Path
) -> dict[str, str]:
    """What was wrong with which answer. Raises RelforgeError (USAGE) for what was not asked."""
    asked = {question.field for question in questions}
    again: dict[str, str] = {}
    for one in found:
        name = next((str(key) for key in reversed(one.keys) if key in asked), None)
        if name is None:
            raise RelforgeError(
                one.what, code=ExitCode.USAGE, where=str(path), why=one.why, hint=one.hint
            )
        again.setdefault(name, f"{one.what}: {one.why}; {one.hint}")
    return again
