"""The real image against the model's PyTorch reference: each verdict, from a project copy.

That a clean build is non-inferior on 1,000 questions, the release that quickstart made shows.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import CHECKOUT, Result, relforge, site_settings, write_site
from tests.support.perturbing import perturb

pytestmark = pytest.mark.timeout(600)
RELEASE = "tiny-adder-cpu_x86"
NOISE = 0.17
"""Of each matrix's own deviation: the model loses some 20 points."""


def copied(tmp_path: Path, *folders: str) -> Path:
    """A project of its own with these folders; what it has not is the built-in project's."""
    project = tmp_path / "project"
    for folder in folders:
        shutil.copytree(CHECKOUT / folder, project / folder)
    return project


def edit(path: Path, **changes: Any) -> None:
    content = yaml.safe_load(path.read_text())
    for name, value in changes.items():
        if value is None:
            content.pop(name)
        elif isinstance(value, dict) and isinstance(content.get(name), dict):
            content[name] |= value
        else:
            content[name] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def evaluated(project: Path, tmp_path: Path, verb: str = "eval") -> tuple[Result, dict[str, Any]]:
    """The command, and the evaluation's result of its run."""
    # Its home is quickstart's: the image is there, and nothing is built again.
    site = write_site(tmp_path / "site.yaml", dist=str(tmp_path / "dist"))
    done = relforge(verb, "--project", project, "--release", RELEASE, "--site", site, "--json")
    run = Path(site_settings()["home"]) / "runs" / done.json["run"]
    assert {s["name"]: s["status"] for s in done.json["stages"]}["build"] == "reused"
    return done, json.loads((run / RELEASE / "results" / "evaluate.json").read_text())


def test_a_clean_build_is_non_inferior(record: dict[str, Any]) -> None:
    (task,) = record["results"]["evaluate"]["tasks"]
    assert (task["n"], task["margin_points"], task["basis"]) == (1000, 2, "measured")
    assert task["conclusion"] == "non-inferior"
    assert task["interval_points"][0] > -2
    assert record["verdicts"]["evaluate"] == "pass"


def test_thirty_questions_decide_nothing(tmp_path: Path) -> None:
    # With weights of its own, the shared home would know those of quickstart as another folder's.
    project = copied(tmp_path, "manifests")
    manifest = project / "manifests" / "releases" / f"{RELEASE}.yaml"
    edit(manifest, evaluation={"questions": 30})
    done, result = evaluated(project, tmp_path, "release")
    assert done.code == 6, done.stderr
    assert "inconclusive" in done.stderr
    (task,) = result["tasks"]
    assert (task["n"], task["conclusion"], result["verdict"]) == (30,) + ("inconclusive",) * 2
    assert task["n_to_decide"] > 30
    assert f"n = {task['n_to_decide']} would decide it" in done.stderr
    assert not (tmp_path / "dist").exists(), "nothing is published that no gate let through"


def test_weights_that_lost_ten_points_are_inferior(tmp_path: Path) -> None:
    project = copied(tmp_path, "manifests", "dockerfiles", "patches", "examples")
    weights = project / "examples" / "tiny-adder" / "model.safetensors"
    perturb(weights, noise=NOISE)
    model = project / "manifests" / "models" / "tiny-adder.yaml"
    pinned = yaml.safe_load(model.read_text())["weights"]
    pinned["files"]["model.safetensors"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    # The smoke test compares texts with the model's own reference, and would end here. Without
    # one it looks at the server alone; the evaluation names its reference itself.
    edit(model, weights=pinned, reference=None)
    manifest = project / "manifests" / "releases" / f"{RELEASE}.yaml"
    declared = yaml.safe_load(manifest.read_text())["evaluation"]
    asked = {
        "task": declared["task"],
        "questions": 1000,
        "margin_points": 2,
        "reference": "tiny-adder-pytorch",
    }
    edit(manifest, evaluation=None)
    edit(manifest, evaluation={"concurrency": 16, "tasks": [asked]})
    done, result = evaluated(project, tmp_path, "release")
    assert done.code == 6, done.stderr
    assert "inferior" in done.stderr
    (found,) = result["tasks"]
    assert (found["conclusion"], result["verdict"]) == ("inferior", "fail")
    assert found["difference_points"] < -10
    assert found["interval_points"][1] < -2
    assert not (tmp_path / "dist").exists(), "nothing is published that failed a gate"
