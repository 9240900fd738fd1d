"""JUnit XML and step summaries: nothing that was not done is passed, nothing secret is told."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import junitparser
import pytest

from relforge import redact
from relforge.checking.report import CheckReport, Fault, NotRun, Open
from relforge.ci.junit import junit_xml
from relforge.ci.report import (
    Case,
    Report,
    Suite,
    of_check,
    of_deliveries,
    of_error,
    of_release,
    of_verify,
)
from relforge.ci.summary import MOST_BYTES, summary
from relforge.cli.dispatch import dispatch
from relforge.cli.reporting import telling
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.evidence.runs import ReleaseRun, StageEntry
from relforge.publishing.delivering import DeliveryReport, TargetOutcome
from relforge.verifying.report import Finding, VerifyReport
from tests.support.fleet import make_project

STAGES = ["preflight", "build", "smoke", "evaluate", "publish"]
SECRET = "hunter2-hunter2"


def entry(name: str, status: str, verdict: str | None = None, detail: str = "") -> StageEntry:
    return StageEntry.model_validate(
        {"name": name, "status": status, "seconds": 1.5, "verdict": verdict, "detail": detail}
    )


ALLOWED = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
    "properties": set[str](),
    "property": {"name", "value"},
    "testcase": {"name", "classname", "time"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message", "type"},
    "system-out": set[str](),
}
"""Elements and attributes that Jenkins' schema (junit-10.xsd) has, those that are written."""
INNER = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase"},
    "properties": {"property"},
    "testcase": {"failure", "error", "skipped", "system-out"},
}
REQUIRED = {"testsuite": {"name", "tests", "failures", "errors"}, "testcase": {"name"}}


def fits_the_format(data: bytes) -> None:
    """Raises AssertionError for what a strict reader refuses."""
    root = ET.fromstring(data)
    assert root.tag == "testsuites"
    for one in root.iter():
        assert set(one.attrib) <= ALLOWED[one.tag], one.attrib
        assert set(one.attrib) >= REQUIRED.get(one.tag, set()), one.attrib
        assert {inner.tag for inner in one} <= INNER.get(one.tag, set())
        if "time" in one.attrib:
            assert re.fullmatch(r"[0-9]+(\.[0-9]{0,3})?", one.attrib["time"]), one.attrib


def states(suite: Suite) -> dict[str, str]:
    return {one.name: one.state for one in suite.cases}


def parsed(*suites: Suite) -> junitparser.JUnitXml:
    data = junit_xml(Report(title="t", suites=suites))
    fits_the_format(data)
    return junitparser.JUnitXml.fromstring(data)


def test_times_that_do_not_add_up_in_binary_are_written_in_milliseconds() -> None:
    cases = tuple(Case(name=str(n), state="passed", seconds=0.1) for n in range(3))
    found = list(parsed(Suite(name="s", cases=cases), Suite(name="t", cases=cases)))
    assert [one.time for one in found] == [0.3, 0.3]


GATE = RelforgeError(
    "smoke: fail", code=ExitCode.GATE, where="a container", why="no answer", hint="read the log"
)


def test_a_failed_gate_and_what_was_not_reached() -> None:
    run = ReleaseRun(
        release="r",
        state="failed",
        exit_code=6,
        error=str(GATE),
        stages=(
            entry("preflight", "ran"),
            entry("build", "reused", detail="sha256:1"),
            entry("smoke", "failed", "fail", "no answer"),
        ),
    )
    suite = of_release(run, STAGES, error=GATE, digest="sha256:1")
    assert states(suite) == {
        "preflight": "passed",
        "build": "passed",
        "smoke": "failed",
        "evaluate": "skipped",
        "publish": "skipped",
    }
    (found,) = parsed(suite)
    assert (found.tests, found.failures, found.errors, found.skipped) == (5, 1, 0, 2)
    assert found.time == pytest.approx(4.5)
    smoke = next(one for one in found if one.name == "smoke")
    (failure,) = smoke.result
    assert isinstance(failure, junitparser.Failure)
    assert failure.message == "fail: no answer"
    assert failure.text.split("\n") == [
        "smoke: fail", "where: a container", "why: no answer", "next: read the log",
    ]  # fmt: skip
    late = next(one for one in found if one.name == "evaluate")
    assert "not reached" in late.result[0].message


def test_not_run_and_not_needed_are_never_passed() -> None:
    run = ReleaseRun(
        release="r",
        state="done",
        exit_code=0,
        stages=(
            entry("preflight", "ran"),
            entry("build", "ran"),
            entry("smoke", "ran", "not-run", "no accelerator here"),
            entry("evaluate", "skipped", detail="not-needed: no evaluation is declared"),
            entry("publish", "ran", "pass"),
        ),
    )
    suite = of_release(run, STAGES)
    assert states(suite)["smoke"] == states(suite)["evaluate"] == "skipped"
    (found,) = parsed(suite)
    messages = [one.result[0].message for one in found if one.result]
    assert messages == [
        "not-run: no accelerator here", "not-needed: no evaluation is declared",
    ]  # fmt: skip
    assert (found.tests, found.skipped, found.failures, found.errors) == (5, 2, 0, 0)


