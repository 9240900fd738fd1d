"""``relforge bench compare`` refuses what it could not answer before it starts a server."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from relforge.benching.comparing import BenchComparison, Rules
from relforge.checking import rules as check_rules
from relforge.cli.dispatch import dispatch
from relforge.manifest.project import builtin_root, find_project
from relforge.manifest.schema import models

RELEASE = "tiny-adder-cpu_x86"


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    site = tmp_path / "site.yaml"
    # A socket that is not there: whatever reaches for the engine fails otherwise than asserted.
    site.write_text(f"kind: site\nhome: {tmp_path}\nengine: {{host: 'unix://{tmp_path}/no'}}\n")

    def run(*words: str) -> Said:
        code = dispatch(
            "bench",
            ["compare", *words, "--project", str(builtin_root()), "--site", str(site)],
        )
        return Said(code, *capsys.readouterr())

    return run


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "it is not clear what B is"),
        (("--with", "serve.port=1", "--image-b", "x"), "it is not clear what B is"),
        (("--image-a", "x"), "it is not clear what B is"),
        (("--with", "serve.port=1", "--concurrency", "3"), "no level with 3 requests"),
        (("--with", "serve.port=1", "--metric", "speed"), "there is no figure 'speed'"),
        (("--with", "serve.port=1", "--margin", "nan"), "a margin of nan % is none"),
        (("--with", "serve.port=1", "--margin", "0"), "a margin of 0 % is none"),
        (("--with", "port=1", "--image-a", "x"), "not serve.FIELD=VALUE"),
        (("--with", "serve.args.max-num-seqs=4"), f"{RELEASE} is not built here"),
        (("--other-release", "nobody", "--image-a", "x"), "nobody"),
        (("--other-release", "deepseek-r1-nvidia_h100-sglang", "--image-a", "x"),
         "is not served by one vLLM server"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_first(
    said: Any, words: tuple[str, ...], error: str
) -> None:
    got = said("--release", RELEASE, *words)
    assert (got.code, got.out) == (2, "")
    assert error in got.err
    assert "Traceback" not in got.err


def test_a_release_without_a_load_is_refused(said: Any) -> None:
    got = said("--release", "tiny-adder-cpu_x86-dp2", "--image-b", "x")
    assert got.code == 2
    assert "declares no benchmark" in got.err


def test_the_command_in_the_docs_gets_as_far_as_the_image(said: Any) -> None:
    text = (builtin_root() / "docs" / "benchmarks.md").read_text()
    (command,) = re.findall(r"^relforge bench compare (.*)$", text, re.MULTILINE)
    got = said(*shlex.split(command))
    assert got.code == 2
    assert f"{RELEASE} is not built here" in got.err


def test_fewer_than_three_blocks_are_no_comparison(said: Any) -> None:
    assert said("--release", RELEASE, "--image-b", "x", "--blocks", "2").code == 2


def test_a_load_that_does_not_fit_in_the_context_is_a_contradiction() -> None:
    project = find_project(builtin_root())
    release = project.release(RELEASE)
    assert release.bench is not None

    def found(**changes: Any) -> list[str]:
        bench = release.bench and release.bench.model_copy(update=changes)
        altered = release.model_copy(update={"bench": bench, "skip": changes.pop("skip", {})})
        device, model = project.device("cpu_x86"), project.model("tiny-adder")
        return [one.what for one in check_rules.of_release(altered, device, model)]

    assert found() == []
    assert found(input_tokens=224) == []
    assert found(input_tokens=225) == ["225 + 32 tokens do not fit in the context"]
    assert found(skip={"bench": "no time"}) == ["a benchmark is declared and skipped"]


def test_the_json_is_what_its_schema_says() -> None:
    from relforge.benching.comparing import MetricRatio, Run, Side
    from relforge.benching.deciding import Ratio
    from relforge.benching.output import output, text
    from tests.support.benching import BENCH, LEVELS, report

    measured = report()
    side = Side(
        label="a label", release=RELEASE, image_id="sha256:" + "ab" * 32, start_to_ready_s=1.0,
        memory_peak_bytes=None, settings=measured.settings,
    )  # fmt: skip
    comparison = BenchComparison(
        conclusion="slower",
        rules=Rules(bench=BENCH, level=LEVELS[2], metric="output_tokens_per_s", confidence=0.95,
                    margin_percent=5, most_blocks=12, order_seed=1),
        looks=(3, 5, 8, 12), blocks=3, machine=measured.machine, a=side, b=side,
        metrics=(
            MetricRatio(name="output_tokens_per_s", a=2000.0, b=1000.0, higher_is_better=True,
                        b_over_a=Ratio(ratio=0.5, low=0.45, high=0.55)),
            MetricRatio(name="ttft_mean_ms", a=50.0, b=100.0, higher_is_better=False,
                        b_over_a=Ratio(ratio=2.0, low=1.9, high=2.1)),
        ),
        runs=(Run(block=0, side="a", file="000-a.json", level=measured.levels[2]),),
    )  # fmt: skip
    got = output(comparison, "/evidence").model_dump(mode="json")
    jsonschema.validate(got, models()["bench-compare-output"].model_json_schema())
    assert (got["conclusion"], got["ratio"], got["interval"]) == ("slower", 0.5, [0.45, 0.55])
    shown = text(comparison)
    assert "| ttft_mean_ms | 50.00 | 100.00 | 2.000 | 1.900 to 2.100 |" in shown
    assert shown.splitlines()[-1] == (
        "B is slower than A: output_tokens_per_s decides, with a margin of 5 %, after 3 blocks of "
        "4 runs (100 requests at 16 at a time each)."
    )
    assert BenchComparison.model_validate(json.loads(comparison.model_dump_json())) == comparison
