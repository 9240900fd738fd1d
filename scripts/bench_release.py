#!/usr/bin/env python3
"""Measures what relforge promises about its speed; prints medians and ratios, both sides in turn.

    scripts/bench_release.py [help|nothing|edit]...      default: help nothing

Needs the release that ./scripts/quickstart made and a running engine (scripts/engine env).

help     `relforge --help` against `python -c pass`
nothing  `relforge release` and `relforge build` with nothing changed, against a fully cached
         `docker buildx build` of the same context
edit     one Python line in the vLLM patch: time to build again against the recorded cold build
         (takes minutes; works on a copy of the project, with quickstart's store)
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
BIN = CHECKOUT / ".relforge" / "venv" / "bin"
RELEASE = "tiny-adder-cpu_x86"
RUNS = 7


def timed(argv: list[str | Path], **kwargs: object) -> float:
    """Wall seconds of a command that must succeed."""
    started = time.perf_counter()
    subprocess.run(
        [str(word) for word in argv], check=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, **kwargs,  # type: ignore[call-overload]
    )  # fmt: skip
    return time.perf_counter() - started


def alternate(sides: dict[str, Callable[[], float]], runs: int = RUNS) -> dict[str, float]:
    """Medians of several commands, run in turn so that a noisy machine hits all of them."""
    for side in sides.values():
        side()
    seen: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, side in sides.items():
            seen[name].append(side())
    return {name: statistics.median(values) for name, values in seen.items()}


def show(rows: dict[str, float]) -> None:
    for name, seconds in rows.items():
        print(f"  {name:<44}{seconds:9.3f} s")


missed: list[str] = []


def hold(what: str, value: float, limit: float) -> None:
    """Prints a figure with its limit, and remembers when it is missed."""
    verdict = "ok" if value <= limit else "MISSED"
    print(f"  {what:<44}{value:9.2f}   at most {limit:g}: {verdict}")
    if value > limit:
        missed.append(what)


def bench_help() -> None:
    rows = alternate(
        {
            "relforge --help": lambda: timed([BIN / "relforge", "--help"]),
            "python -c pass": lambda: timed([BIN / "python", "-c", "pass"]),
        },
        runs=15,
    )
    show(rows)
    hold("help / pass", rows["relforge --help"] / rows["python -c pass"], 8)


def bench_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="relforge-bench-") as name:
        rebuild = cached_build(Path(name))
        rows = alternate(
            {
                "relforge release, nothing changed": lambda: timed(
                    [BIN / "relforge", "release", "--release", RELEASE], cwd=CHECKOUT
                ),
                "relforge build, nothing changed": lambda: timed(
                    [BIN / "relforge", "build", "--release", RELEASE], cwd=CHECKOUT
                ),
                "docker buildx build, fully cached": lambda: timed(["sh", rebuild]),
            }
        )
    show(rows)
    hold("release, seconds", rows["relforge release, nothing changed"], 2)
    cached = rows["docker buildx build, fully cached"]
    hold("build / cached buildx build", rows["relforge build, nothing changed"] / cached, 1)


def cached_build(scratch: Path) -> Path:
    """The recorded build as a script, with the trees of its private work area checked out again."""
    record = json.loads((CHECKOUT / "dist" / RELEASE / "release.json").read_text())
    trees = record["inputs"]["build"]["values"]["trees"]
    run = CHECKOUT / ".relforge" / "home" / "runs" / record["run"] / RELEASE
    text = (run / "logs" / "rebuild.sh").read_text()
    for word in text.split():
        context, _, folder = word.partition("=")
        if context in trees and not Path(folder).exists():
            checkout(context, trees[context], scratch / context, scratch / "unpatched")
            text = text.replace(folder, str(scratch / context))
    script = scratch / "rebuild.sh"
    script.write_text(text)
    return script


def checkout(source: str, tree: str, dest: Path, scratch: Path) -> None:
    """A tree from the store, or from the patch set where the store has only its base."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    home = CHECKOUT / ".relforge" / "home"
    code = (
        "import sys; from pathlib import Path; from relforge.sources.api import store_of\n"
        "store_of(Path(sys.argv[1])).checkout(sys.argv[2], Path(sys.argv[3]), epoch=0)"
    )
    in_store = subprocess.run(
        ["git", f"--git-dir={home}/store/git", "cat-file", "-e", f"{tree}^{{tree}}"],
        capture_output=True, check=False,
    )  # fmt: skip
    if in_store.returncode == 0:
        timed([BIN / "python", "-c", code, home, tree, dest])
        return
    timed([BIN / "relforge", "unpatch", "--release", RELEASE, "--dir", scratch], cwd=CHECKOUT)
    (folder,) = scratch.glob(f"*/{source}")
    (folder / ".relforge-tree.json").unlink(missing_ok=True)
    shutil.move(folder, dest)


def first_build_s() -> float:
    """Seconds of the first build in this checkout's home: the one that found no cache."""
    for path in sorted((CHECKOUT / ".relforge/home/runs").glob("*/run.json")):
        run = json.loads(path.read_text())
        for stage in run["stages"]:
            if run["release"] == RELEASE and (stage["name"], stage["status"]) == ("build", "ran"):
                return float(stage["seconds"])
    raise SystemExit(f"no run built {RELEASE}; run ./scripts/quickstart")


def bench_edit() -> None:
    cold = first_build_s()
    with tempfile.TemporaryDirectory(prefix="relforge-bench-") as name:
        project = Path(name)
        for folder in ("manifests", "patches", "examples", "dockerfiles"):
            shutil.copytree(CHECKOUT / folder, project / folder)
        site = json.loads((CHECKOUT / ".relforge" / "site.yaml").read_text())
        base = CHECKOUT / ".relforge"
        site["home"] = str(base / site["home"])
        site["dist"] = str(project / "dist")
        # The edited patch set is plain: only its owner can seal it.
        site["patch_sets"] = {}
        site["trusted_keys"] = site["identities"] = []
        (project / "site.yaml").write_text(json.dumps(site))
        patch = sorted((project / "patches/vllm-0.32.0-cpu").glob("0003-*.patch"))[0]
        text = patch.read_text()
        assert "is not supported by CPU attention" in text
        words: list[str | Path] = [
            "--release",
            RELEASE,
            "--project",
            project,
            "--site",
            project / "site.yaml",
        ]
        again = []
        for turn in range(3):
            edited = f"is not supported by CPU attention ({os.getpid()}-{turn})"
            patch.write_text(text.replace("is not supported by CPU attention", edited))
            timed([BIN / "relforge", "lock", *words])
            again.append(timed([BIN / "relforge", "build", *words]))
    rows = {
        "first build here, by its run's record": cold,
        "build after one edited Python line": statistics.median(again),
    }
    show(rows)
    hold("rebuild / cold", rows["build after one edited Python line"] / cold, 0.35)


def main() -> None:
    wanted = sys.argv[1:] or ["help", "nothing"]
    parts = {"help": bench_help, "nothing": bench_nothing, "edit": bench_edit}
    if unknown := [word for word in wanted if word not in parts]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; choose from {', '.join(parts)}")
    for word in wanted:
        print(word)
        parts[word]()
    if missed:
        raise SystemExit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
