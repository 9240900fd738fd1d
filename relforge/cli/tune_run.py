"""``relforge tune``: a release whose image is served with other operators, or recorded evidence."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relforge.cancel import CancelToken
from relforge.cli.common import (
    Workplace,
    interruptible,
    print_json,
    select,
    to_stderr,
    with_keys,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError
from relforge.events import StageLine
from relforge.evidence.run_folder import new_run_id
from relforge.evidence.store import Store
from relforge.files import held_lock, write_atomic
from relforge.frozen import content_key, sha256_hex
from relforge.manifest.release import Release
from relforge.plan import ReleasePlan, make_plan, subject
from relforge.stage import Job, StageContext, StageEnv
from relforge.tuning.asking import Limits
from relforge.tuning.evidence import TuneOutput, load_tuning, output_of
from relforge.tuning.journal import Journal, OtherJournal, telling
from relforge.tuning.record import record, text_of
from relforge.tuning.search import tune
from relforge.tuning.served import ServedModel
from relforge.tuning.settings import (
    already_disabled,
    candidates,
    place_of,
    read_operators,
    tuning_of,
)


@dataclass(frozen=True)
class Wanted:
    """What was typed."""

    devices: list[str] | None
    releases: list[str] | None
    operators: Path | None
    suspects: tuple[str, ...]
    by: str | None
    max_evaluations: int | None
    max_seconds: float | None
    key_path: Path | None
    key_passphrase_file: Path | None
    project: Path | None
    site: Path | None


def show(evidence: Path, *, as_json: bool) -> None:
    """Checks recorded evidence and prints it."""
    loaded = load_tuning(evidence)
    output = output_of(loaded.tuning, loaded.subject, evidence)
    _print(output, as_json)


def run(wanted: Wanted, *, as_json: bool) -> None:
    """Tunes one release. Raises RelforgeError (GATE) when no confirmed set was found."""
    place = with_keys(
        workplace(wanted.project, wanted.site), wanted.key_path, wanted.key_passphrase_file
    )
    chosen = select(place.project, devices=wanted.devices, releases=wanted.releases, models=None)
    if len(chosen) != 1:
        raise RelforgeError(
            f"one release is tuned at a time, and {len(chosen)} are named",
            code=ExitCode.USAGE,
            hint="name one with --release",
        )
    release = chosen[0]
    tuning_of(release)
    with interruptible() as cancel:
        served = _served(place, release, wanted, cancel)
        names = _operators(served, wanted)
        missing = sorted(set(wanted.suspects) - set(names))
        if missing:
            raise RelforgeError(
                f"--suspect: {', '.join(missing)} cannot be disabled",
                code=ExitCode.USAGE,
                why="it is not among the operators, or disabled already",
            )
        with held_lock(
            served.work / "lock", purpose=f"tuning {release.name}", on_wait=to_stderr, cancel=cancel
        ):
            output = _tuned(place, served, names, wanted)
    _print(output, as_json)
    if output.state != "done":
        raise RelforgeError(
            _ENDS[output.state],
            code=ExitCode.GATE,
            where=f"release {release.name}",
            why=output.reason,
            hint=_HINTS[output.state],
            log=output.evidence,
        )


_ENDS = {
    "nothing-fails": "there is no failing verdict to tune",
    "not-the-operators": "the operators are not what fails",
    "unconfirmed": "the operators that were found are not confirmed",
    "stopped": "the tuning stopped before it was done",
}
_HINTS = {
    "nothing-fails": "tune what fails: relforge smoke and relforge eval say whether it does",
    "not-the-operators": "look elsewhere: relforge smoke says what fails, and why if it is known",
    "unconfirmed": "give the task more questions, so that a verdict is worth more; then again",
    "stopped": "the same command, with a higher limit, goes on where this one stopped",
}


def _served(place: Workplace, release: Release, wanted: Wanted, cancel: CancelToken) -> ServedModel:
    """The built image with what it is asked; builds first what is missing."""
    from relforge.cli.flow import run_one
    from relforge.pipeline import STAGES

    outcome = run_one(place, release, "build", cancel)
    if outcome.error is not None:
        raise outcome.error
    loaded = subject(place.project, release, place.site, dist=place.dist)
    plan = make_plan(loaded, STAGES, Store(place.home), until="evaluate")
    inputs: Any = plan.inputs["smoke"]
    evaluated: Any = plan.inputs.get("evaluate") if wanted.by != "smoke" else None
    if wanted.by == "evaluation" and evaluated is None:
        reason = next(stage.because for stage in plan.stages if stage.name == "evaluate")
        raise RelforgeError(
            f"{release.name} has no evaluation whose verdict could be tuned",
            code=ExitCode.USAGE,
            why=reason,
            hint="--by smoke",
        )
    asked = {
        "smoke": inputs,
        "evaluate": evaluated,
        "tuning": release.tuning,
        "settings": release.smoke,
    }
    run_id = new_run_id()
    work = place.home / "tuning" / release.name / content_key(asked)[:16]
    env = StageEnv(
        home=place.home,
        project_roots=place.project.roots,
        site=place.site,
        run_id=run_id,
        run_dir=work,
        release=release.name,
        dist=place.dist,
    )
    return ServedModel(
        job=Job("tune", "", inputs, outcome.results, env),
        ctx=StageContext(
            release.name,
            "tune",
            cancel,
            lambda event: to_stderr(event.text) if isinstance(event, StageLine) else None,
        ),
        release=release,
        already_disabled=already_disabled(release),
        greedy=_greedy(plan),
        languages=loaded.model.languages,
        questions=None if evaluated is None else _questions(plan, evaluated),
        work=work,
    )


def _greedy(plan: ReleasePlan) -> Any:
    from relforge.serving.reference import read_greedy_texts

    loaded = plan.subject
    reference = loaded.model.reference
    return read_greedy_texts(loaded.project.path(reference.path)) if reference else ()


def _questions(plan: ReleasePlan, evaluated: Any) -> Any:
    from relforge.evaluation.gate import Measured
    from relforge.tuning.questions import questions_of

    project = plan.subject.project
    for task in evaluated.tasks:
        reference = task.reference.load(project)
        if task.file is not None and isinstance(reference, Measured):
            path = project.path(task.declared.file)
            return questions_of(task.file, path, task.declared, reference.result, evaluated.pace)
    raise RelforgeError(
        f"the evaluation of {plan.name} does not tell which operators are at fault",
        code=ExitCode.USAGE,
        why="no task of it is a file of the project with a measured reference",
        hint="search by the smoke test: --by smoke; or add such a task to evaluation.tasks",
    )


def _operators(served: ServedModel, wanted: Wanted) -> tuple[str, ...]:
    """The operators that may be disabled, from the file, the manifest or the image."""
    tuning = tuning_of(served.release)
    where = f"release {served.release.name}, tuning"
    if wanted.operators is not None:
        names, where = read_operators(wanted.operators), str(wanted.operators)
    elif tuning.list_command:
        names = served.operators()
    else:
        names = tuning.operators
    return candidates(names, served.already_disabled, where)


def _tuned(
    place: Workplace, served: ServedModel, names: tuple[str, ...], wanted: Wanted
) -> TuneOutput:
    release = served.release
    limits = Limits(wanted.max_evaluations, wanted.max_seconds, served.levels)
    default = tuning_of(release).suspects
    suspects = wanted.suspects or tuple(one for one in default if one in names)
    key = content_key({"operators": names})
    folder = served.work / key[:16]
    try:
        journal = Journal(folder / "verdicts.jsonl", key, names)
    except OtherJournal as other:
        raise RelforgeError(
            "the verdicts of an earlier tuning cannot be used",
            code=ExitCode.ENVIRONMENT,
            where=str(folder),
            why=str(other),
            hint="remove that folder to begin anew",
        ) from other
    if journal.known:
        to_stderr(f"{len(journal.known)} verdicts are known from before: {journal.path}")
    tuning = tune(
        names,
        journal.answering(served.evaluate),
        limits,
        suspects=suspects,
        told=telling(to_stderr, names),
    )
    about = {
        "kind": "served",
        "release": release.name,
        "build_key": served.job.inputs.build_key,
        "image_digest": getattr(served.job.upstream["build"], "image_digest", None),
        "by": "smoke" if served.questions is None else "evaluation",
        "questions": None if served.questions is None else list(served.questions.sizes),
        "already_disabled": list(served.already_disabled),
        "place": place_of(release),
        "separator": tuning_of(release).separator,
    }
    text = text_of(record(tuning, subject=about, limits=limits, suspects=suspects)).encode()
    path = folder / "tuning.json"
    write_atomic(path, text)
    Store(place.home).put_blob(text)
    to_stderr(f"evidence: {path} (sha256 {sha256_hex(text)})")
    return output_of(tuning, about, path)


def _print(output: TuneOutput, as_json: bool) -> None:
    if as_json:
        print_json(output.model_dump(mode="json"))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(output)))


def _lines(output: TuneOutput) -> list[str]:
    rows = [("Subject", output.subject), ("State", f"{output.state}: {output.reason}")]
    if output.culprits:
        sure = "confirmed on fresh questions" if output.confirmed else "not confirmed"
        if output.smallest:
            sure += "; no smaller set passes"
        rows.append(("To disable", f"{', '.join(output.culprits)} ({sure})"))
    for one in output.interactions:
        rows.append(("Together", f"{one.operator} does harm only with {', '.join(one.others)}"))
    if output.given_back:
        rows.append(("Given back", ", ".join(output.given_back)))
    if output.suspects:
        rows.append(("Suspects", f"{len(output.suspects)}: {_some(output.suspects)}"))
    bound = "" if output.bound is None else f" (2 k log2(N) = {output.bound:g})"
    rows.append(
        (
            "Evaluations",
            f"{output.evaluations} of {output.operators} operators, {output.search_evaluations} to "
            f"search{bound}, {output.seconds:.0f} s",
        )
    )
    for place, value in output.set_in_manifest.items():
        rows.append(("In the manifest", f'{place}: "{value}"'))
    return [f"{name:<16} {text}" for name, text in rows]


def _some(names: tuple[str, ...], most: int = 12) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
