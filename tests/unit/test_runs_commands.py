"""``relforge runs list``, ``show``, ``logs`` and ``diff``, on homes that were made by hand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relforge.cli import main
from relforge.events import StageRetried, StageWaiting
from relforge.evidence.store import Store
from relforge.explaining import Change
from relforge.history.comparing import ReleaseDiff, RunsDiff, StageDiff, StageSide
from relforge.history.listing import RunsOutput
from relforge.history.showing import RunShown
from relforge.stage import StageInputs, StageResult
from relforge.ui.history import difference
from tests.support.made_runs import SECOND, MadeRun, old_run

TWO = ("alpha-cpu_x86", "beta-cpu_x86")
Told = tuple[int, str, str]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "site.yaml").write_text(json.dumps({"kind": "site", "home": str(tmp_path / "h")}))
    return tmp_path / "h"


@pytest.fixture
def runs(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    def call(*words: str) -> Told:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["runs", *words, "--site", str(home.parent / "site.yaml")])
        told = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, told.out, told.err

    return call


def _done(home: Path, name: str = "20260901T000000Z-aaaaaa", **more: Any) -> MadeRun:
    made = MadeRun(home, name, **more)
    made.begin("build")
    made.say("build", "compiling")
    made.stage("build", key="b" * 64, result={"image_digest": "sha256:" + "1" * 64})
    made.finish()
    made.end()
    return made


def _two(home: Path) -> MadeRun:
    made = MadeRun(home, "20260902T000000Z-bbbbbb", TWO, started_s=SECOND + 86400)
    for name in TWO:
        made.stage("sources", name, key="c" * 64, shared_with=None if name == TWO[0] else TWO[0])
    made.folder.event(
        StageWaiting(release=TWO[1], stage="build", why="for the container engine", time_s=1.0)
    )
    made.begin("build", TWO[1])
    made.say("build", "cc: not found", TWO[1])
    made.folder.event(
        StageRetried(release=TWO[1], stage="build", attempt=2, of=2, why="no space", time_s=2.0)
    )
    made.say("build", "cc: still not found", TWO[1])
    made.stage("build", TWO[1], status="failed", detail="the image could not be built")
    made.stage("build", TWO[0])
    made.finish(TWO[0])
    made.finish(TWO[1], "failed", 5, "the image could not be built")
    made.end("failed", 5, "1 of 2 releases did not come to their end")
    return made


def test_the_list_says_how_each_run_ended_and_alone_it_is_the_list(
    home: Path, runs: Callable[..., Told]
) -> None:
    _done(home)
    _two(home)
    code, out, _ = runs("list")
    assert code == 0
    assert (code, out) == runs()[:2]
    newest, oldest = out.splitlines()
    assert newest.split()[:2] == ["20260902T000000Z-bbbbbb", "failed"]
    assert newest.endswith("   5  2 releases: 1 done, 1 failed")
    assert oldest.endswith("   0  hello-cpu_x86")
    assert "2026-09-21 14:13Z" in oldest, "when it began"
    rows = RunsOutput.model_validate_json(runs("list", "--json")[1]).runs
    assert [row.counts for row in rows] == [{"done": 1, "failed": 1}, {"done": 1}]
    assert rows[1].seconds == 1.0
    assert rows[0].releases == TWO


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--release", "hello-cpu_x86"), ["a"]),
        (("--release", "beta*"), ["b"]),
        (("--release", "hello*", "--release", "alpha*"), ["b", "a"]),
        (("--state", "failed"), ["b"]),
        (("--state", "failed", "--state", "done"), ["b", "a"]),
        (("--since", "2026-09-22"), ["b"]),
        (("--since", "2026-09-21T14:13"), ["b", "a"]),
        (("--limit", "1"), ["b"]),
        (("--state", "killed"), []),
    ],
)
def test_filters_of_the_list(
    home: Path, runs: Callable[..., Told], words: tuple[str, ...], wanted: list[str]
) -> None:
    _done(home)
    _two(home)
    code, out, err = runs("list", *words)
    assert code == 0, err
    assert [line.split()[0][-1] for line in out.splitlines()] == wanted


def test_an_age_is_before_now(home: Path, runs: Callable[..., Told]) -> None:
    _done(home, started_s=time.time() - 7200)
    assert runs("list", "--since", "3h")[1].count("\n") == 1
    assert runs("list", "--since", "1h")[1] == ""


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("list", "--since", "yesterday"), "--since: 'yesterday' is not understood"),
        (("list", "--state", "fine"), "there is no state 'fine'"),
        (("show", "20270101"), "no run begins with '20270101'"),
        (("show", "2026"), "more than one run begins with '2026'"),
        (("logs", "20260901", "buidl"), "unknown release of run"),
        (("logs", "20260901", "hello-cpu_x86", "buidl"), "there is no log of 'buidl'"),
        (("logs", "20260902", "gamma-cpu_x86"), "unknown release of run"),
        (("show", "20260902", "--release", "alpha"), "unknown release of run"),
        (("diff", "20260901", "xyz"), "no run begins with 'xyz'"),
        (("logs", "20260902", "--follow", "--errors"), "--errors goes with no --follow"),
    ],
)
def test_what_is_not_understood_is_an_error_of_usage(
    home: Path, runs: Callable[..., Told], words: tuple[str, ...], what: str
) -> None:
    _done(home)
    _two(home)
    code, out, err = runs(*words)
    assert (code, out) == (2, "")
    assert what in err
    assert "next:" in err


def test_an_unknown_run_names_the_nearest(home: Path, runs: Callable[..., Told]) -> None:
    _done(home)
    _two(home)
    assert "near it are: 20260901T000000Z-aaaaaa" in runs("show", "20260901T000000Z-aaaaab")[2]
    assert "these do: 20260901T000000Z-aaaaaa, 20260902" in runs("show", "2026")[2]
    assert "did you mean 'beta-cpu_x86'?" in runs("logs", "20260902", "beta_cpu_x86")[2]


def test_options_before_the_command_are_refused(home: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["runs", "--site", str(home.parent / "site.yaml"), "list"])
    assert ended.value.code == 2


def test_show_of_many_releases_has_the_stages_of_those_that_failed(
    home: Path, runs: Callable[..., Told]
) -> None:
    made = _two(home)
    code, out, _ = runs("show", "20260902")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("20260902T000000Z-bbbbbb  failed  ")
    assert lines[0].endswith("exit code 5")
    (alpha,) = [n for n, line in enumerate(lines) if line.startswith("alpha-cpu_x86")]
    assert lines[alpha + 1].startswith("beta-cpu_x86   failed"), "of alpha one line is enough"
    assert lines[alpha + 1].endswith("at build")
    rest = "\n".join(lines[alpha + 2 :])
    assert "= sources" not in rest
    assert "✓ sources" in rest
    assert "(with alpha-cpu_x86)" in rest
    assert "waited for the container engine" in rest
    assert "tried again, 2 of 2: no space" in rest
    assert str(made.folder.log_path(TWO[1], "build")) in rest
    assert lines[-1] == "next: relforge release --resume 20260902T000000Z-bbbbbb"


def test_show_of_one_release_has_everything(home: Path, runs: Callable[..., Told]) -> None:
    _two(home)
    out = runs("show", "20260902", "--release", "alpha-cpu_x86")[1]
    assert "✓ build" in out
    assert "beta" not in out
    told = RunShown.model_validate_json(runs("show", "20260902", "--json")[1])
    beta = told.releases[1]
    assert beta.failed is not None
    assert [wait.why for wait in beta.failed.waits] == ["for the container engine"]
    assert [one.attempt for one in beta.failed.retries] == [2]
    assert told.attempts == (SECOND + 86400,)
    assert told.releases[0].stages[0].log is None


def test_show_of_a_run_at_work_says_what_it_is_at(home: Path, runs: Callable[..., Told]) -> None:
    made = MadeRun(home, "20260903T000000Z-cccccc", started_s=time.time() - 5)
    made.stage("sources")
    made.begin("build")
    out = runs("show", "2026")[1]
    assert "running" in out.splitlines()[0]
    assert "✓ sources" in out, "its run.json is older than that"
    assert "> build      at work" in out
    assert out.splitlines()[-1] == "next: relforge runs logs 20260903T000000Z-cccccc --follow"
    made.folder.close()


def test_logs_are_those_of_the_stage_that_failed_else_the_newest(
    home: Path, runs: Callable[..., Told]
) -> None:
    _done(home)
    _two(home)
    assert runs("logs", "20260901")[:2] == (0, "compiling\n")
    assert runs("logs", "20260901", "build")[:2] == (0, "compiling\n")
    assert runs("logs", "20260901", "hello-cpu_x86", "build")[:2] == (0, "compiling\n")
    wanted = "cc: not found\ncc: still not found\n"
    assert runs("logs", "20260902")[:2] == (0, wanted)
    assert runs("logs", "20260902", "beta-cpu_x86")[:2] == (0, wanted)
    code, _, err = runs("logs", "20260902", "alpha-cpu_x86")
    assert (code, "wrote no log of alpha-cpu_x86" in err) == (2, True)


def test_logs_of_all_errors(home: Path, runs: Callable[..., Told]) -> None:
    _done(home)
    _two(home)
    out = runs("logs", "20260902", "--errors")[1]
    assert out.startswith("==> beta-cpu_x86: the image could not be built\n")
    assert out.endswith("cc: not found\ncc: still not found\n")
    assert runs("logs", "20260901", "--errors")[:2] == (0, "")


def test_old_runs_are_listed_shown_and_their_logs_are_found(
    home: Path, runs: Callable[..., Told]
) -> None:
    folder = old_run(home, "20250101T000000Z-dddddd")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert runs("list", "--release", "hello*")[1].endswith("   5  hello-cpu_x86\n")
    out = runs("show", "2025")[1]
    assert "✗ build      failed" in out
    assert str(folder / "logs" / "build.log") in out
    assert out.splitlines()[-1] == "next: relforge build --device cpu_x86"
    assert runs("logs", "2025")[:2] == (0, "compiling\nno such file: main.cpp\n")
    assert runs("logs", "2025", "sources")[:2] == (0, "fetching\n")
    assert runs("logs", "2025", "hello-cpu_x86", "sources")[:2] == (0, "fetching\n")
    _done(home)
    told = RunsDiff.model_validate_json(runs("diff", "2025", "20260901", "--json")[1])
    assert told.releases[0].states == ("failed", "done")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_following_a_run_ends_with_it_and_with_0(home: Path, runs: Callable[..., Told]) -> None:
    made = MadeRun(home, "20260903T000000Z-cccccc", TWO)
    made.stage("sources", TWO[0])
    made.begin("build", TWO[0])
    made.say("build", "begun before anybody looked", TWO[0])

    def go_on() -> None:
        time.sleep(0.5)
        made.say("build", "compiling", TWO[0])
        with made.folder._writing:
            made.folder._events.write('{"type":"stage-line","release":"alpha-cpu_x86","stage":')
            made.folder._events.flush()
            time.sleep(0.3)
            made.folder._events.write('"build","text":"in two pieces","time_s":1.0}\n')
        made.stage("build", TWO[0], status="failed", detail="no compiler")
        made.begin("sources", TWO[1])
        made.finish(TWO[0], "failed", 5, "no compiler")
        made.end("failed", 5)

    worker = threading.Thread(target=go_on)
    worker.start()
    code, out, _ = runs("logs", "2026", "--follow")
    worker.join()
    assert code == 0
    lines = [
        line.replace("alpha-cpu_x86", "A").replace("beta-cpu_x86 ", "B")
        for line in out.splitlines()
    ]
    assert [line.split("  ", 1)[1][:40].rstrip() for line in lines[:-1]] == [
        "✓ sources    ran            1.0 s  sourc",
        "> build",
        "  build | begun before anybody looked",
        "  build | compiling",
        "  build | in two pieces",
        "✗ build      failed         1.0 s  no co",
        "> sources",
        "failed",
    ]
    assert lines[-1] == "run failed, exit code 5"


def test_following_one_stage_of_a_run_that_has_ended(home: Path, runs: Callable[..., Told]) -> None:
    _two(home)
    code, out, _ = runs("logs", "2026", "beta-cpu_x86", "build", "--follow")
    assert code == 0
    assert out.splitlines()[:3] == [
        "- build waits for the container engine", "> build", "  build | cc: not found",
    ]  # fmt: skip
    assert "sources" not in out


def test_following_a_run_that_is_killed_says_so(home: Path, runs: Callable[..., Told]) -> None:
    from tests.unit.test_runs import kill_a_run

    kill_a_run(home)
    code, out, err = runs("logs", "run-1", "--follow")
    assert code == 0
    assert out.splitlines() == ["✓ sources    ran            1.2 s  2 trees", "> build"]
    assert err == "the run is gone: killed during build\n"


class Inputs(StageInputs):
    compiler: str
    text: str
    before: str


def _kept(home: Path, key: str, **values: str) -> None:
    Store(home).save(
        stage="build", key=key, inputs=Inputs(**values), result=StageResult(), seconds=1.0,
        run_id="r",
    )  # fmt: skip


def test_diff_names_the_inputs_that_are_others(home: Path, runs: Callable[..., Told]) -> None:
    old, new = "d" * 64, "e" * 64
    _kept(home, old, compiler="gcc 12", text="a\nb\n", before="1" * 64)
    _kept(home, new, compiler="gcc 13", text="a\nc\n", before="2" * 64)
    for number, key, source in ((1, old, "1"), (2, new, "2")):
        made = MadeRun(home, f"2026090{number}T000000Z-aaaaaa")
        made.stage("sources", key=source * 64)
        made.stage("build", key=key, result={"image_digest": f"sha256:{source * 64}"})
        verdict = "pass" if number == 1 else "fail"
        made.stage("smoke", verdict=verdict, status="ran" if number == 1 else "failed")
        made.finish()
        made.end()
    code, out, _ = runs("diff", "20260901", "20260902")
    assert code == 0
    assert f"image      sha256:{'1' * 64} -> sha256:{'2' * 64}" in out
    assert "compiler: gcc 12 → gcc 13" in out
    assert "        -b\n        +c\n" in out
    assert "as sources is another" in out
    assert "[pass] -> [fail]" in out
    told = RunsDiff.model_validate_json(runs("diff", "20260901", "20260902", "--json")[1])
    assert told.differ
    stages = {one.stage: one for one in told.releases[0].stages}
    assert [change.where for change in stages["build"].changes] == ["before", "compiler", "text"]
    assert stages["build"].changes[0].stage == "sources"
    assert stages["sources"].unknown is not None
    assert "has no result of 111111111111 and 222222222222" in stages["sources"].unknown


def test_diff_of_alike_runs_and_of_other_releases(home: Path, runs: Callable[..., Told]) -> None:
    _done(home)
    _done(home, "20260905T000000Z-aaaaaa")
    _two(home)
    out = runs("diff", "20260901", "20260905")[1]
    assert out.splitlines()[2:] == ["= hello-cpu_x86: the same, in 1.0 s -> 1.0 s"]
    told = RunsDiff.model_validate_json(runs("diff", "20260901", "20260902", "--json")[1])
    assert (told.only_before, told.only_after) == (("hello-cpu_x86",), TWO)
    assert told.differ
    assert told.releases == ()


def test_the_same_change_in_several_releases_is_shown_once() -> None:
    def side(key: str) -> StageSide:
        return StageSide(status="ran", verdict=None, key=key, seconds=1.0, detail="")

    def one(name: str, last: str) -> ReleaseDiff:
        change = Change(where="template", before="2 lines", now="2 lines", diff=("-b", f"+{last}"))
        stage = StageDiff(
            stage="render", before=side("1"), after=side("2"), changes=(change,), unknown=None
        )
        return ReleaseDiff(
            release=name, states=("done", "done"), seconds=(1.0, 1.0), digests=(None, None),
            stages=(stage,),
        )  # fmt: skip

    text = difference(
        RunsDiff(
            before="1", after="2", differ=True, states=("done", "done"), seconds=(1.0, 1.0),
            only_before=(), only_after=(),
            releases=(one("first", "c"), one("second", "c"), one("third", "d")),
        )
    )  # fmt: skip
    assert text.count("        -b\n        +c\n") == 1
    assert "~ second: done\n  ~ render     ran, 1.0 s -> 1.0 s\n" in text
    assert "      template: 2 lines → 2 lines: as for first\n" in text
    assert text.endswith("      template: 2 lines → 2 lines\n        -b\n        +d\n")
