"""What release, build, smoke, eval, card and publish have in common: the pipeline up to a stage."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.cancel import CancelToken
from relforge.cli.common import (
    Workplace,
    chosen_names,
    interruptible,
    print_json,
    to_stderr,
    with_keys,
    workplace,
)
from relforge.cli.following import Following, NotSentError
from relforge.cli.passphrases import ask_for_passphrases
from relforge.cli.reporting import Telling, telling
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.evidence.reading_runs import load_run, stamp
from relforge.evidence.record import NotStarted, names_of
from relforge.evidence.record import summary as release_json
from relforge.evidence.runs import Asked, Run
from relforge.evidence.store import Store
from relforge.executor.local import LocalExecutor
from relforge.locks import held_lock
from relforge.manifest.release import Release
from relforge.pipeline import STAGES
from relforge.plan import ReleasePlan, make_plan, plan_later, require_stages, subject
from relforge.publishing.choosing import release_place
from relforge.running.choosing import executor_of
from relforge.running.limits import Limits
from relforge.running.runner import Runner
from relforge.running.walk import Outcome
from relforge.ui import summary
from relforge.ui.console import make_listener
from relforge.ui.text import error as error_text
from relforge.ui.text import several

if TYPE_CHECKING:
    from relforge.publishing.target import Step


@dataclass(frozen=True)
class How:
    """How a run goes about what it was asked for; ``since`` is --from. None: nothing was said."""

    since: str | None = None
    jobs: int | None = None
    executor: str | None = None
    fail_fast: bool | None = None
    changed_since: str | None = None
    junit: Path | None = None
    summary: Path | None = None


@dataclass(frozen=True)
class _Planned:
    plans: tuple[ReleasePlan, ...]
    not_planned: dict[str, RelforgeError]


def run_until(
    until: str | None,
    *,
    project: Path | None,
    site: Path | None,
    devices: list[str] | None,
    releases: list[str] | None,
    models: list[str] | None = None,
    everything: bool = False,
    key_path: Path | None = None,
    key_passphrase_file: Path | None = None,
    to: Sequence[str] = (),
    steps: Sequence[Step] = (),
    as_json: bool = False,
    how: How | None = None,
) -> int:
    """Runs the pipeline up to a stage for every chosen release; returns the exit code.

    What was published is sent to the targets named in ``to``, by ``steps``. One release that fails,
    or cannot even be read, does not stop the others; the code is that of the first of them.
    """
    how = how or How()
    require_stages(STAGES, until=until, since=how.since)
    with telling(f"relforge {until or 'release'}", how.junit, how.summary) as told:
        place = with_keys(workplace(project, site), key_path, key_passphrase_file)
        told.at(place)
        asked = Asked(
            releases=tuple(
                chosen_names(
                    place,
                    devices=devices,
                    releases=releases,
                    models=models,
                    everything=everything,
                    changed_since=how.changed_since,
                )
            ),
            until=until,
            since=how.since,
            targets=tuple(to),
            steps=tuple(steps),
            project=_absolute(project),
            site=_absolute(site),
            key_path=_absolute(key_path),
            key_passphrase_file=_absolute(key_passphrase_file),
            jobs=how.jobs,
            executor=how.executor or Asked().executor,
            fail_fast=bool(how.fail_fast),
        )
        if not asked.releases:
            to_stderr(f"nothing changed since {how.changed_since}: nothing to do")
            if as_json:
                from relforge.publishing.outputs import SentReleasesOutput

                print_json(SentReleasesOutput(releases=()).model_dump(mode="json"))
            return 0
        # As it was typed: with its project, site, keys and registry it can be typed again.
        return _Execution(place, asked, shlex.join(["relforge", *sys.argv[1:]])).run(as_json, told)


def resume(
    run_id: str,
    *,
    project: Path | None,
    site: Path | None,
    key_path: Path | None = None,
    key_passphrase_file: Path | None = None,
    as_json: bool = False,
    how: How | None = None,
) -> int:
    """Goes on with a run: the releases of it that did not come to their end.

    It goes about it as it did before, but for what is said anew.
    """
    how = how or How()
    home = workplace(project, site).home
    seen = stamp(home, run_id)
    run = load_run(home, run_id)
    if run.state == "running":
        raise RelforgeError(
            f"run {run.id} is still at work",
            code=ExitCode.ENVIRONMENT,
            where=run.id,
            hint=f"wait for its end: relforge runs logs {run.id} --follow",
        )
    anew = {
        "project": _absolute(project),
        "site": _absolute(site),
        "key_path": _absolute(key_path),
        "key_passphrase_file": _absolute(key_passphrase_file),
        "jobs": how.jobs,
        "executor": how.executor,
        "fail_fast": how.fail_fast,
    }
    said = {name: value for name, value in anew.items() if value is not None}
    asked = run.asked.model_copy(update=said)
    if not asked.releases:
        raise RelforgeError(
            f"run {run.id} does not say what it was asked for",
            code=ExitCode.USAGE,
            why="an earlier version of relforge made it",
            hint=f"type its command again: {run.command}",
        )
    place = with_keys(
        workplace(_project_of(run, asked), _path(asked.site)),
        _path(asked.key_path),
        _path(asked.key_passphrase_file),
    )
    if asked.dist is not None and place.site.dist is None:
        place = replace(place, dist=Path(asked.dist))
    # Of two that go on with it at once, one is told who was first.
    alone = held_lock(place.home / "locks" / f"run-{run.id}", purpose="--resume", wait_s=0)
    with alone, telling("relforge release", how.junit, how.summary) as told:
        if stamp(place.home, run_id) != seen:
            run = load_run(place.home, run.id)  # somebody has gone on with it meanwhile
        if all(one.state == "done" for one in run.releases):
            to_stderr(f"run {run.id} is done: nothing is left to do")
            return 0
        told.at(place)
        asked = asked.model_copy(update={"root": str(place.project.root)})
        return _Execution(place, asked, run.command, resumed=run).run(as_json, told)


def _project_of(run: Run, asked: Asked) -> Path | None:
    """The run's own project, wherever the user stands. Raises RelforgeError (USAGE)."""
    named = asked.project or asked.root
    if named is None or Path(named).is_dir():
        return _path(named)
    raise RelforgeError(
        f"the project of run {run.id} is gone",
        code=ExitCode.USAGE,
        where=named,
        hint=f"if it was moved, say where to: relforge release --resume {run.id} --project DIR",
    )


