"""Cards quote what was recorded, leave out what was not, and are the same bytes each time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.building.inputs import BuiltPackage
from relforge.card.gather import gather
from relforge.card.model import CardData, Language
from relforge.card.parts.material import Material
from relforge.card.render import render
from relforge.card.words import words_of
from relforge.coverage.summary import CoverageRow
from relforge.engine.containers import ContainerState
from relforge.evaluation.figures import Figures
from relforge.evaluation.oddities import Oddities
from relforge.files import Output
from relforge.lock import Lock
from relforge.manifest.loader import load
from relforge.manifest.project import builtin_root, find_project
from relforge.serving.reference import GreedyText
from relforge.serving.report import ProbeResult, SmokeReport
from relforge.stages.attest import Signed
from relforge.stages.build import BuildResult
from relforge.stages.sbom import SbomResult
from relforge.stages.smoke import SmokeResult
from tests.support import benching

ROOT = builtin_root()
DIGEST = "sha256:" + "ab" * 32
SIGNED = Signed(keyid="c0" * 32, algorithm="ECDSA P-256", public_pem="")


def build() -> BuildResult:
    return BuildResult(
        layout=Path("/layout"), image_name="relforge/tiny:1", image_digest=DIGEST,
        config_digest="sha256:" + "cd" * 32, compressed_bytes=600_000_000,
        unpacked_bytes=2_300_000_000, architecture="amd64", created="2026-01-01T00:00:00Z",
        labels={}, layers=(), base_how="bootstrap", base_digest="sha256:" + "ef" * 32,
        packages=(
            BuiltPackage(source="vllm", distribution="vllm", tree="1" * 40, native="precompiled",
                         native_from="kernels.whl (sha256 00)"),
            BuiltPackage(source="flag_gems", distribution="flag_gems", tree="2" * 40,
                         native="prebuilt"),
        ),
        python="3.11.2", python_packages={"torch": "2.13.0+cpu"}, debian_packages={},
        pip_check=(), rebuild="",
    )  # fmt: skip


def smoke(**changes: Any) -> SmokeResult:
    report: dict[str, Any] = {
        "verdict": "pass", "reason": "1 of 1 probes passed, none failed", "cause": None,
        "probes": (ProbeResult(name="health", verdict="pass", reason="", seconds=1),),
        "start_to_ready_s": 49.4, "first_token_ms": 53.0, "tokens_per_s": 60.0,
        "memory_peak_bytes": None, "state": ContainerState(status="running"),
        "image_id": DIGEST, "config_digest": None, "server_log": Path("/log"),
    }  # fmt: skip
    return SmokeResult(
        verdict="pass", report=SmokeReport(**{**report, **changes}),
        sample=GreedyText(prompt="48+76=", max_tokens=8, text="124"),
    )  # fmt: skip


def sbom(**changes: Any) -> SbomResult:
    outputs = tuple(
        Output(path=Path(f"/{n}"), sha256="0" * 64, size_bytes=1, mtime_ns=1, inode=1)
        for n in range(3)
    )
    made: dict[str, Any] = {
        "verdict": "pass", "packages": {"deb": 120, "python": 166}, "outputs": outputs,
        "python_licences": {"torch": "BSD-3-Clause", "vllm": "Apache-2.0"},
    }  # fmt: skip
    return SbomResult(**{**made, **changes})


FIGURES = Figures(
    task="additions", n=1000, reference_correct=936, result_correct=935, reference_percent=93.6,
    result_percent=93.5, only_reference=3, only_result=2, difference_points=-0.1,
    interval_points=(-0.6, 0.4), confidence=0.95, margin_points=2, conclusion="non-inferior",
    tool="lm-eval", tool_version="0.4.13", n_to_decide=None, p_non_inferior=0.01, p_inferior=0.99,
    metric="exact_match", basis="measured", reference="reference.json", held="non-inferior",
    odd=Oddities(empty=0, cut=0),
)  # fmt: skip


def card_of(*evaluation: Figures, **changes: Any) -> CardData:
    project = find_project(ROOT)
    lock = load(ROOT / "manifests/releases/tiny-adder-cpu_x86.lock.yaml", Lock)
    given: dict[str, Any] = {
        "release": project.release("tiny-adder-cpu_x86"), "device": project.device("cpu_x86"),
        "model": project.model("tiny-adder"), "sources": lock.sources, "patches": lock.patches,
        "trees": {n: lock.tree(n) for n in lock.sources}, "lock_sha256": "9" * 64,
        "build": build(), "smoke": smoke(), "evaluation": evaluation,
        "why_not": {"sbom": "relforge has no bill of materials yet"},
    }  # fmt: skip
    return gather(Material(**{**given, **changes}))


def card(*evaluation: Figures, language: Language = "en", **changes: Any) -> str:
    words = words_of(language, find_project(ROOT).translations(language))
    text = render(card_of(*evaluation, **changes), words)
    assert not words.missing, "wordings without a translation"
    assert not words.untranslated
    return text


def test_the_figures_are_those_of_the_evidence() -> None:
    text = card(FIGURES)
    row = next(line for line in text.splitlines() if line.startswith("| additions (exact_match) |"))
    assert "| 1000 | 93.60 % (936) | 93.50 % (935) | -0.10 | -0.60 to +0.40 | non-inferior |" in row
    assert "3 were answered correctly by the reference alone, 2 by this image alone" in text
    assert f"`{DIGEST}`" in text
    assert "| Start to ready | 49 s |" in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_signed_release_says_whose_key_and_how_to_check(language: Language) -> None:
    here = card(language=language, signed=SIGNED)
    name = {"en": "Signature", "zh": "签名"}[language]
    (row,) = (line for line in here.splitlines() if line.startswith(f"| {name} |"))
    assert "ECDSA P-256" in row
    assert row.endswith(f"`{SIGNED.keyid}` |")
    assert f"release.dsse.json image/blobs/sha256/{DIGEST[7:]}" in here
    there = card(language=language, signed=SIGNED, registry="registry.example.org/team/tiny")
    assert f"\n  registry.example.org/team/tiny@{DIGEST}\nrelforge verify . --key" in there
    assert "cosign verify --key maker.pub.pem" in there
    assert "maker.pub.pem" not in card(language=language)


def test_what_was_not_measured_is_left_out() -> None:
    text = card(smoke=smoke(start_to_ready_s=None, first_token_ms=None, tokens_per_s=None))
    assert "Start to ready" not in text
    assert "Memory" not in text
    assert "None" not in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_bar_in_what_a_manifest_says_does_not_end_a_cell(language: Language) -> None:
    project = find_project(ROOT)
    model = project.model("tiny-adder").model_copy(update={"title": "tiny | adder"})
    built = build().model_copy(update={"licenses": {"one": "MIT | Apache-2.0"}})
    data = card_of(model=model, build=built)
    rows = [
        line
        for line in render(data, words_of(language)).splitlines()
        if "tiny \\| adder" in line or "MIT \\| Apache-2.0" in line
    ]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [3, 3]


def test_several_tasks_and_what_is_only_reported() -> None:
    figure = FIGURES.model_copy(
        update={
            "task": "GSM8K", "basis": "reported", "reference": "paper", "reference_correct": None,
            "only_reference": None, "only_result": None, "from_earlier_runs": 300,
            "notes": ("2 answers are empty",),
        }
    )  # fmt: skip
    text = card(FIGURES, figure)
    assert "| additions (exact_match) | 1000 | 93.60 % (936) |" in text
    assert "| GSM8K (exact_match) | 1000 | 93.60 % (reported) | 93.50 % (935) |" in text
    assert "**GSM8K.** The reference `paper` is a reported figure" in text
    assert "**additions.** The same questions were put" in text
    assert "300 of the 1000 answers came before this run was interrupted" in text
    assert "Note: 2 answers are empty." in text
    assert "None" not in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_bill_of_materials_is_named_with_its_files(language: Language) -> None:
    built = build().model_copy(update={"licenses": {"torch": "BSD License"}})
    text = card(build=built, sbom=sbom(), language=language)
    row = next(line for line in text.splitlines() if "`evidence/sbom.spdx.json`" in line)
    assert "286" in row
    assert "`evidence/sbom.cdx.json`" in row
    assert "`evidence/licenses.json`" in text
    assert "| BSD-3-Clause | torch |" in text
    assert "BSD License" not in text, "what SPDX has an identifier for is named by it"


def test_without_syft_the_card_says_so_and_names_no_bill_of_materials() -> None:
    missing = SbomResult(verdict="not-run", reason="syft is not installed")
    text = card(sbom=missing)
    assert "- sbom: not run (syft is not installed)" in text
    assert "sbom.spdx.json" not in text
    assert "licenses.json" not in text


def test_without_an_evaluation_there_is_no_empty_section() -> None:
    text = card()
    assert "## Evaluation" not in text


def test_the_performance_is_that_of_the_report_with_its_chart_and_its_circumstances() -> None:
    report = benching.report()
    text = card(performance=report)
    assert "](evidence/bench.svg)" in text
    row = next(line for line in text.splitlines() if line.startswith("| 16 | "))
    level = report.levels[2].figures
    assert f"| {level.prompts} | {level.request_per_s:.2f} |" in row
    shown = " / ".join(f"{level.ttft.at(p):.1f}" for p in (50, 90, 99))
    assert f"| {shown} |" in row
    assert row.endswith(" 0.05 |")
    for said in ("A processor, 2 cores", "vLLM 0.32.0+cpu", "random prompts of about 64 tokens",
                 "answers of 8 tokens", "at most 2.4 GB of memory"):  # fmt: skip
        assert said in text
    assert "None" not in text
    assert "| |" not in text


def test_without_a_benchmark_there_is_no_performance() -> None:
    assert "Performance" not in card()
    assert "bench.svg" not in card()


def coverage(share: str) -> tuple[CoverageRow, ...]:
    return (
        CoverageRow(name="Dispatched", value="31 operators, 612 calls"),
        CoverageRow(name="Taken over", value=share),
    )


def test_operator_coverage_is_quoted_as_it_was_measured() -> None:
    text = card(coverage=coverage("86.4 % (19 of 22 that run kernels; 30 dispatched)"))
    assert "\n### Triton operators\n" in text
    assert "| Dispatched | 31 operators, 612 calls |" in text
    assert "| Taken over | 86.4 % (19 of 22 that run kernels; 30 dispatched) |" in text
    assert "coverage: not run" not in text


def test_without_an_accelerator_the_card_claims_no_share_of_operators() -> None:
    text = card(coverage=coverage("not-run (no accelerator)"))
    section = text.split("### Triton operators")[1].split("\n##")[0]
    assert "| Taken over | not-run (no accelerator) |" in section
    assert "%" not in section


def test_the_rows_of_operator_coverage_are_named_in_chinese() -> None:
    text = card(coverage=coverage("not-run (no accelerator)"), language="zh")
    assert "| 分发的算子 | 31 operators, 612 calls |" in text
    assert "| 接管 | " in text


def test_a_release_that_was_not_covered_says_why_and_has_no_section() -> None:
    text = card(why_not={"coverage": "this model runs on 2 hosts"})
    assert "| Taken over" not in text
    assert "- coverage: not run (this model runs on 2 hosts)" in text


def test_what_did_not_run_is_said() -> None:
    text = card(FIGURES)
    assert "- sbom: not run (relforge has no bill of materials yet)" in text
    assert "FlagGems is installed and not used" in text


def test_sealed_patch_sets_are_said_to_be_sealed() -> None:
    assert "sealed" not in card(FIGURES)
    assert "--key-path" not in card(FIGURES)
    text = card(sealed=frozenset({"vllm-0.32.0-cpu"}))
    assert "It comes from a sealed bundle." in text
    assert "relforge unpatch --release tiny-adder-cpu_x86 --key-path KEYS" in text
    assert "It comes from a sealed bundle" in card(sealed=frozenset({"vllm-0.32.0-cpu"}))


def test_commands_use_the_same_image_port_and_path_throughout() -> None:
    text = card(FIGURES, registry="registry.example/team/tiny")
    reference = f"registry.example/team/tiny@{DIGEST}"
    assert f"docker pull {reference}" in text
    assert text.count(reference) == 3, "table, pull and start"
    assert "docker load" not in text, "what is loaded has not the name that is run"
    assert "127.0.0.1:8000:8000" in text
    assert "http://127.0.0.1:8000/v1/completions" in text
    assert text.count("/models/tiny-adder") == 2, "mounted path and served path are one"
    assert "The text of the answer is:\n\n<!-- relforge:expect -->\n```text\n124\n```" in text


def test_every_shell_block_is_valid_shell() -> None:
    import re
    import subprocess

    blocks = re.findall(r"```bash\n(.*?)```", card(FIGURES), re.DOTALL)
    assert len(blocks) == 8
    for block in blocks:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_front_matter_is_yaml_with_licence_and_language() -> None:
    head = yaml.safe_load(card(FIGURES).split("---")[1])
    assert head["license"] == "apache-2.0"
    assert head["language"] == ["en"]
    assert head["pipeline_tag"] == "text-generation"


def test_the_same_data_gives_the_same_bytes() -> None:
    assert card(FIGURES) == card(FIGURES)


@pytest.mark.parametrize("bad", ["None", "{{", "}}", "| |", "\n\n\n"])
def test_no_placeholder_and_no_empty_cell(bad: str) -> None:
    assert bad not in card(FIGURES)
