"""The sbom stage as a plan sees it, and what its page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.evidence.store import Miss, Store
from relforge.manifest.project import builtin_root, find_project
from relforge.manifest.publishing import LicensePolicy, PublishSite
from relforge.manifest.site import Site
from relforge.pipeline import STAGES
from relforge.plan import ReleasePlan, make_plan, subject
from relforge.sbom import syft
from relforge.sbom.policy import Rules
from relforge.sbom.syft import Syft
from relforge.stages.sbom import _FILES, Sbom, SbomInputs, SbomResult
from tests.unit.test_coverage_stage import changed

ROOT = builtin_root()
REAL = "tiny-adder-cpu_x86"
PAGE = (Path(__file__).parents[2] / "docs" / "sbom.md").read_text(encoding="utf-8")


def planned(home: Path, site: Site | None = None) -> ReleasePlan:
    project = find_project(ROOT)
    return make_plan(subject(project, project.release(REAL), site or Site()), STAGES, Store(home))


def key(plan: ReleasePlan, name: str = "sbom") -> str | None:
    return next(stage.key for stage in plan.stages if stage.name == name)


def forbidding(*names: str) -> Site:
    return Site(publish=PublishSite(licenses=LicensePolicy(forbidden=names)))


def test_tool_and_policy_are_in_the_key_and_in_no_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syft, "find", lambda: Syft(Path("/syft"), "1.18.1"))
    here, stricter = planned(tmp_path), planned(tmp_path, forbidding("AGPL-3.0-only"))
    assert key(here) != key(stricter)
    assert key(here, "build") == key(stricter, "build")
    assert key(here, "coverage") == key(stricter, "coverage")
    assert key(here, "card") != key(stricter, "card"), "the card quotes it"
    monkeypatch.setattr(syft, "find", lambda: Syft(Path("/elsewhere"), "1.18.1"))
    assert key(planned(tmp_path)) == key(here)
    monkeypatch.setattr(syft, "find", lambda: Syft(Path("/syft"), "2.0"))
    assert key(planned(tmp_path)) != key(here)


def test_what_was_not_run_runs_once_syft_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syft, "find", lambda: "syft is not installed")
    without = planned(tmp_path)
    inputs: Any = without.inputs["sbom"]
    assert Sbom().resources(inputs).memory_bytes == 0
    store = Store(tmp_path)
    missing = key(without)
    assert missing is not None
    store.save(
        stage="sbom", key=missing, inputs=inputs, seconds=0, run_id="r",
        result=SbomResult(verdict="not-run", reason="syft is not installed"),
    )  # fmt: skip
    assert not isinstance(store.lookup("sbom", missing), Miss)
    assert next(s.status for s in planned(tmp_path).stages if s.name == "sbom") == "reuse"
    monkeypatch.setattr(syft, "find", lambda: Syft(Path("/syft"), "1.18.1"))
    there = planned(tmp_path)
    assert next(s.status for s in there.stages if s.name == "sbom") == "run"
    found = there.inputs["sbom"]
    assert isinstance(found, SbomInputs)
    assert found.tool == "syft 1.18.1"
    assert Sbom().resources(found).disk_bytes > 10**9


def test_a_manifest_can_go_without(tmp_path: Path) -> None:
    project = changed(tmp_path, {"skip": {"sbom": "it comes with its own"}})
    plan = make_plan(
        subject(project, project.release(REAL), Site()), STAGES, Store(tmp_path / "home")
    )
    assert next(s.because for s in plan.stages if s.name == "sbom") == (
        "not-needed: it comes with its own"
    )
    card: Any = plan.inputs["card"]
    assert card.skipped["sbom"] == "it comes with its own"


def test_the_page_names_the_files_and_its_policy_is_one() -> None:
    named = re.findall(r"^\| `([a-z.]+\.json)` \|", PAGE, re.MULTILINE)
    assert tuple(named) == _FILES
    example = next(block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
                   if "forbidden" in block)  # fmt: skip
    site = Site.model_validate({"kind": "site", **yaml.safe_load(example)})
    policy = site.publish.licenses
    assert policy.allowed_packages == {"some-tool": "a commercial licence was bought"}
    by_identifier = [rule.text for rule in Rules(policy).rules if rule.words is None]
    assert by_identifier == ["AGPL-3.0-only", "SSPL-1.0"]
