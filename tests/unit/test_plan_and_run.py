"""Plans are pure; runs reuse what is unaltered, stop at the first failure, and say why."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, ClassVar

import pytest

from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.events import Event, StageFinished
from relforge.evidence.reading_runs import list_runs
from relforge.evidence.store import Store
from relforge.executor.local import LocalExecutor
from relforge.explaining import changes, differences, with_stages
from relforge.files import stamp
from relforge.manifest.site import Site
from relforge.plan import Planning, ReleasePlan, Subject, make_plan
from relforge.running.runner import Runner
from relforge.running.walk import Outcome
from relforge.stage import (
    Job,
    Resources,
    Skip,
    Stage,
    StageContext,
    StageInputs,
    StageResult,
    in_turn,
)


class Numbers(StageInputs):
    values: tuple[int, ...]


class Total(StageResult):
    total: int


class Add(Stage[Numbers, Total]):
    name = "add"
    title = "addition"
    result_type = Total
    ran: ClassVar[list[str]] = []

    def __init__(self, values: tuple[int, ...] = (1, 2)) -> None:
        self.values = values

    def plan(self, planning: Planning) -> Numbers | Skip:
        return Numbers(values=self.values)

    def resources(self, inputs: Numbers) -> Resources:
        return Resources(cpu_cores=2, memory_bytes=5, disk_bytes=10 * len(inputs.values))

    def secrets(self, inputs: Numbers, subject: Subject) -> tuple[str, ...]:
        return ("identities",)

    def run(self, job: Job[Numbers], ctx: StageContext) -> Total:
        self.ran.append(self.name)
        pickle.loads(pickle.dumps(job))
        path = job.env.home / "sum.txt"
        path.write_text(str(sum(job.inputs.values)))
        ctx.line(f"wrote {path}")
        return Total(total=sum(job.inputs.values), outputs=(stamp(path),))


class Double(Stage[Numbers, Total]):
    name = "double"
    title = "doubling"
    needs = ("add",)
    result_type = Total
    verdict: ClassVar[Any] = "pass"
    error: ClassVar[Exception | None] = None

    def plan(self, planning: Planning) -> Numbers | Skip:
        return Numbers(values=(int(planning.key("add")[:8], 16),))

    def resources(self, inputs: Numbers) -> Resources:
        return Resources(memory_bytes=7, disk_bytes=1, engine_disk_bytes=3, engine=True)

    def run(self, job: Job[Numbers], ctx: StageContext) -> Total:
        Add.ran.append(self.name)
        if self.error is not None:
            raise self.error
        before = job.upstream["add"]
        assert isinstance(before, Total)
        return Total(total=2 * before.total, verdict=self.verdict, reason="because")


class Look(Stage[Numbers, StageResult]):
    name = "look"
    title = "look"
    result_type = StageResult
    check_only = True

    seen: ClassVar[list[Planning]] = []

    def plan(self, planning: Planning) -> Numbers | Skip:
        self.seen.append(planning)
        return Numbers(values=())

    def run(self, job: Job[Numbers], ctx: StageContext) -> StageResult:
        Add.ran.append(self.name)
        return StageResult()


class Never(Stage[Numbers, StageResult]):
    name = "never"
    title = "never"
    result_type = StageResult

    def plan(self, planning: Planning) -> Numbers | Skip:
        return Skip(kind="not-needed", reason="the test needs none")

    def run(self, job: Job[Numbers], ctx: StageContext) -> StageResult:
        raise AssertionError("a skipped stage ran")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    Add.ran.clear()
    monkeypatch.setattr(Double, "verdict", "pass")
    monkeypatch.setattr(Double, "error", None)


class _Named:
    name = "toy-toy_x1"
    limits: ClassVar[dict[str, Any]] = {}


class _Subject:
    release = _Named()

    class project:
        roots = ()


def stages(values: tuple[int, ...] = (1, 2)) -> tuple[Stage[Any, Any], ...]:
    return (Look(), Add(values), Never(), Double())


def planned(
    home: Path,
    values: tuple[int, ...] = (1, 2),
    until: str | None = None,
    *,
    explain: bool = False,
) -> ReleasePlan:
    subject: Any = _Subject()
    return make_plan(subject, stages(values), Store(home), until=until, explain=explain)


def run(home: Path, plan: ReleasePlan, events: list[Event] | None = None) -> Outcome:
    runner = Runner(
        home=home,
        executor=LocalExecutor(),
        site=Site(),
        dist=home / "dist",
        cancel=CancelToken(),
        listeners=(events.append,) if events is not None else (),
    )
    return runner.run(plan, stages(), "relforge release")


def statuses(plan: ReleasePlan) -> dict[str, str]:
    return {s.name: s.status for s in plan.stages}


def test_a_first_plan_runs_everything_that_is_not_skipped(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert statuses(plan) == {"look": "run", "add": "run", "never": "skip", "double": "run"}
    assert plan.stages[2].because == "not-needed: the test needs none"
    assert list(tmp_path.iterdir()) == [], "planning writes nothing"


def test_a_second_run_reuses_every_result_and_looks_at_nothing(tmp_path: Path) -> None:
    first = run(tmp_path, planned(tmp_path))
    assert first.error is None
    assert Add.ran == ["look", "add", "double"]
    again = planned(tmp_path)
    assert statuses(again) == {"look": "reuse", "add": "reuse", "never": "skip", "double": "reuse"}
    second = run(tmp_path, again)
    assert Add.ran == ["look", "add", "double"]
    result = second.results["double"]
    assert isinstance(result, Total)
    assert result.total == 6


def test_a_look_at_the_host_knows_what_the_stages_that_will_run_need(tmp_path: Path) -> None:
    planned(tmp_path)
    needs = in_turn(Look.seen[-1].work.values())
    assert list(Look.seen[-1].work) == ["add", "double"]
    assert (needs.cpu_cores, needs.memory_bytes) == (2, 7), "one after another: the larger one"
    assert (needs.disk_bytes, needs.engine_disk_bytes) == (21, 3), "files stay: the sum"
    assert needs.engine
    assert Look.seen[-1].secrets == {"identities"}
    planned(tmp_path, until="add")
    assert not in_turn(Look.seen[-1].work.values()).engine
    run(tmp_path, planned(tmp_path))
    planned(tmp_path)
    assert Look.seen[-1].work == {}
    assert Look.seen[-1].secrets == frozenset()


def test_changed_inputs_run_again_and_the_plan_says_what_changed(tmp_path: Path) -> None:
    run(tmp_path, planned(tmp_path))
    plan = planned(tmp_path, (1, 5))
    assert statuses(plan)["add"] == "run"
    assert plan.stages[1].because == "values[1]: 2 → 5"


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_a_result_whose_output_was_touched_is_not_reused(tmp_path: Path, damage: str) -> None:
    run(tmp_path, planned(tmp_path))
    output = tmp_path / "sum.txt"
    if damage == "gone":
        output.unlink()
    else:
        output.write_text("4")
    plan = planned(tmp_path)
    assert statuses(plan)["add"] == "run"
    assert damage in plan.stages[1].because


def test_a_copied_output_with_the_same_content_is_still_good(tmp_path: Path) -> None:
    run(tmp_path, planned(tmp_path))
    output = tmp_path / "sum.txt"
    content = output.read_bytes()
    output.unlink()
    output.write_bytes(content)
    assert statuses(planned(tmp_path))["add"] == "reuse"


@pytest.mark.parametrize("verdict", ["fail", "inconclusive"])
def test_a_failed_gate_ends_the_run_and_is_never_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    monkeypatch.setattr(Double, "verdict", verdict)
    outcome = run(tmp_path, planned(tmp_path))
    assert outcome.error is not None
    assert outcome.error.code is ExitCode.GATE
    assert outcome.entry.state == "failed"
    assert outcome.entry.stages[-1].verdict == verdict
    assert statuses(planned(tmp_path))["double"] == "run"
    assert statuses(planned(tmp_path))["add"] == "reuse", "what passed is kept"


def test_a_failing_stage_leaves_its_error_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Double, "error", RelforgeError("no luck", code=ExitCode.BUILD))
    events: list[Event] = []
    outcome = run(tmp_path, planned(tmp_path), events)
    assert outcome.error is not None
    assert outcome.entry.exit_code == 5
    (stored,) = list_runs(tmp_path)
    assert stored.error is not None
    assert "no luck" in stored.error
    ended = [e for e in events if isinstance(e, StageFinished)]
    assert [e.status for e in ended] == ["ran", "ran", "skipped", "failed"]


def test_an_interrupted_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Double, "error", Cancelled("SIGINT"))
    with pytest.raises(Cancelled):
        run(tmp_path, planned(tmp_path))
    (stored,) = list_runs(tmp_path)
    assert stored.state == "interrupted"
    assert stored.exit_code == 130


def test_events_and_logs_are_kept(tmp_path: Path) -> None:
    outcome = run(tmp_path, planned(tmp_path))
    lines = (outcome.run_dir.parent / "events.jsonl").read_text().splitlines()
    types = [json.loads(line)["type"] for line in lines]
    assert types.count("stage-finished") == 4
    assert "wrote" in (outcome.run_dir / "logs" / "add.log").read_text()


def test_until_leaves_later_stages_out(tmp_path: Path) -> None:
    plan = planned(tmp_path, until="add")
    assert statuses(plan)["double"] == "skip"
    assert plan.stages[3].because.startswith("not-asked-for")
    with pytest.raises(RelforgeError, match="unknown stage"):
        planned(tmp_path, until="bake")


def test_a_damaged_record_is_a_miss_not_a_crash(tmp_path: Path) -> None:
    run(tmp_path, planned(tmp_path))
    (record,) = (tmp_path / "store" / "results" / "add").glob("*.json")
    record.write_text("{")
    assert statuses(planned(tmp_path))["add"] == "run"


def test_differences_name_places() -> None:
    assert differences({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}], "c": 1}) == [
        "a[1].b: 2 → 3",
        "c is new",
    ]


def test_differences_of_lists_are_told_by_name_where_members_have_one() -> None:
    old = {"wheels": [{"name": "a", "version": "1"}, {"name": "b", "version": "1"}]}
    new = {"wheels": [{"name": "b", "version": "2"}, {"name": "c", "version": "1"}]}
    assert differences(old, new) == [
        "wheels[a] is gone",
        "wheels[b].version: 1 → 2",
        "wheels[c] is new",
    ]
    swapped = {"wheels": old["wheels"][::-1]}
    assert differences(old, swapped) != [], "another order is a difference"
    assert differences({"a": [1]}, {"a": [1, 2]}) == ["a: [1] → [1, 2]"]


def test_a_changed_text_shows_its_lines() -> None:
    (change,) = changes({"dockerfile": "a\nb\nc"}, {"dockerfile": "a\nx\nc"})
    assert change.phrase == "dockerfile: text of 3 lines → text of 3 lines"
    assert change.diff == ("@@ -2 +2 @@", "-b", "+x")


def test_explain_says_what_a_stage_does_and_follows_a_change_to_its_cause(tmp_path: Path) -> None:
    run(tmp_path, planned(tmp_path))
    assert all(stage.explanation is None for stage in planned(tmp_path, (1, 5)).stages)
    plan = planned(tmp_path, (1, 5), explain=True)
    told = {stage.name: stage.explanation for stage in plan.stages}
    assert told["never"] is None
    add, double = told["add"], told["double"]
    assert add is not None
    assert double is not None
    assert add.does == "addition"
    assert add.secrets == ("identities",)
    assert [(c.where, c.before, c.now) for c in add.changes] == [("values[1]", "2", "5")]
    assert double.reads == ("add",)
    assert double.needs.engine
    assert double.compared_with is not None
    assert len(double.changes) == 1


def test_explain_compares_nothing_on_a_first_run_and_where_nothing_changed(tmp_path: Path) -> None:
    first = planned(tmp_path, explain=True)
    assert [s.explanation.compared_with for s in first.stages if s.explanation] == [None] * 3
    run(tmp_path, planned(tmp_path))
    again = planned(tmp_path, explain=True)
    assert [s.explanation.changes for s in again.stages if s.explanation] == [()] * 3


def test_a_key_that_changed_names_its_stage() -> None:
    found = changes({"build_key": "a", "other": "a"}, {"build_key": "b", "other": "c"})
    told = with_stages(found, {"build": "a"}, {"build": "b"})
    assert [(change.where, change.stage) for change in told] == [
        ("build_key", "build"),
        ("other", None),
    ]


def test_a_stage_of_another_revision_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, planned(tmp_path))
    monkeypatch.setattr(Add, "revision", 2)
    plan = planned(tmp_path)
    assert plan.stages[1].because == "relforge does this stage in another way than before"
