"""``relforge eval compare``: what it prints, how it ends, and what it refuses to compare."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from relforge.cli.dispatch import dispatch
from relforge.evaluation.evidence import load_reference, write_evidence
from relforge.evaluation.interface import EvaluationResult
from relforge.manifest.project import builtin_root
from relforge.manifest.schema import models

EVIDENCE = builtin_root() / "examples" / "tiny-adder" / "reference.json"
FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "evaluation"
R1 = ("--reference", "deepseek-r1-nvidia_h100-cuda")


class Said(NamedTuple):
    code: int
    out: str
    err: str


Compare = Callable[..., Said]


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Compare:
    monkeypatch.chdir(builtin_root())

    def run(*words: str | Path) -> Said:
        code = dispatch("eval", ["compare", *map(str, words)])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


def evidence(tmp_path: Path, *, wrong: int = 0, n: int | None = None, **settings: Any) -> Path:
    """tiny-adder's evidence, cut to n questions, with the first right answers turned wrong."""
    whole = load_reference(EVIDENCE)
    outcomes = list(whole.outcomes[:n])
    for position, outcome in enumerate(outcomes):
        if wrong and outcome.correct:
            wrong -= 1
            outcomes[position] = outcome.model_copy(update={"correct": False, "answer": "?"})
    asked = whole.settings.model_copy(update={"n": len(outcomes), **settings})
    path = tmp_path / f"evidence-{len(list(tmp_path.iterdir()))}.json"
    write_evidence(EvaluationResult(settings=asked, outcomes=tuple(outcomes)), path)
    return path


# ---------------------------------------------------------------- numbers


def test_the_seeds_gsm8k_is_inconclusive(compare: Compare) -> None:
    said = compare(
        "--ref", "95.75", "--result", "95.07", "--n", "1319", "--margin", "2", "--json"
    )  # fmt: skip
    assert (said.code, said.err) == (6, "")
    got = json.loads(said.out)
    assert got == {
        "difference": -0.6823,
        "interval": [-2.3032, 0.9283],
        "verdict": "inconclusive",
        "n_to_decide": 1978,
    }
    jsonschema.validate(got, models()["compare-output"].model_json_schema())


def test_counts_give_the_same_as_their_percentages(compare: Compare) -> None:
    numbers = ("--n", "1319", "--margin", "2", "--json")
    percent = compare("--ref", "95.75", "--result", "95.07", *numbers)
    assert compare("--ref-k", "1263", "--result-k", "1254", *numbers) == percent


@pytest.mark.parametrize(
    ("ref", "result", "n", "code", "verdict"),
    [
        ("95.00", "95.00", "2000", 0, "non-inferior"),
        ("95.00", "97.00", "1000", 0, "non-inferior"),
        ("95.00", "85.00", "1000", 6, "inferior"),
        ("95.00", "93.00", "1000", 6, "inconclusive"),
        ("100", "100", "1", 6, "inconclusive"),
        ("0", "0", "500", 0, "non-inferior"),
    ],
)
def test_the_exit_code_is_the_verdict(
    compare: Compare, ref: str, result: str, n: str, code: int, verdict: str
) -> None:
    said = compare("--ref", ref, "--result", result, "--n", n, "--margin", "2")
    assert (said.code, said.out.split(":")[0]) == (code, verdict)


def test_a_sentence_says_what_would_decide(compare: Compare) -> None:
    said = compare("--ref", "95.75", "--result", "95.07", "--n", "1319", "--margin", "2")
    assert said.out == (
        "inconclusive: -0.68 points [-2.30, +0.93] at 95% confidence, margin 2, n = 1319; "
        "n = 1978 would decide it\n"
    )


def test_a_well_known_task_says_its_n(compare: Compare) -> None:
    words = ("--ref", "95.75", "--result", "95.07", "--margin", "2")
    said = compare(*words, "--task", "gsm8k")
    assert "n = 1319 (assumed)" in said.out
    said = compare("--ref-k", "1263", "--result-k", "1254", "--margin", "2", "--task", "gsm8k")
    assert "n = 1319 (assumed)" in said.out
    said = compare(*words)
    assert said.code == 2
    assert "does not say how many questions were asked" in said.err


