"""Homes as relforge leaves them, made by hand: results with their files, of any age."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relforge.cancel import CancelToken
from relforge.collecting.collector import Collector
from relforge.collecting.model import GcOutput, Wanted
from relforge.evidence.store import Record, Store
from relforge.files import stamp
from relforge.manifest.site import Site
from tests.support.made_runs import MadeRun

DAY_S = 86400.0


def key(word: str) -> str:
    """A key as content keys look."""
    return hashlib.sha256(word.encode()).hexdigest()


def tree(folder: Path) -> dict[str, tuple[int, bytes, int]]:
    """Every file below a folder: mode, content and time of change."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode, path.read_bytes() if path.is_file() else b"",
            path.lstat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
    }  # fmt: skip


def aged(path: Path, days: float) -> Path:
    """Sets when everything at and below a path was changed."""
    then = time.time() - days * DAY_S
    for one in (*path.rglob("*"), path):
        os.utime(one, (then, then), follow_symlinks=False)
    return path


@dataclass
class Home:
    """``home`` below *folder*, with a project without releases beside it."""

    folder: Path
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.project = self.folder / "project"
        self.dist = self.folder / "dist"
        (self.project / "manifests").mkdir(parents=True, exist_ok=True)
        self.store = Store(self.home)

    def blob(self, text: str, days: float) -> Path:
        path = self.store.put_blob(text.encode()).path
        return aged(path, days)

    def put(self, relative: str, text: str, days: float) -> Path:
        """A file anywhere in the home."""
        path = self.home / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        then = time.time() - days * DAY_S
        for folder in path.parents:
            if folder == self.home:
                break
            os.utime(folder, (then, then))
        return aged(path, days)

    def result(
        self, stage: str, word: str, days: float, *, blobs: tuple[str, ...] = (),
        folder: bool = False, inputs: dict[str, Any] | None = None, **result: Any,
    ) -> str:  # fmt: skip
        """A result that was made that long ago; returns its key. ``folder``: it has outputs."""
        found = key(word)
        stamps = [stamp(self.blob(text, days)) for text in blobs]
        if folder:
            place = self.store.folder(stage, found)
            place.mkdir(parents=True)
            (place / "layer").write_text(f"{stage} {word}" * 100)
            stamps.append(stamp(aged(place, days) / "layer"))
        record = Record(
            stage=stage, key=found, inputs=inputs or {"word": word}, seconds=1.0, run_id="r",
            result={
                "verdict": None, "reason": "",
                "outputs": [one.model_dump(mode="json") for one in stamps],
                **result,
            },
            created_s=time.time() - days * DAY_S,
        )  # fmt: skip
        self.put(f"store/results/{stage}/{found}.json", record.model_dump_json(), days)
        return found

    def run(
        self, name: str, days: float, keys: dict[str, str], *, release: str = "hello-cpu_x86",
        ends: bool = True,
    ) -> MadeRun:  # fmt: skip
        """A run that used these results and ended that long ago."""
        made = MadeRun(self.home, name, (release,), started_s=time.time() - days * DAY_S)
        for stage, one in keys.items():
            made.stage(stage, release, key=one, seconds=0.0)
        if ends:
            made.finish(release)
            made.end()
        return made

    def publish(self, release: str, keys: dict[str, str], digest: str, run: str = "r") -> Path:
        """A record as ``dist`` has it."""
        path = self.dist / release / "release.json"
        path.parent.mkdir(parents=True)
        inputs = {stage: {"key": one, "values": {}} for stage, one in keys.items()}
        path.write_text(json.dumps({"run": run, "image_digest": digest, "inputs": inputs}))
        return path

    def collect(self, *, days: float = 30.0, keep_last: int = 0, **wanted: Any) -> GcOutput:
        return Collector(
            self.home,
            Wanted(older_than_s=days * DAY_S, keep_last=keep_last, **wanted),
            site=Site(),
            root=self.project,
            dist=self.dist,
            engine=None,
            line=self.lines.append,
            cancel=CancelToken(),
        ).run()

    def results(self) -> set[str]:
        """``stage word-key`` of every result that is there."""
        return {
            f"{path.parent.name} {path.stem}"
            for path in (self.home / "store" / "results").glob("*/*.json")
        }
