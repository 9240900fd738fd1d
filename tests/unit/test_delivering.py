"""Sending one release to several targets: what happens first, and what a failure leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.publishing.delivering import (
    Delivering,
    DeliveryReport,
    deliver,
    preview,
    require_targets,
)
from relforge.publishing.journal import Journal
from relforge.publishing.published import Published, read_published
from relforge.publishing.target import Change, Delivery, Doing, Step, Target, TargetPlan
from relforge.ui.deliveries import text

DIGEST = "sha256:" + "ab" * 32


class Shelf:
    """A target that keeps what it got in memory, and refuses at one step where it is told to."""

    def __init__(self, name: str, log: list[str], *, refuses: Step | None = None) -> None:
        self.name, self.log, self.refuses = name, log, refuses
        self.has: set[Step] = set()

    def place(self, published: Published) -> str:
        return f"{self.name}.example/{published.release}"

    def plan(self, published: Published, step: Step) -> TargetPlan:
        same = step in self.has
        change = Change(
            action="same" if same else "add", kind="file", name="README.md", bytes=0 if same else 9
        )
        return TargetPlan(
            target=self.name, step=step, place=self.place(published), changes=(change,)
        )

    def apply(self, published: Published, step: Step, doing: Doing) -> Delivery:
        if step == self.refuses:
            raise RelforgeError(
                "it is full", code=ExitCode.PUBLISH, where=self.place(published), hint="make room"
            )
        plan = self.plan(published, step)
        self.log.append(f"{step} {self.name}")
        self.has.add(step)
        return Delivery(
            target=self.name,
            step=step,
            place=plan.place,
            image_digest=published.image_digest,
            references=(f"{plan.place}@{published.image_digest}",),
            changes=plan.changes,
            sent_bytes=plan.bytes,
        )

    def undo(self, published: Published, delivery: Delivery, doing: Doing) -> None:
        self.log.append(f"undo {delivery.step} {self.name}")
        self.has.discard(delivery.step)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    folder = tmp_path / "dist" / "tiny-cpu"
    folder.mkdir(parents=True)
    (folder / "contents.json").write_text(json.dumps({"image_digest": DIGEST, "files": {}}))
    write_record(folder)
    return read_published(folder)


def write_record(folder: Path, **changes: object) -> None:
    names = {
        "release": "tiny-cpu", "vendor": "Someone", "device": "cpu", "model": "tiny",
        "variant": "default",
    }  # fmt: skip
    record = {
        "release": "tiny-cpu", "image_digest": DIGEST, "names": names, "verdicts": {},
        "results": {}, "created": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    (folder / "release.json").write_text(json.dumps({**record, **changes}))


def send(
    published: Published,
    targets: Sequence[Target],
    steps: Sequence[Step],
    home: Path,
    *,
    rollback: bool = False,
    gate: RelforgeError | None = None,
) -> DeliveryReport:
    def ask(_target: Target, step: Step) -> None:
        if gate is not None and step == "promote":
            raise gate

    how = Delivering(journal=Journal(home), gate=ask, rollback=rollback)
    return deliver(published, targets, steps, how)


def states(report: DeliveryReport) -> dict[str, str]:
    return {f"{one.step} {one.target}": one.state for one in report.outcomes}


def test_every_candidate_is_there_before_anything_is_promoted(
    published: Published, tmp_path: Path
) -> None:
    log: list[str] = []
    shelves = [Shelf("one", log), Shelf("two", log)]
    report = send(published, shelves, ("candidate", "promote"), tmp_path)
    assert log == ["candidate one", "candidate two", "promote one", "promote two"]
    assert set(states(report).values()) == {"done"}
    assert report.exit_code == 0
    assert f"one.example/tiny-cpu@{DIGEST}" in text(report)


def test_a_second_time_there_is_nothing_to_do(published: Published, tmp_path: Path) -> None:
    shelf = Shelf("one", [])
    send(published, [shelf], ("candidate",), tmp_path)
    again = send(published, [shelf], ("candidate",), tmp_path)
    assert states(again) == {"candidate one": "nothing"}
    assert "nothing to do" in text(again)
    assert again.outcomes[0].delivery is not None
    assert again.outcomes[0].delivery.sent_bytes == 0


def test_one_candidate_that_fails_stops_every_promotion(
    published: Published, tmp_path: Path
) -> None:
    log: list[str] = []
    shelves = [Shelf("one", log), Shelf("two", log, refuses="candidate"), Shelf("three", log)]
    report = send(published, shelves, ("candidate", "promote"), tmp_path)
    assert log == ["candidate one"]
    assert states(report) == {
        "candidate one": "done",
        "candidate two": "failed",
        "candidate three": "not-done",
        "promote one": "not-done",
        "promote two": "not-done",
        "promote three": "not-done",
    }
    assert report.exit_code == ExitCode.PUBLISH
    said = text(report)
    assert "two: candidate at two.example/tiny-cpu: FAILED" in said
    assert "why:   it is full" in said
    assert "next:  make room" in said
    assert said.count("not done: something before it failed") == 4


def test_a_rollback_takes_back_what_this_run_did(published: Published, tmp_path: Path) -> None:
    log: list[str] = []
    shelves = [Shelf("one", log), Shelf("two", log, refuses="promote")]
    report = send(published, shelves, ("candidate", "promote"), tmp_path, rollback=True)
    assert log[-3:] == ["undo promote one", "undo candidate two", "undo candidate one"]
    assert states(report)["promote one"] == "undone"
    assert report.exit_code == ExitCode.PUBLISH
    noted = {f"{e.step} {e.target}": e.state for e in Journal(tmp_path).entries("tiny-cpu")}
    assert noted == {
        "candidate one": "undone",
        "candidate two": "undone",
        "promote one": "undone",
        "promote two": "begun",
    }


def test_without_rollback_the_next_run_completes(published: Published, tmp_path: Path) -> None:
    log: list[str] = []
    shelves = [Shelf("one", log), Shelf("two", log, refuses="promote")]
    send(published, shelves, ("candidate", "promote"), tmp_path)
    shelves[1].refuses = None
    report = send(published, shelves, ("candidate", "promote"), tmp_path)
    assert states(report)["promote one"] == "nothing"
    assert states(report)["promote two"] == "done"
    assert report.exit_code == 0


def test_a_gate_that_is_not_passed_promotes_nowhere(published: Published, tmp_path: Path) -> None:
    shelf = Shelf("one", [])
    closed = RelforgeError("smoke did not pass", code=ExitCode.GATE)
    report = send(published, [shelf], ("candidate", "promote"), tmp_path, gate=closed)
    assert shelf.has == set(), "nothing is sent, not even to wait"
    assert states(report) == {"candidate one": "not-done", "promote one": "failed"}
    assert report.exit_code == ExitCode.GATE


def test_a_withdrawal_goes_on_past_a_target_that_refuses(
    published: Published, tmp_path: Path
) -> None:
    log: list[str] = []
    shelves = [Shelf("one", log), Shelf("two", log, refuses="withdraw")]
    report = send(published, shelves, ("withdraw",), tmp_path)
    assert log == ["withdraw one"]
    assert states(report) == {"withdraw two": "failed", "withdraw one": "done"}
    assert report.exit_code == ExitCode.PUBLISH


def test_a_dry_run_asks_and_changes_nothing(published: Published, tmp_path: Path) -> None:
    log: list[str] = []
    shelf = Shelf("one", log)
    report = preview(published, [shelf], ("candidate",), lambda _target, _step: None)
    assert (log, shelf.has, list(tmp_path.glob("publications"))) == ([], set(), [])
    assert "add      file README.md (9 B)" in text(report)
    assert "to send: 9 B" in text(report)


def test_a_dry_run_says_what_the_gate_would_say(published: Published) -> None:
    def closed(_target: Target, step: Step) -> None:
        if step == "promote":
            raise RelforgeError("smoke did not pass", code=ExitCode.GATE)

    report = preview(published, [Shelf("one", [])], ("candidate", "promote"), closed)
    assert states(report) == {"candidate one": "planned", "promote one": "failed"}
    assert report.exit_code == ExitCode.GATE


def test_a_full_disk_is_told_like_any_other_failure(published: Published, tmp_path: Path) -> None:
    class Full(Shelf):
        def apply(self, published: Published, step: Step, doing: Doing) -> Delivery:
            raise OSError(28, "No space left on device", "/media/vendor/x.tar")

    report = send(published, [Full("one", []), Shelf("two", [])], ("candidate",), tmp_path)
    assert states(report) == {"candidate one": "failed", "candidate two": "not-done"}
    assert report.exit_code == ExitCode.ENVIRONMENT
    assert "/media/vendor/x.tar" in (report.outcomes[0].where or "")


def test_an_interruption_still_says_what_was_done(published: Published, tmp_path: Path) -> None:
    class Stopped(Shelf):
        def apply(self, published: Published, step: Step, doing: Doing) -> Delivery:
            raise Cancelled("SIGINT")

    how = Delivering(journal=Journal(tmp_path), gate=lambda _target, _step: None)
    said: list[DeliveryReport] = []
    targets = [Shelf("one", []), Stopped("two", [])]
    with pytest.raises(Cancelled):
        deliver(published, targets, ("candidate",), how, on_end=said.append)
    assert states(said[0]) == {"candidate one": "done", "candidate two": "failed"}
    assert "interrupted" in text(said[0])


def test_the_journal_knows_where_a_release_went(published: Published, tmp_path: Path) -> None:
    shelves = [Shelf("one", []), Shelf("two", [])]
    send(published, shelves, ("candidate", "promote"), tmp_path)
    journal = Journal(tmp_path)
    assert journal.targets("tiny-cpu") == ("one", "two")
    assert [one.state for one in journal.entries("tiny-cpu")] == ["done"] * 4
    (tmp_path / "publications" / "tiny-cpu.json").write_text("[{]")
    with pytest.raises(RelforgeError, match="cannot be read") as caught:
        journal.entries("tiny-cpu")
    assert caught.value.code is ExitCode.ENVIRONMENT


def test_a_target_that_nobody_configured() -> None:
    with pytest.raises(RelforgeError, match="no target 'hub'") as caught:
        require_targets(["hub"], ["harbor"], Path("site.yaml"))
    assert "harbor" in (caught.value.why or "")


def test_a_folder_that_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(RelforgeError, match="no published release") as caught:
        read_published(tmp_path)
    assert caught.value.code is ExitCode.PUBLISH


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"release": "../../victim"}, "release"),
        ({"results": {"build": 7}}, "results.build"),
        ({"names": {"release": "tiny-cpu"}}, "names.model"),
        (
            {
                "names": {
                    "release": "tiny-cpu", "vendor": "../x", "device": "cpu", "model": "tiny",
                    "variant": "default",
                }
            },
            "names.vendor",
        ),
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere(
    published: Published, changes: dict[str, object], said: str
) -> None:
    write_record(published.folder, **changes)
    with pytest.raises(RelforgeError, match="no published release") as caught:
        read_published(published.folder)
    assert said in (caught.value.why or "")
    assert caught.value.code is ExitCode.PUBLISH


def test_files_that_lead_elsewhere(published: Published) -> None:
    contents = {"image_digest": DIGEST, "files": {"../../etc/passwd": "0" * 64}}
    (published.folder / "contents.json").write_text(json.dumps(contents))
    with pytest.raises(RelforgeError, match="no published release"):
        read_published(published.folder)


def test_a_record_of_another_image(published: Published) -> None:
    (published.folder / "contents.json").write_text(
        json.dumps({"image_digest": "sha256:" + "cd" * 32, "files": {}})
    )
    with pytest.raises(RelforgeError, match="about another image"):
        read_published(published.folder)