def test_a_mean_is_not_asked_to_be_whole(compare: Compare) -> None:
    words = ("--ref", "79.8", "--result", "79.7", "--n", "30", "--margin", "2")
    assert compare(*words).code == 2
    assert compare(*words, "--metric", "pass@1").code == 6


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--ref 95.06 --result 95.07 --n 1319 --margin 2", "1253 right give 95.00 %, 1254"),
        ("--ref 95.75 --result 95.70 --n 1319 --margin 2", "1262 right give 95.68 %, 1263"),
        ("--ref 101 --result 95.07 --n 1319 --margin 2", "101 % is no percentage"),
        ("--ref x --result 95.07 --n 1319 --margin 2", "'x' is no number"),
        ("--ref nan --result 95.07 --n 1319 --margin 2", "no finite number"),
        ("--ref 95.75 --result 95.07 --n 1319", "no margin is declared"),
        ("--ref 95.75 --result 95.07 --n 1319 --margin 0", "a margin of 0 points is none"),
        ("--ref 95.75 --result 95.07 --n 1319 --margin nan", "a margin of nan points is none"),
        ("--ref 95.75 --n 1319 --margin 2", "a number is missing"),
        ("--ref 95.75 --result-k 1254 --n 1319 --margin 2", "a number is missing"),
        ("--ref-k 1320 --result-k 1254 --n 1319 --margin 2", "--ref-k: 1320 of 1319 cannot"),
        ("--ref-k 5 --result-k 5 --margin 2", "nobody says how many questions"),
        ("--ref 50 --result 50 --n 99999999999 --margin 2", "nobody asks so many"),
        ("--ref 50 --result 50 --n 0 --margin 2", "equal to 1"),
        ("--margin 2", "it is not clear what to compare"),
        ("--ref 50 --result 50 --n 10 --margin 2 --table t.csv", "not clear what to compare"),
        ("--reference deepseek-r1-nvidia_h100-cuda --margin 2", "two sides are compared"),
        ("--reference absent --release absent --margin 2", "unknown reference"),
    ],
)
def test_what_is_no_comparison_is_a_usage_error(compare: Compare, words: str, error: str) -> None:
    said = compare(*words.split())
    assert (said.code, said.out) == (2, "")
    assert error in said.err


