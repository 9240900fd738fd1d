"""What the weights tests share: a model from a hub, planned and run as a release's first stage."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relforge.cancel import CancelToken
from relforge.events import StageLine
from relforge.evidence.store import Store
from relforge.executor.local import LocalExecutor
from relforge.manifest.model import Model
from relforge.manifest.site import Site
from relforge.plan import ReleasePlan, make_plan
from relforge.running.runner import Runner
from relforge.running.walk import Outcome
from relforge.stages.weights import Weights, WeightsResult

REVISION = "a" * 40


def pins(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """``weights.files`` of a manifest for these files."""
    return {
        path: {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        for path, data in files.items()
    }


def model(weights: Mapping[str, Any], name: str = "toy") -> Model:
    """A model manifest with these weights."""
    return Model.model_validate(
        {
            "kind": "model",
            "name": name,
            "title": name,
            "summary": "A model of the tests.",
            "license": "MIT",
            "license_source": "the test",
            "architecture": "Toy",
            "parameters": 1,
            "precision": "float32",
            "weights": dict(weights),
        }
    )


def from_hub(kind: str, files: Mapping[str, bytes], /, **changes: Any) -> dict[str, Any]:
    """The ``weights`` of a model that lies on a hub as ``o/m``."""
    weights = {"kind": kind, "repository": "o/m", "revision": REVISION, "files": pins(files)}
    return {**weights, **changes}


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name
        self.limits: dict[str, Any] = {}


@dataclass
class Toy:
    """As much of a release as planning weights reads."""

    model: Model
    site: Site
    root: Path

    @property
    def release(self) -> _Named:
        return _Named(f"{self.model.name}-toy_x1")

    @property
    def project(self) -> Any:
        from relforge.manifest.project import Project

        return Project((self.root,))


def planned(home: Path, toy: Toy) -> ReleasePlan:
    subject: Any = toy
    return make_plan(subject, (Weights(),), Store(home))


def run(home: Path, toy: Toy, cancel: CancelToken | None = None) -> tuple[Outcome, list[str]]:
    """One run of the stage, and the lines of its log."""
    lines: list[str] = []
    runner = Runner(
        home=home,
        executor=LocalExecutor(),
        site=toy.site,
        dist=home / "dist",
        cancel=cancel or CancelToken(),
        listeners=(lambda e: lines.append(e.text) if isinstance(e, StageLine) else None,),
    )
    return runner.run(planned(home, toy), (Weights(),), "relforge release"), lines


def result_of(outcome: Outcome) -> WeightsResult:
    """The stage's result; the run must have ended well."""
    assert outcome.error is None, str(outcome.error)
    result = outcome.results["weights"]
    assert isinstance(result, WeightsResult)
    return result


def served(result: WeightsResult) -> dict[str, bytes]:
    """What lies in the folder that a server gets."""
    return {
        str(path.relative_to(result.folder)): path.read_bytes()
        for path in sorted(result.folder.rglob("*"))
        if not path.is_dir()
    }


def as_process(home: Path, weights: Mapping[str, Any], site: Site) -> list[str]:
    """The argv of a process that runs the stage in *home*, as one that may be killed."""
    words = [sys.executable, "-m", "tests.support.weights", str(home), json.dumps(dict(weights))]
    return [*words, site.model_dump_json()]


if __name__ == "__main__":
    made = Toy(
        model(json.loads(sys.argv[2])), Site.model_validate_json(sys.argv[3]), Path(sys.argv[1])
    )
    ended, _ = run(Path(sys.argv[1]), made)
    sys.exit(ended.entry.exit_code)