class _Execution:
    """One run from what was asked for to its exit code."""

    def __init__(
        self, place: Workplace, asked: Asked, command: str, *, resumed: Run | None = None
    ) -> None:
        self.place, self.asked, self.command, self.resumed = place, asked, command, resumed
        self.following = Following(place, asked)
        self.runner: Runner | None = None
        done = {one.release for one in resumed.releases if one.state == "done"} if resumed else ()
        self.names = [name for name in asked.releases if name not in done]

    @property
    def alone(self) -> bool:
        """One release: it is told in full, and its errors are the command's."""
        return len(self.asked.releases) == 1

    def run(self, as_json: bool, told: Telling) -> int:
        planned = self._planned()
        with interruptible() as cancel:
            try:
                every = self._begun(planned, cancel)
            except KeyboardInterrupt:
                # The second signal: workers may hang, and what they started dies with this process.
                if self.runner is not None and self.runner.run_id:
                    to_stderr(f"to go on: {self.asked.resuming(self.runner.run_id)}")
                sys.stderr.flush()
                os._exit(int(ExitCode.INTERRUPTED))
        # Whether it was found out before the run or in it, that it cannot be planned.
        outcomes = tuple(one for one in every if one.release not in planned.not_planned)
        failures = dict(planned.not_planned)
        failures |= {one.release: one.error for one in outcomes if one.error is not None}
        causes: dict[tuple[str | None, ...], list[str]] = {}
        for name in self.names:
            error = failures.get(name)
            if error is not None and not isinstance(error, NotSentError):
                # Each has a log of its own; of one cause the first one's is told.
                cause = (error.what, error.where, error.why, error.hint)
                causes.setdefault(cause, []).append(name)
        for names in causes.values():
            before = "" if self.alone else f"{several(names)}\n"
            sys.stderr.write(f"{before}{error_text(failures[names[0]])}\n")
        run = load_run(self.place.home, every[0].run_id) if every else None
        told.run(run, outcomes, planned.not_planned, self.following.sent)
        if not self.alone:
            sys.stderr.write(summary.table(self.names, outcomes, planned.not_planned, run))
        if as_json:
            self._print_json(outcomes, planned.not_planned)
        for one in outcomes:
            if one.bug is not None:
                raise one.bug
        return next((int(failures[name].code) for name in self.names if name in failures), 0)

    def _begun(self, planned: _Planned, cancel: CancelToken) -> tuple[Outcome, ...]:
        if self.asked.fail_fast and planned.not_planned:
            to_stderr("nothing was begun: a release cannot be planned, and --fail-fast was said")
            return ()
        return self._executed(planned, cancel)

    def _planned(self) -> _Planned:
        plans: list[ReleasePlan] = []
        not_planned: dict[str, RelforgeError] = {}
        if self._plans_later:
            later = partial(self._plan_noted, not_planned)
            plans = [plan_later(name, partial(later, name)) for name in self.names]
            return _Planned(tuple(plans), not_planned)
        for name in self.names:
            try:
                plans.append(self._plan(name))
            except RelforgeError as error:
                if self.alone:
                    raise
                not_planned[name] = error
        for plan in plans:
            ask_for_passphrases(plan, self.place)
        return _Planned(tuple(plans), not_planned)

    @property
    def _plans_later(self) -> bool:
        """Whether a run that goes on can begin before all of it is planned again.

        It was planned before, and its keys are known: what was changed since fails when the run
        comes to it. Not where a release that cannot be planned ends the run, or keys may want
        passphrases, for which is asked before anything runs.
        """
        asked, site = self.asked, self.place.site
        if self.resumed is None or self.alone or asked.fail_fast:
            return False
        return (
            not site.identities
            and site.publish.signing is None
            and asked.keys.keys() >= {*self.names}
        )

    def _plan_noted(self, not_planned: dict[str, RelforgeError], name: str) -> ReleasePlan:
        try:
            return self._plan(name)
        except RelforgeError as error:
            not_planned[name] = error
            raise

    def _plan(self, name: str) -> ReleasePlan:
        asked = self.asked
        release = self.place.project.release(name)
        plan = _plan(self.place, release, asked.until, asked.targets, since=asked.since)
        before = asked.keys.get(name)
        now = {stage.name: stage.key for stage in plan.stages if stage.key}
        changed = [stage for stage in before or () if before and now.get(stage) != before[stage]]
        # What a stage that only looks at this host looks for depends on what is left to do.
        changed = [one for one in changed if one != "preflight"]
        if changed:
            raise RelforgeError(
                f"{name} is not what it was when the run began",
                code=ExitCode.USAGE,
                why=f"{', '.join(changed)} would be of other inputs: a manifest, lock, patch set "
                "or template was changed since",
                hint=f"begin a new run: relforge release --release {name}",
            )
        return plan

    def _executed(self, planned: _Planned, cancel: CancelToken) -> tuple[Outcome, ...]:
        place, asked = self.place, self.asked
        listener = make_listener()
        with executor_of(asked.executor, place.site, cancel) as executor:
            runner = Runner(
                home=place.home,
                executor=executor,
                site=place.site,
                dist=place.dist,
                cancel=cancel,
                listeners=(listener,),
                limits=Limits.of(place.site.limits, place.home, jobs=asked.jobs),
                fail_fast=asked.fail_fast,
            )
            self.runner = runner
            try:
                return runner.run_all(
                    planned.plans,
                    STAGES,
                    self.command,
                    asked,
                    not_planned=planned.not_planned,
                    after=self.following(cancel),
                    resumed=self.resumed,
                )
            except Cancelled:
                if not self.alone:
                    to_stderr(f"to go on: {asked.resuming(runner.run_id)}")
                raise
            finally:
                listener.close()

    def _print_json(
        self, outcomes: Sequence[Outcome], not_planned: Mapping[str, RelforgeError]
    ) -> None:
        from relforge.publishing.outputs import SentOutput, SentReleasesOutput

        shown = tuple(
            SentOutput(
                **release_json(o.run_id, o.entry, o.results, self.place.dist).model_dump(),
                sent=self.following.sent.get(o.release, ()),
            )
            for o in outcomes
        )
        several = SentReleasesOutput(
            releases=shown,
            not_started=tuple(NotStarted.of(name, error) for name, error in not_planned.items()),
        )
        print_json((shown[0] if self.alone else several).model_dump(mode="json"))


def run_one(place: Workplace, release: Release, until: str | None, cancel: CancelToken) -> Outcome:
    """One release up to a stage, in a run of its own. Raises RelforgeError when it cannot be
    planned, Cancelled."""
    plan = _plan(place, release, until, ())
    ask_for_passphrases(plan, place)
    listener = make_listener()
    runner = Runner(
        home=place.home,
        executor=LocalExecutor(),
        site=place.site,
        dist=place.dist,
        cancel=cancel,
        listeners=(listener,),
    )
    try:
        return runner.run(plan, STAGES, shlex.join(["relforge", *sys.argv[1:]]))
    finally:
        listener.close()


def _plan(
    place: Workplace,
    release: Release,
    until: str | None,
    targets: Sequence[str],
    *,
    since: str | None = None,
) -> ReleasePlan:
    names = names_of(release, place.project.device(release.device))
    registry = release_place(place.site, targets, names)
    planned = subject(place.project, release, place.site, registry=registry, dist=place.dist)
    return make_plan(planned, STAGES, Store(place.home), until=until, since=since)


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