@pytest.mark.parametrize("verdict", ["fail", "inconclusive"])
def test_an_inconclusive_gate_fails_too(verdict: str) -> None:
    run = ReleaseRun(
        release="r", state="failed", exit_code=6, stages=(entry("smoke", "failed", verdict),)
    )
    assert states(of_release(run, ["smoke"]))["smoke"] == "failed"


def test_what_could_not_be_done_is_an_error() -> None:
    broken = RelforgeError("no engine", code=ExitCode.ENVIRONMENT, hint="start one")
    run = ReleaseRun(
        release="r",
        state="failed",
        exit_code=3,
        error=str(broken),
        stages=(entry("preflight", "failed", detail="no engine"),),
    )
    (found,) = parsed(of_release(run, STAGES, error=broken))
    assert (found.errors, found.failures, found.skipped) == (1, 0, 4)


@pytest.mark.parametrize("state", ["failed", "interrupted", "killed"])
def test_a_release_that_ended_between_stages_is_not_passed(state: Any) -> None:
    """Not planned, interrupted, or not sent."""
    run = ReleaseRun(release="r", state=state, exit_code=2, error="no lock\nwhere: here")
    suite = of_release(run, STAGES)
    assert states(suite)["release"] == "error"
    assert suite.bad[0].why == "no lock"


def test_targets_are_cases_of_their_release() -> None:
    sent = [
        TargetOutcome(target="hub", step="candidate", place="p", state="done"),
        TargetOutcome(
            target="git", step="candidate", place="q", state="failed", error="refused",
            where="q", hint="log in", exit_code=7,
        ),
        TargetOutcome(target="hub", step="promote", place="p", state="not-done"),
    ]  # fmt: skip
    run = ReleaseRun(
        release="r", state="failed", exit_code=7, stages=(entry("publish", "ran", "pass"),)
    )
    suite = of_release(run, ["publish"], sent=sent)
    told = {
        "publish": "passed",
        "candidate hub": "passed",
        "candidate git": "error",
        "promote hub": "skipped",
    }
    assert states(suite) == told
    report = DeliveryReport(release="r", image_digest="sha256:" + "0" * 64, outcomes=tuple(sent))
    (alone,) = of_deliveries([report])
    del told["publish"]
    assert states(alone) == told
    assert alone.bad[0].details == "refused\nwhere: q\nnext: log in"


def test_a_project_that_was_checked() -> None:
    report = CheckReport(
        checked=("device a", "release b", "lock of c"),
        faults=(
            Fault(subject="release b", where="b.yaml:3:1", message="wrong", hint="mend it"),
            Fault(subject="release b", where="b.yaml:9:1", message="also", hint=None),
            Fault(subject="template x", where=None, message="bad line", hint=None),
        ),
        open=(Open(subject="lock of c", where=None, what="not resolved: x", remedy="lock it"),),
        not_run=(NotRun(look="hadolint", reason="not installed", remedy="pip install"),),
    )
    suite = of_check(report)
    assert states(suite) == {
        "device a": "passed",
        "release b": "failed",
        "lock of c": "skipped",
        "template x": "failed",
        "hadolint": "skipped",
    }
    details = {one.name: one.details for one in suite.cases}
    assert details["release b"] == "b.yaml:3:1: wrong\nnext: mend it\nb.yaml:9:1: also"


def test_a_release_that_was_verified() -> None:
    report = VerifyReport(
        folder="dist/r",
        verdict="fail",
        checks=(
            Finding(check="signature", verdict="pass", reason="signed by a"),
            Finding(
                check="card",
                verdict="fail",
                reason="altered",
                meaning="do not use",
                next="get it",
            ),
            Finding(check="policy", verdict="not-run", reason="none was named"),
        ),
    )
    suite = of_verify(report)
    assert states(suite) == {"signature": "passed", "card": "failed", "policy": "skipped"}
    assert suite.bad[0].details == "altered\ndo not use\nnext: get it"


def test_signs_that_xml_cannot_have_and_markup() -> None:
    text = "\x1b[31mred\x1b[0m <b> & ]]> \ud800 \x00 | `code` **bold** @team"
    case = Case(name=text, state="error", why=text, details=text)
    data = junit_xml(Report(title="t", suites=(Suite(name=text, cases=(case,)),)))
    fits_the_format(data)
    (suite,) = ET.fromstring(data)
    assert "\N{REPLACEMENT CHARACTER}[31mred" in suite.attrib["name"]
    assert "<b> & ]]>" in suite.attrib["name"]
    told = summary(Report(title="t", suites=(Suite(name=text, cases=(case,)),)))
    for sign in ("<b>", "`", "**bold", "@team", "| `"):
        assert sign not in told.replace("**&#", "")


