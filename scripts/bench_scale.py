#!/usr/bin/env python3
"""What a run of many releases costs beside the work itself, as a table with the figures to hold.

    scripts/bench_scale.py [engine] [ray] [resume] [shared] [warm] [--runs N] [--dir DIR]

engine  1,000 results of stages that do nothing, each on the disk before it counts: at most 10 s.
ray     10,000 jobs that do nothing, on two local nodes (scripts/bench_ray.py): at most 30 ms each,
        and as much at every size. Wants the extra ray.
resume  from the start of `relforge release --resume` to its first stage, of a run with 500 jobs
        that was killed half-way: at most 1 s.
shared  8 releases of examples/hello in one run, against 8 runs of one release each: at most 35 % of
        their time. Every run has a home and a new engine of its own (scripts/engine; its start does
        not count), as on 8 hosts: nothing is shared but what the one run shares. The separate ones
        are measured for ``--separate`` of the 8, and counted as if the others took as long. Wants
        root and quickstart's site configuration.
warm    The same against 8 runs one after another on the engine of that site, which has the base
        image and what is compiled already: for comparison, without a limit. What is left to share
        are the contents of layers, and cores that wait.

Without a name: all of them. Seconds are medians of the runs, of the clock; wants a quiet machine.
Exits 1 when a figure is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from relforge.cancel import CancelToken  # noqa: E402
from relforge.events import RunStarted, StageFinished, StageStarted  # noqa: E402
from relforge.evidence.reading_runs import list_runs, read_events  # noqa: E402
from relforge.evidence.runs import Asked  # noqa: E402
from relforge.executor.local import LocalExecutor  # noqa: E402
from relforge.manifest.site import Site  # noqa: E402
from relforge.running.limits import Limits  # noqa: E402
from relforge.running.runner import Runner  # noqa: E402
from tests.support.hello_fleet import make_project, make_site, settings_of  # noqa: E402
from tests.support.toys import Toy, ToyRelease, plan_of  # noqa: E402

RESULTS, STAGES = 1000, 10
RESULTS_S, RESUME_S, SHARED_SHARE = 10.0, 1.0, 0.35
RESUMED_RELEASES, RELEASES = 100, 8
WHAT = ["engine", "ray", "resume", "shared", "warm"]
SITE = Path(os.environ.get("RELFORGE_SITE", CHECKOUT / ".relforge" / "site.yaml"))
_RELFORGE = [sys.executable, "-c", "from relforge.cli import main; main()"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="*", choices=[*WHAT, []])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--separate", type=int, default=2, help="of the 8 separate runs")
    parser.add_argument("--jobs", type=int, default=4, help="of the run of 8 releases")
    parser.add_argument("--dir", type=Path, help="where to work (default: a temporary folder)")
    asked = parser.parse_args()
    kept = True
    for name in asked.what or WHAT:
        with tempfile.TemporaryDirectory(dir=asked.dir) as folder:
            work = Path(folder)
            if name == "engine":
                kept &= engine(work, asked.runs)
            elif name == "ray":
                kept &= subprocess.run([CHECKOUT / "scripts" / "bench_ray.py"]).returncode == 0
            elif name == "resume":
                kept &= resume(work, asked.runs)
            else:
                kept &= shared(work, asked.separate, asked.jobs, new_engines=name == "shared")
    return 0 if kept else 1


def engine(work: Path, runs: int) -> bool:
    seconds = []
    for number in range(runs):
        home = work / f"home-{number}"
        home.mkdir()
        stages = tuple(Toy(f"stage{n}") for n in range(STAGES))
        toys = [ToyRelease(f"toy{n:04}") for n in range(RESULTS // STAGES)]
        plans = [plan_of(home, toy, stages) for toy in toys]
        runner = Runner(
            home=home, executor=LocalExecutor(), site=Site(), dist=home / "dist",
            cancel=CancelToken(), limits=Limits(jobs=4, cpu_cores=4, memory_bytes=1, disk_bytes=1),
        )  # fmt: skip
        began = time.perf_counter()
        done = runner.run_all(plans, stages, "", Asked(releases=tuple(t.name for t in toys)))
        seconds.append(time.perf_counter() - began)
        assert {one.entry.state for one in done} == {"done"}
        assert len(list(home.glob("store/results/*/*.json"))) == RESULTS
    return hold(f"{RESULTS} durable results", seconds, RESULTS_S)


def resume(work: Path, runs: int) -> bool:
    make_project(work / "project", RESUMED_RELEASES)
    seconds = []
    for number in range(runs):
        home = work / f"home-{number}"
        site = make_site(work / f"{number}.yaml", work, settings_of(SITE), home=str(home))
        at = ["--project", str(work / "project"), "--site", str(site)]
        words = [*_RELFORGE, "release", "--all", "--until", "render", *at]
        with subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
            while _finished(home) < RESUMED_RELEASES // 2:
                assert run.poll() is None, "it ended before it could be killed"
                time.sleep(0.02)
            run.send_signal(signal.SIGKILL)
        (stopped,) = list_runs(home)
        assert stopped.state == "killed"
        began = time.time()
        subprocess.run(
            [*_RELFORGE, "release", "--resume", stopped.id, *at],
            check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        events = list(read_events(home / "runs" / stopped.id))
        second = max(n for n, event in enumerate(events) if isinstance(event, RunStarted))
        first = next(e for e in events[second:] if isinstance(e, StageStarted))
        seconds.append(first.time_s - began)
    jobs = RESUMED_RELEASES * 5
    return hold(f"start of --resume, {jobs} jobs", seconds, RESUME_S)


def _finished(home: Path) -> int:
    """Releases that a run has done a stage of work for."""
    folders = list((home / "runs").glob("*")) if (home / "runs").is_dir() else []
    events = (event for folder in folders for event in read_events(folder))
    ended = {e.release for e in events if isinstance(e, StageFinished) and e.stage == "render"}
    return len(ended)


def shared(work: Path, separate: int, jobs: int, *, new_engines: bool) -> bool:
    project = work / "project"
    names = make_project(project, RELEASES)

    def seconds(name: str, *words: str) -> float:
        if not new_engines:
            return _release(work, project, name, words, {})
        with _new_engine(work / f"engine-{name}") as engine:
            return _release(work, project, name, words, {"engine": engine})

    each = [seconds(f"own-{n}", "--release", names[n]) for n in range(separate)]
    together = seconds("all", "--all", "--jobs", str(jobs))
    alone = statistics.mean(each) * RELEASES
    where = "new engines" if new_engines else "an engine that has it all"
    print(
        f"{RELEASES} releases in one run  {together:.1f} s; one in a run of its own "
        f"{statistics.mean(each):.1f} s (mean of {separate}); {where}"
    )
    if new_engines:
        return hold(
            f"{RELEASES} together / {RELEASES} separate", [together / alone], SHARED_SHARE, ""
        )
    print(f"{RELEASES} together / {RELEASES} separate, warm    {100 * together / alone:.1f} %")
    return True


@contextmanager
def _new_engine(root: Path) -> Iterator[dict[str, str]]:
    """An engine with nothing in it, as a site's ``engine``."""

    def engine(*words: str) -> str:
        done = subprocess.run(
            [CHECKOUT / "scripts" / "engine", *words, "--root", root],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout

    try:
        engine("up", "--force-own")
        told = json.loads(engine("env", "--json"))
        yield {name: told[name] for name in ("docker", "host", "config_dir")}
    finally:
        engine("purge")


def _release(
    work: Path, project: Path, name: str, words: Sequence[str], changes: Mapping[str, Any]
) -> float:
    home = work / name
    places = {"home": str(home / "home"), "dist": str(home / "dist")}
    home.mkdir()
    site = make_site(home / "site.yaml", work, settings_of(SITE), **places, **changes)
    began = time.perf_counter()
    done = subprocess.run(
        [*_RELFORGE, "release", *words, "--project", project, "--site", site],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    assert done.returncode == 0, done.stderr[-2000:]
    shutil.rmtree(home)
    return seconds


def hold(what: str, found: list[float], allowed: float, unit: str = " s") -> bool:
    value = statistics.median(found)
    shown = f"{value:.2f}{unit}" if unit else f"{100 * value:.1f} %"
    limit = f"{allowed:g}{unit}" if unit else f"{100 * allowed:.0f} %"
    spread = f" (median of {len(found)}, {min(found):.2f} to {max(found):.2f})" if unit else ""
    kept = value <= allowed
    print(f"{what:<34}{shown}{spread}, allowed {limit}{'' if kept else '  MISSED'}", flush=True)
    return kept


if __name__ == "__main__":
    raise SystemExit(main())
