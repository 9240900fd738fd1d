"""The board as data: states and their reasons, staleness, history, what changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relforge.board.building import Board, make_board
from relforge.board.model import Entry
from relforge.card.model import Said
from relforge.events import StageStarted
from relforge.evidence.run_folder import RunFolder
from relforge.evidence.runs import ReleaseRun, Run
from relforge.manifest.project import Project, builtin_root
from tests.support.boards import (
    START_S,
    board_of,
    origin_of,
    put_record,
    put_run,
    run_of,
    stamp,
    varied,
)
from tests.support.fleet import make_project
from tests.support.records import record as small_record

RELEASE, OTHER = "model-0-chip_0", "model-0-chip_1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_project(tmp_path / "place", 2, wheels=3)
    (tmp_path / "place" / "dist").mkdir()
    return tmp_path / "place"


def record(root: Path, number: int = 0) -> dict[str, Any]:
    """Of a release that is made of what the manifests plan now, every gate passed."""
    made = small_record(("verdicts", {"smoke": "pass", "evaluate": "pass", "scan": "pass"}))
    return varied(made, Project((root, builtin_root())), RELEASE, number=number)


def entry(board: Board, release: str = RELEASE) -> Entry:
    return board.made[release].entry


def told(reasons: tuple[Said, ...]) -> list[str]:
    return [one.text % one.values for one in reasons]


def test_without_a_record_every_release_is_there_and_not_run(root: Path) -> None:
    board = board_of(root)
    own = board.index.releases
    assert [(one.release, one.state) for one in own] == [(RELEASE, "not-run"), (OTHER, "not-run")]
    assert told(own[0].why) == ["rendered, never executed on the device"]
    assert own[0].next == f"relforge release --release {RELEASE}"


def test_of_the_built_in_releases_those_that_were_run_are_there(root: Path) -> None:
    """They come with the program; in its own project they are all there."""
    built_in = "tiny-adder-cpu_x86"
    assert built_in not in board_of(root).made
    put_run(root / "home", run_of(built_in, 1))
    put_run(root / "home", run_of("of-another-project", 2))
    assert set(board_of(root).made) == {RELEASE, OTHER, built_in}
    own = Project((builtin_root(),))
    assert set(made_of(root, own).made) == set(own.release_files)


def made_of(root: Path, project: Project) -> Board:
    return make_board(replace(origin_of(root), project=project))


def test_what_a_lock_leaves_open_is_said(root: Path) -> None:
    found = entry(made_of(root, Project((builtin_root(),))), "deepseek-r1-int4-bi_V150")
    assert found.state == "not-run"
    assert told(found.why)[0] == "rendered, never executed on the device"
    assert "the lock leaves open: source flagscale" in told(found.why)[1]
    assert found.next == "relforge lock --release deepseek-r1-int4-bi_V150"


def test_a_record_of_what_is_planned_now_is_released(root: Path) -> None:
    made = record(root)
    put_record(root / "dist", made)
    found = entry(board_of(root))
    assert (found.state, found.why, found.next) == ("released", (), None)
    assert found.digest == made["image_digest"]
    assert found.created_s == START_S


def test_an_edited_manifest_makes_it_stale_and_says_where(root: Path) -> None:
    put_record(root / "dist", record(root))
    manifest = root / "manifests" / "releases" / f"{RELEASE}.yaml"
    manifest.write_text(manifest.read_text().replace("max-num-seqs: 32", "max-num-seqs: 64"))
    board = board_of(root)
    found = entry(board)
    assert found.state == "stale"
    assert "smoke: release.serve.args.max-num-seqs: 32 → 64" in told(found.why)
    assert found.next == f"relforge release --release {RELEASE}"
    # Keys of earlier stages are no reason of their own.
    every = told(board.made[RELEASE].details.stale)
    assert not any("_key" in one for one in every), every
    assert not any(one.startswith("build") for one in every)


def test_the_host_makes_nothing_stale(root: Path) -> None:
    made = record(root)
    made["inputs"]["preflight"] = {"key": "0" * 64, "values": {"nodes": 7}}
    put_record(root / "dist", made)
    assert entry(board_of(root)).state == "released"


def test_another_way_of_doing_a_stage_makes_it_stale(root: Path) -> None:
    made = record(root)
    made["inputs"]["build"]["key"] = "0" * 64
    put_record(root / "dist", made)
    found = entry(board_of(root))
    assert (found.state, told(found.why)) == ("stale", ["build: done in another way than then"])


def test_a_stage_that_the_record_does_not_know_makes_it_stale(root: Path) -> None:
    made = record(root)
    del made["inputs"]["card"]
    made["inputs"]["older"] = {"key": "1" * 64, "values": {}}
    put_record(root / "dist", made)
    assert "card: not in the record" in told(entry(board_of(root)).why)


def test_a_release_that_cannot_be_planned_any_more_is_stale(root: Path) -> None:
    put_record(root / "dist", record(root))
    (root / "manifests" / "releases" / f"{RELEASE}.lock.yaml").unlink()
    found = entry(board_of(root))
    assert found.state == "stale"
    assert told(found.why)[0].startswith("cannot be planned: ")
    assert found.next == f"relforge plan --release {RELEASE}"


def test_a_release_that_only_a_record_knows(root: Path) -> None:
    made = record(root)
    made["release"] = "gone-chip_0"
    put_record(root / "dist", made)
    found = entry(board_of(root), "gone-chip_0")
    assert (found.state, found.next) == ("stale", None)
    assert told(found.why) == ["the project has no such release any more"]
    assert (found.model, found.device) == ("model-0", "chip_0")


@pytest.mark.parametrize(
    ("verdict", "state"), [("fail", "failing"), ("inconclusive", "failing"), ("not-run", "not-run")]
)
def test_a_gate_of_the_record_that_did_not_pass(root: Path, verdict: str, state: str) -> None:
    made = record(root)
    made["verdicts"]["evaluate"] = verdict
    put_record(root / "dist", made)
    found = entry(board_of(root))
    assert found.state == state
    assert told(found.why) == [f"the gate evaluate of the record: {verdict}"]


def test_a_gate_that_is_missing_is_no_pass_unless_it_was_skipped(root: Path) -> None:
    made = record(root)
    del made["verdicts"]["scan"]
    put_record(root / "dist", made)
    assert entry(board_of(root)).state == "not-run"
    made["skipped"]["scan"] = "not-needed: nothing is shipped"
    put_record(root / "dist", made)
    assert entry(board_of(root)).state == "released"


def test_the_newest_run_failed(root: Path) -> None:
    put_record(root / "dist", record(root))
    put_run(root / "home", run_of(RELEASE, 5, fails_at="smoke"))
    found = entry(board_of(root))
    assert found.state == "failing"
    assert told(found.why) == ["failed at smoke", "smoke: fail\nwhy: the server died"]
    assert found.next is not None
    assert found.next.startswith("relforge release --resume 2026")


def test_a_failure_counts_until_a_run_comes_further(root: Path) -> None:
    put_run(root / "home", run_of(RELEASE, 1, fails_at="smoke"))
    put_run(root / "home", run_of(RELEASE, 2, until="build"))
    assert entry(board_of(root)).state == "failing", "a build says nothing about smoke"
    put_run(root / "home", run_of(RELEASE, 3, until="smoke"))
    found = entry(board_of(root))
    assert (found.state, told(found.why)) == (
        "not-run",
        ["no record yet; its runs came to smoke"],
    )


def test_a_failure_before_any_stage_is_over_once_a_stage_is_passed(root: Path) -> None:
    words = run_of(RELEASE, 1, fails_at="smoke")
    (one,) = words.releases
    typo = one.model_copy(update={"stages": (), "error": "unknown stage"})
    put_run(root / "home", words.model_copy(update={"releases": (typo,)}))
    assert told(entry(board_of(root)).why) == ["failed before its first stage", "unknown stage"]
    put_run(root / "home", run_of(RELEASE, 2, until="render"))
    assert entry(board_of(root)).state == "not-run"


def test_a_run_that_was_interrupted_decides_nothing(root: Path) -> None:
    put_run(root / "home", run_of(RELEASE, 1, fails_at="smoke"))
    put_run(root / "home", run_of(RELEASE, 2, until="build", state="interrupted"))
    assert entry(board_of(root)).state == "failing"
    put_run(root / "home", run_of(OTHER, 3, until="build", state="killed"))
    found = entry(board_of(root), OTHER)
    assert told(found.why) == ["built, never executed on the device", "its last run was killed"]


def test_a_record_that_is_newer_than_the_failure_settles_it(root: Path) -> None:
    put_run(root / "home", run_of(RELEASE, 1, fails_at="smoke"))
    put_record(root / "dist", record(root, 2))
    assert entry(board_of(root)).state == "released"


def test_history_is_newest_first_with_digests_and_verdicts(root: Path) -> None:
    digest = "sha256:" + "a" * 64
    for number in range(25):
        put_run(root / "home", run_of(RELEASE, number), digest)
    put_run(root / "home", run_of(OTHER, 30, fails_at="sources"), digest)
    board = board_of(root)
    history = board.made[RELEASE].details.history
    assert len(history) == 25
    assert [one.started_s for one in history] == sorted(
        (one.started_s for one in history), reverse=True
    )
    assert history[0].digest == digest
    assert history[0].verdicts["smoke"] == "pass"
    assert history[0].stages[1].name == "weights"
    assert history[19].stages
    assert not history[20].stages, "of older ones the verdicts are kept"
    assert history[24].verdicts["bench"] == "pass"
    (other,) = board.made[OTHER].details.history
    assert other.digest is None, "no image was built"


def test_a_run_of_several_releases_is_in_the_history_of_each(root: Path) -> None:
    one, other = run_of(RELEASE, 1), run_of(OTHER, 1, fails_at="build")
    both = one.model_copy(update={"releases": (*one.releases, *other.releases), "state": "failed"})
    put_run(root / "home", both)
    board = board_of(root)
    assert board.made[RELEASE].details.history[0].state == "done"
    assert entry(board, OTHER).state == "failing"


def test_a_run_at_work_is_live_and_changes_no_state(root: Path) -> None:
    folder = RunFolder(root / "home", "20260101T000000Z-000001")
    running = ReleaseRun(release=RELEASE)
    folder.write(Run(id=folder.path.name, command="x", started_s=5.0, releases=(running,)))
    folder.event(StageStarted(release=RELEASE, stage="build", time_s=6.0))
    found = entry(board_of(root))
    folder.close()
    assert found.state == "not-run"
    assert found.live is not None
    assert (found.live.run, found.live.stage) == (folder.path.name, "build")


def test_what_changed_since_the_release_before(root: Path) -> None:
    old, new = record(root, 1), record(root, 2)
    old["results"]["build"]["python_packages"]["torch"] = "2.7.1"
    new["lock"]["patches"]["engine-gpu"]["patches"].append(["0003-new.patch", "3" * 64])
    put_record(root / "archive" / "2026-01", old)
    put_record(root / "archive" / "2025-12", record(root, 0))
    put_record(root / "dist", new)
    shown = board_of(root, history=("archive",)).made[RELEASE]
    assert shown.details.record is not None
    changes = shown.details.record.changes
    assert changes is not None
    assert changes.created == stamp(START_S + 3600)
    assert changes.digest == old["image_digest"]
    rows = {(row.group, row.name): (row.before, row.after) for row in changes.rows}
    assert rows["Python packages", "torch"] == ("2.7.1", "2.8.0")
    assert rows["patches", "engine-gpu/0003-new.patch"] == (None, "+")
    assert [one.value for one in shown.details.older] == [
        old["image_digest"], record(root, 0)["image_digest"],
    ]  # fmt: skip


def test_of_several_dist_folders_the_newest_record_counts(root: Path) -> None:
    put_record(root / "dist", record(root, 3))
    put_record(root / "mirror", record(root, 4))
    board = board_of(root, dists=("dist", "mirror"))
    assert entry(board).created_s == START_S + 4 * 3600
    shown = board.made[RELEASE].details
    assert shown.record is not None
    assert shown.record.changes is not None
    assert shown.record.verify.endswith(f"mirror/{RELEASE}")


def test_what_cannot_be_read_is_named_and_stops_nothing(root: Path) -> None:
    put_record(root / "dist", record(root))
    broken = root / "dist" / OTHER / "release.json"
    broken.parent.mkdir()
    broken.write_text("{")
    odd = put_record(root / "odd", {**record(root), "release": "odd", "results": {"build": 3}})
    wrong = json.loads(odd.read_text())
    wrong["lock"] = {"sources": [1]}
    odd.write_text(json.dumps(wrong))
    board = board_of(root, dists=("dist", "odd"))
    assert entry(board).state == "released"
    assert entry(board, OTHER).state == "not-run"
    assert entry(board, "odd").state == "not-run"
    assert told(entry(board, "odd").why)[0] == "the project has no such release any more"
    problems = told(board.index.problems)
    assert [one.split(":")[0] for one in problems] == [f"{OTHER}/release.json", "odd/release.json"]


def test_the_same_inputs_give_the_same_board(root: Path) -> None:
    put_record(root / "dist", record(root))
    put_run(root / "home", run_of(RELEASE, 1))
    one, other = board_of(root), board_of(root)
    assert one.index == other.index
    assert one.made == other.made
    assert one.index.as_of_s == START_S + 3600