def test_a_summary_begins_with_what_failed_and_is_never_too_long() -> None:
    good = [Suite(name=f"good-{n}", cases=(Case(name="a", state="passed"),)) for n in range(2000)]
    bad = Suite(
        name="bad", cases=(Case(name="a", state="failed", why="why", details="x\n" * 900_000),)
    )
    told = summary(Report(title="relforge build", suites=(*good, bad)))
    assert len(told.encode()) <= MOST_BYTES + 100
    assert told.startswith("### relforge build: 1 of 2001 failed\n")
    assert told.index("| bad |") < told.index("| good-0 |")
    assert "1501 more" in told
    assert told.endswith("The rest is in the job's log.\n")


def test_secrets_and_folders_of_the_host_are_not_told(tmp_path: Path) -> None:
    redact.register(SECRET)
    error = RelforgeError(
        f"refused {SECRET}", code=ExitCode.PUBLISH, where=f"{tmp_path}/home/runs/1", why=SECRET
    )
    junit, told = tmp_path / "j.xml", tmp_path / "s.md"

    def fails() -> None:
        with telling("relforge promote", junit, told) as telling_:
            telling_.prefixes[f"{tmp_path}/home/"] = "<home>/"
            raise error

    with pytest.raises(RelforgeError):
        fails()
    for file in (junit, told):
        text = file.read_text()
        assert SECRET not in text
        assert str(tmp_path) not in text
        assert "refused [redacted]" in text.replace("&#91;", "[")
    (suite,) = junitparser.JUnitXml.fromfile(str(junit))
    assert suite.errors == 1


@pytest.mark.parametrize("error", [Cancelled("SIGTERM"), KeyError("bug"), KeyboardInterrupt()])
def test_whatever_ends_a_command_is_an_error(tmp_path: Path, error: BaseException) -> None:
    junit = tmp_path / "j.xml"

    def ends() -> None:
        with telling("relforge build", junit, None):
            raise error

    with pytest.raises(type(error)):
        ends()
    (suite,) = junitparser.JUnitXml.fromfile(str(junit))
    assert (suite.tests, suite.errors) == (1, 1)
    assert of_error("t", error).bad


def test_a_report_that_cannot_be_written_hides_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")

    def fails() -> None:
        with telling("relforge build", tmp_path / "file" / "j.xml", None):
            raise GATE

    with pytest.raises(RelforgeError, match="smoke: fail"):
        fails()
    assert "warning: cannot write j.xml" in capsys.readouterr().err


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    make_project(root, 2, 2)
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return root


def test_check_reports_in_both_forms(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = tmp_path / "step.md"
    step.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    junit = tmp_path / "check.xml"
    words = ["--project", str(project), "--junit", str(junit)]
    assert dispatch("check", words) == 0
    (suite,) = junitparser.JUnitXml.fromfile(str(junit))
    assert suite.failures == 0
    assert "release model-0-chip_0" in [one.name for one in suite]
    release = project / "manifests" / "releases" / "model-0-chip_0.yaml"
    release.write_text(release.read_text().replace("engine: vllm", "engine: none"))
    assert dispatch("check", words) == 2
    (suite,) = junitparser.JUnitXml.fromfile(str(junit))
    assert suite.failures
    text = junit.read_text()
    assert "manifests/releases/model-0-chip_0.yaml:" in text
    assert str(project) not in text
    told = step.read_text()
    assert told.startswith("before\n### relforge check: ")
    assert told.count("### relforge check: ") == 2
    assert "1 of 1 failed" in told
    other = tmp_path / "other.md"
    assert dispatch("check", [*words, "--summary", str(other)]) == 2
    assert other.read_text().startswith("### relforge check: 1 of 1 failed")
    assert step.read_text() == told


def test_a_build_that_cannot_begin_reports_it(project: Path, tmp_path: Path) -> None:
    junit = tmp_path / "build.xml"
    words = ["--project", str(project), "--junit", str(junit)]
    assert dispatch("build", [*words, "--release", "none"]) == 2
    (suite,) = junitparser.JUnitXml.fromfile(str(junit))
    assert suite.errors == 1
    assert "unknown release" in junit.read_text()
    for name in ("model-0-chip_0", "model-0-chip_1"):
        (project / "manifests" / "releases" / f"{name}.lock.yaml").unlink()
    assert dispatch("build", [*words, "--all"]) == 2
    suites = list(junitparser.JUnitXml.fromfile(str(junit)))
    assert [one.name for one in suites] == ["model-0-chip_0", "model-0-chip_1"]
    assert [one.errors for one in suites] == [1, 1]
    assert all(one.tests == one.errors + one.skipped for one in suites)


def test_the_matrix_is_in_the_step_summary(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = tmp_path / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    assert dispatch("plan", ["--all", "--matrix", "--project", str(project)]) == 0
    jobs = json.loads(capsys.readouterr().out)["include"]
    assert len(jobs) == 2
    assert step.read_text().startswith("### 2 jobs\n")