def test_without_the_extra_the_error_says_how_to_get_it(
    compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels.stats.proportion", None)
    said = compare("--ref", "95", "--result", "95", "--n", "100", "--margin", "2")
    assert said.code == 3
    assert "pip install 'relforge[eval]'" in said.err


# ---------------------------------------------------------------- answers


def test_evidence_is_compared_question_by_question(compare: Compare, tmp_path: Path) -> None:
    said = compare(EVIDENCE, evidence(tmp_path), "--margin", "2", "--json")
    assert said.code == 0
    got = json.loads(said.out)
    assert set(got) == {"difference", "interval", "verdict", "n_to_decide"}
    # Not the width of two independent shares of 1,993, which is 1.4 points on either side.
    assert (got["difference"], got["verdict"]) == (0.0, "non-inferior")
    assert got["interval"] == pytest.approx([-0.1924, 0.1924], abs=1e-4)
    said = compare(EVIDENCE, evidence(tmp_path, wrong=200), "--margin", "2")
    assert (said.code, said.out.split(":")[0]) == (6, "inferior")
    assert "right: reference 1891, result 1691 of 1993; only the reference 200" in said.out


def test_thirty_questions_decide_nothing(compare: Compare, tmp_path: Path) -> None:
    pair = (evidence(tmp_path, n=30), evidence(tmp_path, n=30))
    said = compare(*pair, "--margin", "2", "--json")
    assert (said.code, json.loads(said.out)["n_to_decide"]) == (6, 189)


def test_answers_to_other_questions_are_a_usage_error(compare: Compare, tmp_path: Path) -> None:
    said = compare(EVIDENCE, evidence(tmp_path, n=1000), "--margin", "2")
    assert said.code == 2
    assert "unequal n" in said.err
    assert "--subset" in said.err
    said = compare(EVIDENCE, evidence(tmp_path, n=1000), "--margin", "2", "--subset")
    assert said.code == 0
    said = compare(EVIDENCE, evidence(tmp_path, max_tokens=9), "--margin", "2")
    assert said.code == 2
    assert "max_tokens: 8, 9" in said.err


def test_evidence_that_was_cut_short_is_refused(compare: Compare, tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    path.write_text(EVIDENCE.read_text()[:5000])
    said = compare(EVIDENCE, path, "--margin", "2")
    assert said.code == 2
    assert "the results are no whole JSON" in said.err


def test_evidence_stands_against_a_reference_without_answers(compare: Compare) -> None:
    said = compare("--reference", "tiny-adder-pytorch", EVIDENCE, "--margin", "2")
    assert said.code == 0
    assert "| tiny_adder_addition | 1993 | 94.88 | 94.88 | +0.00 |" in said.out
    said = compare(
        "--reference", "tiny-adder-pytorch", FOLDER / "lm_eval-limited.json", "--margin", "2"
    )
    assert said.code == 2
    assert "n = 30, its reference 1993" in said.err


def test_options_that_mean_nothing_here_are_refused(compare: Compare, tmp_path: Path) -> None:
    for words in (("--n", "30"), ("--task", "gsm8k"), ("--metric", "acc"), ("--column", "x")):
        said = compare(EVIDENCE, evidence(tmp_path), "--margin", "2", *words)
        assert said.code == 2
        assert "evidence says its task, metric and n itself" in said.err
    said = compare(*R1, "--release", "deepseek-r1-int8-kunlunxin", "--margin", "2", "--subset")
    assert said.code == 2
    assert "--subset is for two evidence files" in said.err


# ---------------------------------------------------------------- several tasks


TABLE = """\
task,metric,ref,result,n,margin
GSM8K,EM,95.75,95.07,,
MMLU,Acc.,85.34,85.02,14042,1.5
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(TABLE)
    return path


def test_a_table_has_a_row_for_each_task(compare: Compare, table: Path) -> None:
    said = compare("--table", table, "--margin", "2", "--json")
    assert (said.code, said.err) == (6, "overall: inconclusive (2 tasks)\n")
    first, second = json.loads(said.out)
    assert first == {
        "task": "GSM8K",
        "difference": -0.6823,
        "interval": [-2.3032, 0.9283],
        "verdict": "inconclusive",
        "n_to_decide": 1978,
    }
    assert (second["task"], second["verdict"]) == ("MMLU", "non-inferior")
    said = compare("--table", table, "--margin", "2", "--task", "mmlu")
    assert (said.code, said.out.splitlines()[-1]) == (0, "overall: non-inferior (1 task)")


def test_a_yaml_table_says_the_same(compare: Compare, table: Path) -> None:
    rows = table.with_suffix(".yaml")
    rows.write_text(
        "- {task: GSM8K, metric: EM, ref: 95.75, result: 95.07}\n"
        "- {task: MMLU, metric: Acc., ref: 85.34, result: 85.02, n: 14042, margin: 1.5}\n"
    )
    assert compare("--table", rows, "--margin", "2") == compare("--table", table, "--margin", "2")


@pytest.mark.parametrize(
    ("old", "new", "line", "error"),
    [
        ("95.07", "95.06", 2, "95.06 % is no accuracy of 1319 questions"),
        ("85.02,14042", "85.02,1531", 3, "is no accuracy of 1531 questions"),
        ("GSM8K", "demo", 2, "does not say how many questions"),
        ("Acc.", "bleu", 3, "not known to be a share"),
        (",14042,1.5", ",14042,200", 3, "margin: Input should be less"),
        ("ref,result", "before,result", 2, "ref: Field required"),
    ],
)
def test_a_wrong_row_is_refused_at_its_line(
    compare: Compare, table: Path, old: str, new: str, line: int, error: str
) -> None:
    assert old in TABLE
    table.write_text(TABLE.replace(old, new, 1))
    said = compare("--table", table, "--margin", "2")
    assert (said.code, said.out) == (2, "")
    assert error in said.err
    assert f"{table}:{line}" in said.err


def test_rows_without_a_margin_need_one(compare: Compare, table: Path) -> None:
    said = compare("--table", table)
    assert said.code == 2
    assert "no margin is declared" in said.err
    assert f"{table}:2" in said.err


def test_other_tools_results_stand_against_a_reference(compare: Compare) -> None:
    summary = (FOLDER / "aisbench.csv", "--column", "vllm-api-stream-chat", "--margin", "2")
    said = compare(*R1, *summary)
    assert said.code == 2
    assert "the result has no MMLU" in said.err
    words = ("--task", "gsm8k", "--task", "aime24")
    said = compare(*R1, *summary, *words)
    assert said.code == 6
    assert "| GSM8K | 1319 (assumed) | 95.75 | 95.75 | +0.00 |" in said.out
    said = compare(*R1, FOLDER / "evalscope-gsm8k.json", "--margin", "2", "--task", "gsm8k")
    assert "| GSM8K | 1319 (assumed) | 95.75 | 95.07 | -0.68 |" in said.out
    said = compare(
        FOLDER / "evalscope-1.10-gsm8k.json", FOLDER / "evalscope-gsm8k.json", "--margin", "2"
    )
    assert "| gsm8k | 1319 | 95.75 | 95.07 | -0.68 |" in said.out


def test_a_release_without_reported_figures_has_none_to_compare(compare: Compare) -> None:
    said = compare(*R1, "--release", "tiny-adder-cpu_x86")
    assert said.code == 2
    assert "nothing is reported of tiny-adder-cpu_x86" in said.err


def test_eval_alone_still_evaluates_a_release(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(builtin_root())
    assert dispatch("eval", ["--release", "absent"]) == 2
    assert "unknown release 'absent'" in capsys.readouterr().err
    assert dispatch("eval", ["comparison"]) == 2
    assert "No such command" in capsys.readouterr().err
