"""Records and runs for boards: varied from a real record, in any number."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relforge.board.building import Board, Origin, make_board
from relforge.board.folder import write_board
from relforge.evidence.runs import ReleaseRun, Run, StageEntry
from relforge.evidence.store import Store
from relforge.frozen import sha256_hex
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site
from relforge.pipeline import STAGES
from relforge.plan import make_plan, subject
from tests.support.fleet import make_project
from tests.support.verified import Releaser

START_S = 1_790_000_000.0
"""When the first made run began."""
HOUR_S = 3600.0


def origin_of(
    root: Path,
    *,
    dists: Sequence[str] = ("dist",),
    history: Sequence[str] = (),
    page: str | None = "board",
    site: Site | None = None,
) -> Origin:
    """Project, home, dist folders and board below one folder."""
    return Origin(
        project=Project((root, builtin_root())),
        site=site or Site(),
        home=root / "home",
        dists=tuple(root / name for name in dists),
        history=tuple(root / name for name in history),
        page=None if page is None else root / page,
    )


def board_of(root: Path, **options: Any) -> Board:
    """The board of the project in *root*."""
    return make_board(origin_of(root, **options))


def planned_inputs(project: Project, release: str, site: Site) -> dict[str, Any]:
    """``inputs`` of a record that was made of what the manifests plan now."""
    store = Store(project.root / "no-store")
    plan = make_plan(subject(project, project.release(release), site), STAGES, store)
    return {
        stage.name: {
            "key": stage.key,
            "values": plan.inputs[stage.name].model_dump(mode="json"),
        }
        for stage in plan.stages
        if stage.key is not None
    }


def varied(
    record: dict[str, Any],
    project: Project,
    release: str,
    *,
    number: int = 0,
    site: Site | None = None,
) -> dict[str, Any]:
    """A release's record: a real one's results under its names, of what its manifests plan now.

    ``number`` decides digest, time and figures.
    """
    manifest = project.release(release)
    made = copy.deepcopy(record)
    made["release"] = release
    made["names"] |= {"release": release, "model": manifest.model, "device": manifest.device}
    made["image_digest"] = "sha256:" + sha256_hex(f"{release} {number}".encode())
    made["created"] = stamp(START_S + number * HOUR_S)
    made["inputs"] = planned_inputs(project, release, site or Site())
    for task in made["results"]["evaluate"]["tasks"]:
        task["difference_points"] = -0.1 * (number % 5)
        low = task["difference_points"] - 0.5
        task["interval_points"] = [low, low + 1.0]
    for level in made["results"]["bench"]["report"]["levels"]:
        level["figures"]["output_tokens_per_s"] *= 1 + (number % 7) / 20
    return made


def put_record(dist: Path, record: dict[str, Any], *, chart: bytes | None = None) -> Path:
    """Writes ``dist/<release>/release.json`` alone, or with the chart of its benchmark as the
    evidence of a published folder."""
    path = dist / str(record["release"]) / "release.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1))
    if chart is not None:
        (path.parent / "evidence").mkdir(exist_ok=True)
        (path.parent / "evidence" / "bench.svg").write_bytes(chart)
        listed = {"evidence/bench.svg": sha256_hex(chart)}
        contents = {"image_digest": record["image_digest"], "files": listed}
        (path.parent / "contents.json").write_text(json.dumps(contents))
    return path


def stamp(seconds: float) -> str:
    """As records have times."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def run_of(
    release: str,
    number: int = 0,
    *,
    fails_at: str | None = None,
    until: str | None = None,
    state: str | None = None,
) -> Run:
    """A run of one release that came to its end, as ``run.json`` has it."""
    started = START_S + number * HOUR_S
    entries = tuple(_stages(fails_at, until))
    ended = state or ("failed" if fails_at else "done")
    error = f"{fails_at}: fail\nwhy: the server died" if fails_at else None
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(started)) + f"-{number:06x}"
    entry = ReleaseRun.model_validate(
        {
            "release": release, "state": ended, "exit_code": 6 if fails_at else 0, "error": error,
            "next": f"relforge release --resume {name}" if fails_at else None,
            "seconds": 60.0 + number % 50, "stages": entries,
        }
    )  # fmt: skip
    return Run.model_validate(
        {
            "id": name, "command": f"relforge release --release {release}", "started_s": started,
            "ended_s": started + entry.seconds, "state": ended, "exit_code": entry.exit_code,
            "error": error, "releases": (entry,),
        }
    )  # fmt: skip


def _stages(fails_at: str | None, until: str | None) -> Iterator[StageEntry]:
    gates = {"smoke", "evaluate", "bench", "coverage", "sbom", "scan"}
    for place, stage in enumerate(STAGES):
        failed = stage.name == fails_at
        verdict = ("fail" if failed else "pass") if stage.name in gates else None
        yield StageEntry.model_validate(
            {
                "name": stage.name, "status": "failed" if failed else "ran",
                "seconds": 1.5 * place, "verdict": verdict, "detail": "as it went",
            }
        )  # fmt: skip
        if failed or stage.name == until:
            return


def put_run(home: Path, run: Run, digest: str | None = None) -> Path:
    """Writes a run's folder, without the fsync that many of them would wait for."""
    folder = home / "runs" / run.id
    for entry in run.releases:
        results = folder / entry.release / "results"
        results.mkdir(parents=True, exist_ok=True)
        if digest is not None:
            (results / "build.json").write_text(json.dumps({"image_digest": digest}))
    (folder / "run.json").write_text(run.model_dump_json(indent=1))
    return folder


SCENE_RECORDED = "model-0-chip_0"
SCENE_STALE = "model-0-chip_1"
SCENE_FAILING = "model-1-chip_0"
SCENE_REAL = "tiny-adder-cpu_x86"


@dataclass(frozen=True)
class BoardScene:
    """A project of twelve releases, with the built-in ones behind it: one really published, one
    recorded, one stale, one failing. ``board/`` is the page."""

    root: Path
    site: Site

    def board(self, page: str | None = "board") -> Board:
        return make_board(origin_of(self.root, page=page, site=self.site, history=("archive",)))

    def write(self) -> Path:
        """Writes the page; returns its address."""
        write_board(self.board(), self.root / "board")
        return self.root / "board" / "index.html"


def make_scene(root: Path) -> BoardScene:
    """Takes some seconds: the published release is whole, and signed."""
    make_project(root, 12, wheels=3)
    releaser = Releaser.at(root / "maker")
    releaser.release(root / "archive" / "first", word=b"first")
    published = releaser.release(root / "dist", word=b"second")
    real = json.loads((published / "release.json").read_text())
    project = Project((root, builtin_root()))
    put_record(root / "dist", varied(real, project, SCENE_RECORDED, site=releaser.site))
    stale = varied(real, project, SCENE_STALE, number=1, site=releaser.site)
    put_record(root / "dist", stale)
    manifest = root / "manifests" / "releases" / f"{SCENE_STALE}.yaml"
    manifest.write_text(manifest.read_text().replace("max-num-seqs: 32", "max-num-seqs: 64"))
    for number in range(60):
        put_run(root / "home", run_of(SCENE_REAL, number), real["image_digest"])
    put_run(root / "home", run_of(SCENE_FAILING, 70, fails_at="smoke"), "sha256:" + "b" * 64)
    return BoardScene(root, releaser.site)
