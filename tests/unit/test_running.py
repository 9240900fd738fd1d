"""A run of many releases: shared work once, within limits; failures stay where they are."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relforge import redact
from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.events import (
    Event,
    ReleaseFinished,
    RunFinished,
    StageFinished,
    StageLine,
    StageRetried,
    StageStarted,
    StageWaiting,
)
from relforge.evidence.reading_runs import list_runs, read_events
from relforge.evidence.runs import Asked, Run
from relforge.executor.local import Executor, LocalExecutor
from relforge.manifest.limits import StageLimits
from relforge.manifest.site import LimitsSite, Site
from relforge.plan import ReleasePlan, plan_later
from relforge.running.limits import Limits, Taken
from relforge.running.runner import Runner
from relforge.running.walk import Outcome, Walk
from relforge.stage import Job, Resources, Stage, StageContext, StageResult
from tests.support.plaintext import files_holding
from tests.support.toys import PIPELINE, Toy, ToyRelease, note, noted, plan_of

_PLENTY = {"cpu_cores": 8, "memory_bytes": 99, "disk_bytes": 99, "engine": 8}


class Scene:
    """A home with toy releases; ``events`` are those of the last run."""

    def __init__(self, home: Path, stages: Sequence[Stage[Any, Any]] = PIPELINE) -> None:
        self.home, self.stages = home, stages
        self.cancel = CancelToken()
        self.executor: Executor = LocalExecutor()
        self.events: list[Event] = []

    def run(
        self,
        *toys: ToyRelease,
        jobs: int = 4,
        since: str | None = None,
        fail_fast: bool = False,
        not_planned: dict[str, RelforgeError] | None = None,
        resumed: Run | None = None,
        after: Any = None,
        **limits: Any,
    ) -> tuple[Outcome, ...]:
        names = (*(toy.name for toy in toys), *(not_planned or {}))
        if resumed is not None:
            names = resumed.asked.releases
        return self.run_plans(
            [plan_of(self.home, toy, self.stages, since) for toy in toys],
            Asked(releases=names, since=since),
            jobs=jobs,
            fail_fast=fail_fast,
            not_planned=not_planned,
            resumed=resumed,
            after=after,
            **limits,
        )

    def run_plans(
        self,
        plans: Sequence[ReleasePlan],
        asked: Asked,
        *,
        jobs: int = 4,
        fail_fast: bool = False,
        not_planned: dict[str, RelforgeError] | None = None,
        resumed: Run | None = None,
        after: Any = None,
        **limits: Any,
    ) -> tuple[Outcome, ...]:
        self.events.clear()
        runner = Runner(
            home=self.home,
            executor=self.executor,
            site=Site(),
            dist=self.home / "dist",
            cancel=self.cancel,
            listeners=(self.events.append,),
            limits=Limits(
                jobs=jobs, **{"cpu_cores": 8, "memory_bytes": 99, "disk_bytes": 99, **limits}
            ),
            fail_fast=fail_fast,
        )
        return runner.run_all(
            plans,
            self.stages,
            "relforge release",
            asked,
            not_planned=not_planned,
            resumed=resumed,
            after=after,
        )

    def said(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def stored(self) -> Run:
        (run,) = list_runs(self.home)
        return run


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def states(outcomes: Sequence[Outcome]) -> dict[str, str]:
    return {one.release: one.entry.state for one in outcomes}


def toys(count: int, **same: Any) -> list[ToyRelease]:
    return [ToyRelease(f"toy{number}", **same) for number in range(count)]


def test_what_releases_share_is_done_once(scene: Scene) -> None:
    eight = toys(8, words={"fetch": "one", "make": "one"}, does={"fetch": {"sleep_s": 0.05}})
    outcomes = scene.run(*eight)
    assert set(states(outcomes).values()) == {"done"}
    assert sorted(name.split()[0] for name in noted(scene.home)) == [
        "fetch", *["look"] * 8, "make", *["test"] * 8,
    ]  # fmt: skip
    fetched = [e for e in scene.said(StageFinished) if e.stage == "fetch"]
    assert sorted(e.status for e in fetched) == ["ran", *["reused"] * 7]
    (first,) = [e.release for e in fetched if e.status == "ran"]
    assert {e.shared_with for e in fetched if e.status == "reused"} <= {None, first}
    assert [o.results["test"].said for o in outcomes] == [  # type: ignore[attr-defined]
        f"test:toy{n}(make:one(fetch:one()))" for n in range(8)
    ]
    assert sum(name.startswith("fetch") for name in noted(scene.home, "begin")) == 1
    assert scene.stored.state == "done"


def test_no_secret_of_a_fault_is_told_or_kept(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redact, "_secrets", set())
    word = "a-word-of-a-proxy"
    redact.register(word)
    scene.run(
        ToyRelease("bug", does={"make": {"raises": f"http://me:{word}@h"}}),
        ToyRelease("bad", does={"make": {"fails": 1, "why": f"the proxy refused {word}"}}),
        ToyRelease("line", does={"make": {"says": f"with {word}"}}),
    )
    stored = scene.stored
    assert stored.release("bug").error == "ZeroDivisionError: http://me:[redacted]@h"
    assert "refused [redacted]" in (stored.release("bad").error or "")
    told = [event for event in scene.events if "[redacted]" in event.model_dump_json()]
    assert {type(event) for event in told} == {ReleaseFinished, StageLine}
    assert word not in repr(scene.events), "what listens gets it as it is kept"
    assert files_holding(word.encode(), scene.home / "runs") == []


def test_one_that_fails_stops_no_other(scene: Scene) -> None:
    bad = ToyRelease("bad", does={"make": {"fails": 9, "code": 5}})
    gate = ToyRelease("gate", does={"make": {"verdict": "inconclusive"}})
    bug = ToyRelease("bug", does={"make": {"raises": "a bug"}})
    unread = RelforgeError("the manifest is no manifest", code=ExitCode.USAGE, hint="mend it")
    outcomes = scene.run(bad, gate, bug, *toys(3), not_planned={"unread": unread})
    assert states(outcomes) == {
        "bad": "failed", "gate": "failed", "bug": "failed",
        **{f"toy{n}": "done" for n in range(3)},
    }  # fmt: skip
    by_name = {one.release: one for one in outcomes}
    assert [by_name[name].entry.exit_code for name in ("bad", "gate", "bug")] == [5, 6, 1]
    assert isinstance(by_name["bug"].bug, ZeroDivisionError)
    assert "test" not in by_name["bad"].results
    stored = scene.stored
    assert stored.state == "failed"
    assert stored.exit_code == 5, "that of the first one"
    assert stored.error == "4 of 7 releases did not come to their end"
    assert stored.release("unread").exit_code == 2
    assert "no manifest" in (stored.release("unread").error or "")
    assert stored.release("bad").next == f"relforge release --resume {stored.id}"


def test_fail_fast_stops_the_others(scene: Scene) -> None:
    slow = toys(3, does={"fetch": {"sleep_s": 30}})
    started = time.monotonic()
    outcomes = scene.run(
        ToyRelease("bad", does={"fetch": {"fails": 9}}), *slow, jobs=2, fail_fast=True
    )
    assert time.monotonic() - started < 20
    assert states(outcomes) == {"bad": "failed", **{f"toy{n}": "interrupted" for n in range(3)}}
    assert "--fail-fast" in (outcomes[1].entry.error or "")
    assert scene.stored.exit_code == 5


def test_the_work_of_several_that_fails_fails_for_each(scene: Scene) -> None:
    three = toys(
        3, words={"fetch": "one"}, does={"fetch": {"fails": 99, "sleep_s": 1.0, "code": 4}}
    )
    outcomes = scene.run(*three)
    assert {one.entry.exit_code for one in outcomes} == {4}
    assert sum(name.startswith("fetch") for name in noted(scene.home, "begin")) == 1


def test_a_resumed_run_does_what_is_left(scene: Scene) -> None:
    bad = ToyRelease("bad", does={"make": {"fails": 1}})
    first = scene.run(bad, *toys(2))
    assert states(first)["bad"] == "failed"
    before = scene.stored
    done = len(noted(scene.home))
    second = scene.run(bad, resumed=before)
    assert states(second) == {"bad": "done"}
    assert [name for name in noted(scene.home)[done:] if "look" not in name] == [
        "make bad", "test bad",
    ]  # fmt: skip
    stored = scene.stored
    assert (stored.id, stored.attempt, stored.state) == (before.id, 2, "done")
    assert [one.state for one in stored.releases] == ["done"] * 3
    assert {e.type for e in read_events(scene.home / "runs" / stored.id)} >= {"run-finished"}


def test_a_plan_is_made_where_the_run_comes_to_its_release(scene: Scene) -> None:
    made: dict[str, list[str]] = {}

    def make(toy: ToyRelease) -> ReleasePlan:
        made[toy.name] = [event.release for event in scene.said(StageStarted)]
        if toy.name == "toy2":
            raise RelforgeError("it is not what it was", code=ExitCode.USAGE, hint="a new run")
        return plan_of(scene.home, toy, scene.stages)

    plans = [plan_later(toy.name, partial(make, toy)) for toy in toys(4)]
    known = {toy.name: {"make": "1"} for toy in toys(4)}
    outcomes = scene.run_plans(
        plans, Asked(releases=tuple(known), keys=known, root="/project"), jobs=1
    )
    assert states(outcomes) == {"toy0": "done", "toy1": "done", "toy2": "failed", "toy3": "done"}
    assert made["toy0"] == []
    assert set(made["toy1"]) == {"toy0"}
    assert list(made) == list(known), "each once, in their order"
    (ended,) = (e for e in scene.said(ReleaseFinished) if e.release == "toy2")
    assert (ended.exit_code, ended.next) == (2, "a new run")
    assert "it is not what it was" in ended.error
    assert scene.stored.asked.keys == known
    assert scene.stored.exit_code == 2


def test_a_plan_with_a_bug_stops_no_other(scene: Scene) -> None:
    def make(toy: ToyRelease) -> ReleasePlan:
        if toy.name == "toy1":
            raise AttributeError("nothing like that")
        return plan_of(scene.home, toy, scene.stages)

    plans = [plan_later(toy.name, partial(make, toy)) for toy in toys(3)]
    known: dict[str, dict[str, str]] = {toy.name: {} for toy in toys(3)}
    outcomes = scene.run_plans(plans, Asked(releases=tuple(known), keys=known, root="/project"))
    assert states(outcomes) == {"toy0": "done", "toy1": "failed", "toy2": "done"}
    assert str(outcomes[1].bug) == "nothing like that"
    assert scene.stored.exit_code == 1


def test_a_run_that_is_stopped_plans_no_more(scene: Scene) -> None:
    def never() -> ReleasePlan:
        raise AssertionError("it was planned")

    scene.cancel.cancel("enough")
    plans = [plan_later(toy.name, never) for toy in toys(2)]
    known: dict[str, dict[str, str]] = {toy.name: {} for toy in toys(2)}
    with pytest.raises(Cancelled):
        scene.run_plans(plans, Asked(releases=tuple(known), keys=known, root="/project"))
    assert {one.state for one in scene.stored.releases} == {"interrupted"}


def test_from_a_stage_on_everything_is_done_anew(scene: Scene) -> None:
    two = toys(2, words={"make": "one"})
    scene.run(*two)
    before = len(noted(scene.home))
    scene.run(*two, since="make")
    again = [name.split()[0] for name in noted(scene.home)[before:]]
    assert sorted(set(again)) == ["look", "make", "test"]
    assert again.count("make") == 2, "they are of other fetched things"
    with pytest.raises(RelforgeError, match="unknown stage 'bake'"):
        scene.run(*two, since="bake")


def test_what_was_done_anew_is_not_done_again_when_the_run_goes_on(scene: Scene) -> None:
    two = toys(2)
    scene.run(*two)
    slow = [replace(toy, does={"test": {"fails": 2}}) for toy in two]
    scene.run(*slow, since="make")
    before, run = len(noted(scene.home)), max(list_runs(scene.home), key=lambda one: one.started_s)
    assert run.state == "failed"
    scene.run(*slow, since="make", resumed=run)
    again = [name for name in noted(scene.home)[before:] if "look" not in name]
    assert sorted(again) == ["test toy0", "test toy1"]


def test_forced_work_of_several_is_done_once_in_a_run(scene: Scene) -> None:
    two = toys(2, words={"fetch": "one", "make": "one"})
    scene.run(*two)
    before = len(noted(scene.home))
    scene.run(*two, since="make")
    again = [name.split()[0] for name in noted(scene.home)[before:]]
    assert (again.count("make"), again.count("test")) == (1, 2)


@pytest.mark.parametrize(
    ("needs", "limits", "most"),
    [
        (Resources(cpu_cores=2), {"cpu_cores": 4}, 2),
        (Resources(cpu_cores=0, memory_bytes=40), {"memory_bytes": 99}, 2),
        (Resources(cpu_cores=0, disk_bytes=60), {"disk_bytes": 99}, 1),
        (Resources(cpu_cores=0, engine=True), {"engine": 3}, 3),
        (Resources(cpu_cores=0, device="x1"), {}, 1),
        (Resources(cpu_cores=0, device="x1"), {"devices": {"x1": 2}}, 2),
        (Resources(cpu_cores=2, device="cpu", shared_device=True), {"cpu_cores": 6}, 3),
        (Resources(cpu_cores=2, device="cpu", shared_device=True), {"devices": {"cpu": 1}}, 1),
        (Resources(cpu_cores=0), {"jobs": 2}, 2),
        (Resources(cpu_cores=99), {}, 1),
    ],
)
def test_what_runs_at_once_stays_within_the_limits(
    tmp_path: Path, needs: Resources, limits: dict[str, Any], most: int
) -> None:
    scene = Scene(tmp_path, (Toy("only", resources=needs),))
    outcomes = scene.run(*toys(5, does={"only": {"sleep_s": 0.05}}), **{"jobs": 5, **limits})
    assert set(states(outcomes).values()) == {"done"}
    assert at_once(scene) == most


def test_a_stage_that_goes_to_a_host_is_told_to_begin_there_and_once(scene: Scene) -> None:
    class Elsewhere(LocalExecutor):
        def sends(self, stage: Stage[Any, Any], job: Job[Any]) -> bool:
            return stage.name == "make"

        def execute(self, stage: Stage[Any, Any], job: Job[Any], ctx: StageContext) -> StageResult:
            if stage.name == "make":
                ctx.emit(StageStarted(release=ctx.release, stage="make", time_s=0.0, host="north"))
            return super().execute(stage, job, ctx)

    scene.executor = Elsewhere()
    scene.run(ToyRelease("one"))
    told = [(event.stage, event.host) for event in scene.said(StageStarted)]
    assert [one for one in told if one[0] == "make"] == [("make", "north")]
    assert sorted({stage for stage, _ in told}) == sorted(stage for stage, _ in told)
    assert ("test", None) in told


def at_once(scene: Scene) -> int:
    """The most that worked at the same time."""
    now = most = 0
    for row in (scene.home / "done.txt").read_text().splitlines():
        now += {"begin": 1, "end": -1}.get(row.split()[0], 0)
        most = max(most, now)
    return most


def test_what_measures_runs_alone(tmp_path: Path) -> None:
    stages = (Toy("make"), Toy("measure", alone=True))
    scene = Scene(tmp_path, stages)
    does = {"make": {"sleep_s": 0.03}, "measure": {"sleep_s": 0.03}}
    scene.run(*toys(4, does=does))
    rows = (tmp_path / "done.txt").read_text().splitlines()
    working: set[str] = set()
    for row in rows:
        what, stage, release = row.split()[:3]
        if what == "begin":
            assert not (stage == "measure" and working), rows
            assert not any(one.startswith("measure") for one in working), rows
            working.add(f"{stage} {release}")
        else:
            working.discard(f"{stage} {release}")
    assert any("alone" in event.why for event in scene.said(StageWaiting))


def test_parts_that_releases_share_are_made_once(scene: Scene) -> None:
    a = ToyRelease("a", does={"fetch": {"parts": ["vllm", "gems"], "part_s": 0.05}})
    b = ToyRelease("b", does={"fetch": {"parts": ["vllm", "other"], "part_s": 0.05}})
    outcomes = scene.run(a, b)
    assert set(states(outcomes).values()) == {"done"}
    assert sorted(noted(scene.home, "part")) == ["gems", "other", "vllm"]
    begun = noted(scene.home, "begin")
    assert begun.count("fetch a") == begun.count("fetch b") == 1
    started = [(e.release, e.stage) for e in scene.said(StageStarted)]
    assert len(started) == len(set(started))


def test_a_part_that_is_not_there_fails_for_those_that_need_it(scene: Scene) -> None:
    does = {"fetch": {"parts": ["vllm"], "bad_part": "vllm", "part_s": 0.1}}
    outcomes = scene.run(ToyRelease("a", does=does), ToyRelease("b", does=does), *toys(1))
    assert states(outcomes) == {"a": "failed", "b": "failed", "toy0": "done"}
    assert outcomes[0].entry.exit_code == 4
    assert not [name for name in noted(scene.home, "begin") if name in ("fetch a", "fetch b")]


def test_a_failure_that_may_go_away_is_tried_again(scene: Scene) -> None:
    limits = {"make": StageLimits(retries=2, retry_wait_s=0)}
    lucky = ToyRelease("lucky", does={"make": {"fails": 2, "code": 3}}, limits=limits)
    unlucky = ToyRelease("unlucky", does={"make": {"fails": 3, "code": 3}}, limits=limits)
    wrong = ToyRelease("wrong", does={"make": {"fails": 1, "code": 2}}, limits=limits)
    gate = ToyRelease("gate", does={"make": {"verdict": "fail"}}, limits=limits)
    outcomes = scene.run(lucky, unlucky, wrong, gate)
    assert states(outcomes) == {
        "lucky": "done", "unlucky": "failed", "wrong": "failed", "gate": "failed",
    }  # fmt: skip
    tried = [(e.release, e.attempt, e.of) for e in scene.said(StageRetried)]
    assert sorted(tried) == [
        ("lucky", 2, 3), ("lucky", 3, 3), ("unlucky", 2, 3), ("unlucky", 3, 3),
    ]  # fmt: skip


def test_a_shared_part_is_tried_again_and_has_a_time_limit_too(scene: Scene) -> None:
    limits = {"make": StageLimits(retries=1, retry_wait_s=0, timeout_s=0.3)}
    shared = {"make": {"parts": ["base"], "part_fails": 1}}
    two = [ToyRelease(f"toy{n}", does=shared, limits=limits) for n in range(2)]
    assert set(states(scene.run(*two)).values()) == {"done"}
    assert noted(scene.home, "part") == ["base"]
    (again,) = scene.said(StageRetried)
    assert (again.stage, again.why) == ("make", "base did not come")
    slow = {"make": {"parts": ["slow"], "part_s": 30}}
    outcomes = scene.run(*[ToyRelease(f"slow{n}", does=slow, limits=limits) for n in range(2)])
    for outcome in outcomes:
        assert outcome.error is not None
        assert outcome.error.why == "the limit is 0.3 s"


@pytest.mark.parametrize("lost", [False, True], ids=["the first host", "another host"])
def test_waiting_for_a_host_is_no_part_of_the_time_limit(scene: Scene, lost: bool) -> None:
    class Queue(LocalExecutor):
        def sends(self, stage: Stage[Any, Any], job: Job[Any]) -> bool:
            return stage.name == "make"

        def execute(self, stage: Stage[Any, Any], job: Job[Any], ctx: StageContext) -> StageResult:
            if stage.name == "make":
                now = {"release": ctx.release, "stage": "make", "time_s": 0.0}
                if lost:
                    ctx.emit(StageStarted(**now, host="north"))
                    ctx.emit(StageWaiting(**now, why="for a host in the place of north"))
                ctx.cancel.sleep(1.0)
                ctx.emit(StageStarted(**now, host="south"))
            return super().execute(stage, job, ctx)

    scene.executor = Queue()
    limits = {"make": StageLimits(timeout_s=0.5)}
    patient = ToyRelease("patient", limits=limits)
    slow = ToyRelease("slow", does={"make": {"sleep_s": 30}}, limits=limits)
    outcomes = scene.run(patient, slow)
    assert states(outcomes) == {"patient": "done", "slow": "failed"}
    assert outcomes[1].error is not None
    assert outcomes[1].error.why == "the limit is 0.5 s"


def test_a_stage_that_takes_too_long_is_ended(scene: Scene) -> None:
    limits = {"make": StageLimits(timeout_s=0.2)}
    slow = ToyRelease("slow", does={"make": {"sleep_s": 30}}, limits=limits)
    started = time.monotonic()
    outcomes = scene.run(slow, *toys(1))
    assert time.monotonic() - started < 20
    assert states(outcomes) == {"slow": "failed", "toy0": "done"}
    error = outcomes[0].error
    assert error is not None
    assert (error.code, error.why) == (ExitCode.ENVIRONMENT, "the limit is 0.2 s")
    assert "limits.make.timeout_s" in (error.hint or "")


def test_stopped_by_a_signal_it_goes_on_later(scene: Scene) -> None:
    four = toys(4, does={"make": {"sleep_s": 0.4}})
    threading.Timer(0.15, scene.cancel.cancel, ("SIGINT",)).start()
    with pytest.raises(Cancelled, match="SIGINT"):
        scene.run(*four, jobs=2)
    stored = scene.stored
    assert (stored.state, stored.exit_code) == ("interrupted", 130)
    assert {one.state for one in stored.releases} == {"interrupted"}
    assert [e.state for e in scene.said(RunFinished)] == ["interrupted"]
    scene.cancel = CancelToken()
    again = scene.run(*four, resumed=stored)
    assert set(states(again).values()) == {"done"}
    assert sorted(set(noted(scene.home))) == sorted(
        f"{stage} toy{n}" for n in range(4) for stage in ("look", "fetch", "make", "test")
    )
    for stage in ("fetch", "make", "test"):
        for number in range(4):
            assert noted(scene.home).count(f"{stage} toy{number}") == 1


def test_what_follows_a_release_may_fail_it(scene: Scene) -> None:
    def after(walk: Walk, run_id: str) -> RelforgeError | None:
        note(scene.home, f"after {walk.name}")
        assert walk.outcome(run_id).entry.seconds > 0
        assert run_id == scene.stored.id
        return RelforgeError("no registry", code=ExitCode.PUBLISH) if walk.name == "toy1" else None

    outcomes = scene.run(*toys(3), after=after)
    assert states(outcomes) == {"toy0": "done", "toy1": "failed", "toy2": "done"}
    assert scene.stored.exit_code == 7
    assert sorted(noted(scene.home, "after")) == ["toy0", "toy1", "toy2"]
    ended = {e.release: e.state for e in scene.said(ReleaseFinished)}
    assert ended == states(outcomes)


def test_the_limits_are_those_of_the_site_else_of_the_host(tmp_path: Path) -> None:
    found = Limits.of(LimitsSite(), tmp_path / "home")
    assert found.jobs == 1
    assert found.cpu_cores == 2 * len(os.sched_getaffinity(0))
    assert found.memory_bytes > 1 << 20
    assert found.disk_bytes > 1 << 20
    site = LimitsSite(jobs=3, cpu_cores=64, devices={"bi_V150": 4})
    assert Limits.of(site, tmp_path).jobs == 3
    named = Limits.of(site, tmp_path, jobs=9)
    assert (named.jobs, named.cpu_cores, named.devices) == (9, 64, {"bi_V150": 4})


def test_an_idle_host_waits_for_nothing() -> None:
    taken = Taken(Limits(jobs=2, cpu_cores=1, memory_bytes=1))
    huge = Resources(cpu_cores=64, memory_bytes=10**12, device="x")
    assert taken.lacking(huge) is None
    taken.take(huge)
    assert "cores" in (taken.lacking(Resources(cpu_cores=1)) or "")
    assert "device x" in (taken.lacking(huge) or "")
    taken.give_back(huge)
    assert taken.lacking(huge, alone=True) is None


def test_a_token_is_set_with_its_parent_and_alone() -> None:
    parent = CancelToken()
    one, other = parent.child(), parent.child()
    one.cancel("alone")
    assert (one.cancelled, parent.cancelled, other.cancelled) == (True, False, False)
    parent.cancel(signal.Signals(2).name)
    assert (other.reason, one.reason, parent.child().cancelled) == ("SIGINT", "alone", True)
