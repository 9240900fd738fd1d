"""What garbage collection keeps and what it takes, rule by rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relforge.amounts import age_s, size_bytes
from relforge.collecting.model import GcOutput
from relforge.errors import RelforgeError
from relforge.evidence.store import Record
from relforge.files import held_lock
from relforge.manifest.facts import BaseImage, BootstrapBase
from tests.support.made_homes import Home, aged, key, tree
from tests.support.made_runs import old_run


@pytest.fixture
def made(tmp_path: Path) -> Home:
    return Home(tmp_path)


def gone(output: GcOutput, kind: str) -> list[str]:
    return [one.name for one in output.gone if one.kind == kind]


def test_what_nothing_needs_goes_with_its_files_and_the_rest_is_still_reused(made: Home) -> None:
    old = made.result("build", "old", 90, blobs=("only old", "both"), folder=True)
    new = made.result("build", "new", 90, blobs=("only new", "both"), folder=True)
    made.store.remember("hello-cpu_x86", {"build": new})
    output = made.collect()
    assert made.results() == {f"build {new}"}
    assert isinstance(made.store.lookup("build", new), Record)
    assert not made.store.folder("build", old).exists()
    assert made.store.folder("build", new).is_dir()
    blobs = {path.read_text() for path in (made.home / "store" / "blobs").glob("*/*")}
    assert blobs == {"only new", "both"}
    assert gone(output, "result") == [f"build {old[:12]}"]
    assert len(gone(output, "blob")) == 1
    assert output.freed_bytes > 900
    assert output.home_bytes == sum(
        path.stat().st_size for path in made.home.rglob("*") if path.is_file()
    )
    assert made.collect().gone == (), "a second collection finds nothing"


def test_age_is_by_last_use_not_by_birth(made: Home) -> None:
    used = made.result("build", "used", 200, blobs=("used",))
    unused = made.result("build", "unused", 31, blobs=("unused",))
    young = made.result("build", "young", 29)
    made.run("20260901T000000Z-aaaaaa", 10, {"build": used})
    output = made.collect()
    assert made.results() == {f"build {used}", f"build {young}"}
    assert gone(output, "result") == [f"build {unused[:12]}"]
    assert gone(output, "run") == []
    assert isinstance(made.store.lookup("build", used), Record)


def test_runs_go_by_age_but_the_newest_of_each_release_stay(made: Home) -> None:
    for number, days in enumerate((90, 80, 70)):
        made.run(f"2026090{number}T000000Z-aaaaaa", days, {"build": key(str(days))})
    made.run("20260801T000000Z-bbbbbb", 100, {}, release="other-cpu_x86")
    output = made.collect(keep_last=1)
    left = sorted(path.name[-6:] for path in (made.home / "runs").iterdir())
    assert left == ["aaaaaa", "bbbbbb"]
    assert gone(output, "run") == ["20260900T000000Z-aaaaaa", "20260901T000000Z-aaaaaa"]
    assert {one.id[:8]: one.why for one in output.kept_runs} == {
        "20260902": "it is among the newest 1 of hello-cpu_x86",
        "20260801": "it is among the newest 1 of other-cpu_x86",
    }


def test_what_a_kept_run_would_go_on_with_stays(made: Home) -> None:
    kept = made.result("build", "kept", 90, folder=True)
    made.run("20260901T000000Z-aaaaaa", 90, {"build": kept, "evaluate": key("half")})
    made.put(f"answers/{key('half')[:32]}/task.jsonl", "{}", 90)
    made.put(f"store/outputs/evaluate/{key('half')[:32]}/half", "x", 90)
    made.put(f"answers/{key('other')[:32]}/task.jsonl", "{}", 90)
    output = made.collect(keep_last=1)
    assert made.results() == {f"build {kept}"}
    assert gone(output, "answers") == [key("other")[:12]]
    assert gone(output, "orphan") == []
    output = made.collect(keep_last=0)
    assert made.results() == set()
    assert gone(output, "answers") == [key("half")[:12]]
    assert gone(output, "orphan") == [f"evaluate {key('half')[:12]}"]


def test_a_run_at_work_and_all_that_it_will_use_stays(made: Home) -> None:
    one = made.result("build", "one", 90)
    at_work = made.run("20260901T000000Z-aaaaaa", 90, {"build": one}, ends=False)
    assert made.collect(days=0).gone == ()
    assert made.results() == {f"build {one}"}
    at_work.folder.close()
    owner = made.home / "runs" / "20260901T000000Z-aaaaaa" / "owner"
    owner.write_text("00000000-0000-0000-0000-000000000000:1:1")
    killed = made.collect(days=30)
    # Its last word is as old as its files: it was killed just now.
    assert killed.gone == ()
    aged(made.home / "runs", 90)
    assert gone(made.collect(days=30), "run") == ["20260901T000000Z-aaaaaa"]


def test_what_is_published_keeps_its_results_its_run_and_its_image(made: Home) -> None:
    digest, sent, back = (f"sha256:{key(word)}" for word in ("image", "sent", "withdrawn"))
    built = made.result("build", "built", 90, folder=True, image_digest=digest)
    smoke = made.result("smoke", "smoke", 90, blobs=("report",))
    other = made.result("build", "other", 90, image_digest=sent)
    withdrawn = made.result("build", "withdrawn", 90, image_digest=back)
    made.run("20260901T000000Z-aaaaaa", 90, {"build": built})
    made.publish(
        "hello-cpu_x86", {"build": built, "smoke": smoke}, digest, "20260901T000000Z-aaaaaa"
    )
    row = {"image_digest": sent, "target": "t", "step": "promote", "place": "registry/x",
           "state": "done"}  # fmt: skip
    rows = [row, {**row, "image_digest": back}, {**row, "image_digest": back, "step": "withdraw"}]
    made.put("publications/hello-cpu_x86.json", json.dumps(rows), 90)
    before = tree(made.dist)
    output = made.collect(days=0)
    assert made.results() == {f"build {built}", f"smoke {smoke}", f"build {other}"}
    assert gone(output, "result") == [f"build {withdrawn[:12]}"]
    assert gone(output, "run") == []
    assert tree(made.dist) == before
    assert (made.home / "publications" / "hello-cpu_x86.json").exists()
    (made.dist / "hello-cpu_x86" / "release.json").write_text("{")
    assert "release.json cannot be read" in made.collect(days=9999).warnings[0]


def test_a_dry_run_says_the_same_and_changes_nothing(made: Home) -> None:
    made.result("build", "old", 90, blobs=("old",), folder=True)
    made.result("build", "young", 1, blobs=("young",))
    made.run("20260901T000000Z-aaaaaa", 90, {})
    made.put("scan/layers/p/x.json", "{}", 90)
    made.put("scan/packages/y.json.gz", "{}", 90)
    made.put("ray/files/ab/abcd", "sent", 90)
    made.put("ray/projects/0123/0/manifests/x.yaml", "sent", 90)
    made.put("ray/incoming/0123/abcd", "sent to an earlier version", 90)
    made.put("ray/node/session", "Ray's own", 90)
    made.put("leaving/0123/half", "half", 1)
    before = tree(made.folder)
    would = made.collect(dry_run=True)
    assert tree(made.folder) == before
    did = made.collect()
    assert [(one.kind, one.name) for one in would.gone] == [
        (one.kind, one.name) for one in did.gone
    ]
    assert {one.kind for one in did.gone} == {
        "result", "blob", "run", "scan", "sent", "left-behind",
    }  # fmt: skip
    assert (made.home / "ray" / "node" / "session").exists()
    assert not list((made.home / "ray" / "files").glob("*/*"))
    assert not list((made.home / "ray" / "incoming").iterdir())
    assert not list((made.home / "scan" / "packages").iterdir())
    assert would.freed_bytes == did.freed_bytes > 0
    assert not list((made.home / "leaving").iterdir())


def test_the_size_takes_what_was_used_least_lately_and_no_more_than_needed(made: Home) -> None:
    keys = [made.result("build", f"{n}", 10 - n, folder=True, blobs=(f"b{n}",)) for n in range(5)]
    made.store.remember("hello-cpu_x86", {"build": keys[0]})
    most = made.collect(dry_run=True).home_bytes * 3 // 5 + 500
    output = made.collect(max_bytes=most)
    assert output.home_bytes <= most
    assert gone(output, "result") == [f"build {keys[1][:12]}", f"build {keys[2][:12]}"]
    assert "larger than it may be" in output.gone[0].why
    assert all(isinstance(made.store.lookup("build", keys[n]), Record) for n in (0, 3, 4))
    # What is needed stays, however large it is.
    made.collect(max_bytes=0)
    assert made.results() == {f"build {keys[0]}"}
    assert isinstance(made.store.lookup("build", keys[0]), Record)


def test_what_locks_pin_and_results_mention_stays_with_what_leads_to_it(made: Home) -> None:
    pinned, mentioned, loose = key("pinned"), key("mentioned"), key("loose")
    (made.project / "manifests" / "a.lock.yaml").write_text(f"sha256: {pinned}\ntree: {'a' * 40}\n")
    young = made.result("sources", "s", 1, wheels=mentioned)
    for one, name in ((pinned, "p.whl"), (mentioned, "m.whl"), (loose, "l.whl")):
        made.put(f"store/files/{one}/{name}", name, 90)
        made.put(f"store/wheelhouses/{one}/{name}", name, 90)
        made.put(f"store/wheelhouses/{one}.json", "{}", 90)
        made.put(f"store/sources/{key(name)}.json", json.dumps({"sha256": one}), 90)
    made.put(f"store/sources/{key('git')}.json", json.dumps({"tree": "a" * 40}), 90)
    output = made.collect()
    assert gone(output, "file") == ["l.whl"]
    assert gone(output, "wheels") == [loose[:12]]
    assert gone(output, "source") == [key("l.whl")[:12]]
    assert not (made.home / "store" / "wheelhouses" / f"{loose}.json").exists()
    assert made.results() == {f"sources {young}"}


def test_bases_stay_for_the_images_that_stand_on_them(made: Home) -> None:
    from relforge.engine.base_image import base_keys

    spec = BaseImage(bootstrap=BootstrapBase(suite="bookworm"))
    (needed,) = base_keys(spec.model_dump(mode="json"), "amd64")
    made.put(f"base/{needed}/context/rootfs.tar", "tar", 90)
    made.put(f"base/{key('other')}/context/rootfs.tar", "tar", 90)
    inputs: dict[str, Any] = {"base": spec.model_dump(mode="json"), "architecture": "amd64"}
    built = made.result("build", "b", 90, inputs=inputs, image_name="relforge/x:1")
    made.store.remember("hello-cpu_x86", {"build": built})
    assert gone(made.collect(), "base") == [key("other")[:12]]
    assert (made.home / "base" / needed).is_dir()


def test_weights_go_only_when_they_are_asked_for_and_unused(made: Home) -> None:
    used, unused = key("used"), key("unused")
    for one in (used, unused):
        made.put(f"store/weights/{one[:2]}/{one}", one, 90)
        made.put(f"store/weights/{one[:2]}/{one}.json", "{}", 90)
    made.put("server-weights/model/w.bin", "w", 90)
    made.result("weights", "w", 1, files=[used])
    (made.project / "manifests" / "m.yaml").write_text(f"sha256: {unused}\n")
    output = made.collect()
    assert gone(output, "weights") == []
    assert {one.what for one in output.untouched} >= {"store/weights", "server-weights"}
    output = made.collect(weights=True)
    assert set(gone(output, "weights")) == {"model, fetched by servers", unused[:12]}
    assert (made.home / "store" / "weights" / used[:2] / used).exists()


def test_what_relforge_does_not_know_is_named_and_left_alone(made: Home) -> None:
    made.put("notes.txt", "mine", 900)
    made.put("store/mine/x", "mine", 900)
    made.put("ray/mine/x", "mine", 900)
    made.put("ray/node.log", "a log", 900)
    made.put("prune/build-1", "{}", 900)
    made.put("scan/salt", "salt", 900)
    output = made.collect(days=0, max_bytes=0)
    assert output.gone == ()
    assert {one.what: one.bytes for one in output.untouched} == {
        "notes.txt": 4, "store/mine": 4, "ray/mine": 4, "prune": 2,
    }  # fmt: skip
    assert (made.home / "scan" / "salt").exists()


def test_lock_files_go_unless_somebody_holds_them(made: Home) -> None:
    free = made.put("store/locks/build-0123", "", 90)
    young = made.put("store/locks/build-4567", "", 1)
    with held_lock(made.home / "store" / "locks" / "build-89ab"):
        held = aged(made.home / "store" / "locks" / "build-89ab", 90)
        made.collect()
        assert not free.exists()
        assert young.exists()
        assert held.exists()


def test_old_runs_and_folders_without_a_record_are_runs_as_well(made: Home) -> None:
    aged(old_run(made.home, "20250101T000000Z-dddddd"), 400)
    made.put("runs/20250102T000000Z-eeeeee/events.jsonl", "", 400)
    assert gone(made.collect(days=399), "run") == ["20250102T000000Z-eeeeee"], (
        "the other says itself when it ended"
    )
    assert gone(made.collect(days=1), "run") == ["20250101T000000Z-dddddd"]


def test_a_plan_of_the_project_keeps_what_it_would_reuse(tmp_path: Path) -> None:
    """Of the shipped project: results that no run and no ``latest`` names any more."""
    from relforge.evidence.store import Store
    from relforge.manifest.project import builtin_root, find_project
    from relforge.manifest.site import Site
    from relforge.pipeline import STAGES
    from relforge.plan import make_plan, subject

    made = Home(tmp_path)
    made.project = builtin_root()
    project = find_project(made.project, made.project)
    plan = make_plan(
        subject(project, project.release("tiny-adder-cpu_x86"), Site()), STAGES, Store(made.home)
    )
    keys = {stage.name: stage.key for stage in plan.stages if stage.key}
    stale = made.result("build", "stale", 90)
    planned = made.result("build", "planned", 90)
    path = made.home / "store" / "results" / "build"
    text = (path / f"{planned}.json").read_text().replace(planned, keys["build"])
    (path / f"{planned}.json").unlink()
    (path / f"{keys['build']}.json").write_text(text)
    output = made.collect()
    assert made.results() == {f"build {keys['build']}"}
    assert gone(output, "result") == [f"build {stale[:12]}"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 2592000.0), ("0", 0.0), ("1.5h", 5400.0), ("2w", 1209600.0)]
)
def test_ages(text: str, seconds: float) -> None:
    assert age_s(text, "--older-than") == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("50GB", 50_000_000_000), ("1KiB", 1024), ("0", 0), ("7 B", 7), ("1.5 MB", 1_500_000)],
)
def test_sizes(text: str, count: int) -> None:
    assert size_bytes(text, "--max-size") == count


@pytest.mark.parametrize("text", ["", "30", "d", "30 days", "-1d", "1e3s"])
def test_ages_that_are_not_understood(text: str) -> None:
    with pytest.raises(RelforgeError, match="--older-than"):
        age_s(text, "--older-than")
