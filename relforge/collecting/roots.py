"""What has to stay: runs, stage results, and everything whose hash these mention."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relforge.collecting.model import Wanted
from relforge.errors import RelforgeError
from relforge.evidence.reading_runs import read_run
from relforge.evidence.runs import Run
from relforge.manifest.project import find_project
from relforge.manifest.site import Site

Key = tuple[str, str]
"""A stage and the key of its result."""
_HASH = re.compile(rb"(?<![0-9a-f])[0-9a-f]{40}(?:[0-9a-f]{24})?(?![0-9a-f])")


def hashes_in(data: bytes) -> set[str]:
    """Every SHA-1 and SHA-256 that a text mentions, in hexadecimal digits."""
    return {found.decode() for found in _HASH.findall(data)}


@dataclass
class Roots:
    """``runs`` and ``results`` that stay, with the reason. ``mentioned`` are hashes that manifests
    and locks of known projects name. ``uses`` has when a run last used a result."""

    all_runs: dict[str, Run] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    results: dict[Key, str] = field(default_factory=dict)
    mentioned: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    """Of images that are published, with where."""
    uses: dict[Key, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def keep(self, results: Iterable[Key], why: str) -> None:
        for one in results:
            self.results.setdefault(one, why)


def roots(home: Path, wanted: Wanted, *, site: Site, root: Path, dist: Path) -> Roots:
    """What must stay in *home*. ``root`` is the project at hand, ``dist`` where it publishes;
    those of the runs are looked at as well."""
    found = Roots()
    for folder in sorted((home / "runs").glob("*/"), reverse=True):
        if (run := read_run(folder)) is not None:
            found.all_runs[folder.name] = run
    for run in found.all_runs.values():
        for key in keys_of(run):
            found.uses[key] = max(found.uses.get(key, 0.0), used_s(run))
    _at_work(found)
    _newest(found, wanted.keep_last)
    asked = [run.asked for run in found.all_runs.values()]
    for place in {dist, *(Path(one.dist) for one in asked if one.dist)}:
        _published(found, place)
    _journal(found, home / "publications")
    _latest(found, home / "store" / "latest")
    projects = {root.resolve(), *(Path(one.root) for one in asked if one.root)}
    for project in sorted(projects):
        if (project / "manifests").is_dir():
            _project(found, project, home, site, dist)
    for run_id in found.runs:
        found.keep(keys_of(found.all_runs[run_id]), f"run {run_id} needs it")
    return found


def keys_of(run: Run) -> Iterator[Key]:
    """The results that a run used, or will use when it goes on."""
    for keys in run.asked.keys.values():
        yield from keys.items()
    for one in run.releases:
        for entry in one.stages:
            if entry.key is not None:
                yield entry.name, entry.key


def used_s(run: Run) -> float:
    """When the run last did something, in seconds UTC."""
    return run.ended_s if run.ended_s is not None else run.started_s


def _at_work(found: Roots) -> None:
    for name, run in found.all_runs.items():
        if run.state == "running":
            found.runs[name] = "it is at work, or nobody can tell that it is not"


def _newest(found: Roots, keep_last: int) -> None:
    """The newest runs of each release."""
    counts: dict[str, int] = {}
    for name, run in found.all_runs.items():
        for one in run.releases:
            counts[one.release] = counts.get(one.release, 0) + 1
            if counts[one.release] <= keep_last:
                why = f"it is among the newest {keep_last} of {one.release}"
                found.runs.setdefault(name, why)


def _published(found: Roots, dist: Path) -> None:
    """What the records of published releases name."""
    for path in sorted(dist.glob("*/release.json")):
        try:
            record: dict[str, Any] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            found.warnings.append(f"{path} cannot be read; what it needs is not known")
            continue
        why = f"{path.parent} is published with it"
        inputs = record.get("inputs")
        for stage, values in inputs.items() if isinstance(inputs, dict) else ():
            if isinstance(values, dict) and isinstance(values.get("key"), str):
                found.keep([(stage, values["key"])], why)
        if isinstance(record.get("image_digest"), str):
            found.digests.setdefault(record["image_digest"], why)
        if record.get("run") in found.all_runs:
            found.runs.setdefault(record["run"], f"{path.parent} is of it")


def _journal(found: Roots, folder: Path) -> None:
    """Images that were sent somewhere and not taken back."""
    for path in sorted(folder.glob("*.json")):
        try:
            rows = json.loads(path.read_bytes())
            sent = [row for row in rows if row["state"] != "undone" and row["step"] != "withdraw"]
            withdrawn = {
                (row["image_digest"], row["target"])
                for row in rows
                if row["step"] == "withdraw" and row["state"] == "done"
            }
            for row in sent:
                if (row["image_digest"], row["target"]) not in withdrawn:
                    found.digests.setdefault(row["image_digest"], f"{row['place']} has it")
        except (OSError, ValueError, TypeError, KeyError):
            found.warnings.append(f"{path} cannot be read; what it names may be collected")


def _latest(found: Roots, folder: Path) -> None:
    for path in sorted(folder.glob("*.json")):
        try:
            keys = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(keys, dict):
            why = f"{path.stem} used it last"
            found.keep(((str(stage), str(key)) for stage, key in keys.items()), why)


def _project(found: Roots, root: Path, home: Path, site: Site, dist: Path) -> None:
    """What manifests and locks name, and what a plan of each release would reuse now."""
    from relforge.evidence.store import Store
    from relforge.pipeline import STAGES
    from relforge.plan import make_plan, subject

    for path in sorted((root / "manifests").rglob("*.yaml")):
        try:
            tokens = hashes_in(path.read_bytes())
        except OSError as error:
            found.warnings.append(f"{path} cannot be read ({error.strerror}); what it pins may go")
            continue
        for one in tokens:
            found.mentioned.setdefault(one, f"{path.name} pins it")
    # Keys are made of manifests and locks alone: nothing has to be looked up for them.
    store = Store(home / "leaving" / "nothing")
    project = find_project(root, root)
    for name in project.own_releases:
        try:
            plan = make_plan(
                subject(project, project.release(name), site, dist=dist), STAGES, store
            )
        except RelforgeError as error:
            # Its lock and its last run still count.
            found.warnings.append(
                f"{name} cannot be planned now, so what it would reuse is not known: {error.what}"
            )
            continue
        found.keep(_keys(plan.output.stages), f"the plan of {name} reuses it")


def _keys(stages: Iterable[Any]) -> Iterator[Key]:
    for stage in stages:
        if stage.key is not None:
            yield stage.name, stage.key


def of_runs(found: Roots) -> Mapping[str, Run]:
    """The runs that may go."""
    return {name: run for name, run in found.all_runs.items() if name not in found.runs}
