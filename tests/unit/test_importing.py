"""Results of other tools, in the files that these wrote, and what is refused at which line.

tests/fixtures/evaluation/: lm_eval-*.json were written by lm-eval 0.4.13 with its dummy model,
evalscope-*.json by evalscope 1.14.1's own Report from counts; evalscope-1.10-gsm8k.json has the
shape of 1.10 and before, and aisbench*.csv that of AISBench's DefaultSummarizer at 29c363e3.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.importing import is_evidence, read_figures
from relforge.evaluation.statistics.figures import Figure, right_answers
from relforge.evaluation.statistics.sets import matched
from relforge.manifest.project import builtin_root

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "evaluation"
EVIDENCE = builtin_root() / "examples" / "tiny-adder" / "reference.json"


def rows(figures: tuple[Figure, ...]) -> list[tuple[str, str, str, int | None]]:
    return [(one.task, one.metric, f"{one.percent:.4f}", one.n) for one in figures]


def refused(path: Path, **options: Any) -> RelforgeError:
    with pytest.raises(RelforgeError) as caught:
        read_figures(path, **options)
    assert caught.value.code is ExitCode.USAGE
    return caught.value


@pytest.fixture
def altered(tmp_path: Path) -> Callable[[str, str, str], tuple[Path, int]]:
    """A fixture with one text replaced, and the line of that text."""

    def make(name: str, old: str, new: str) -> tuple[Path, int]:
        text = (FOLDER / name).read_text()
        assert old in text
        path = tmp_path / name
        path.write_text(text.replace(old, new, 1))
        return path, text[: text.index(old)].count("\n") + 1

    return make


# ---------------------------------------------------------------- lm-eval


def test_lm_eval_says_how_many_of_a_task_were_asked() -> None:
    (one,) = read_figures(FOLDER / "lm_eval-limited.json")
    assert rows((one,)) == [("tiny_adder_addition", "exact_match,answer", "0.0000", 30)]
    settings = one.settings
    assert (settings.shots, settings.temperature, settings.max_tokens) == (0, 0.0, 8)
    assert settings.repeats == 1


def test_lm_evals_group_stands_for_its_tasks() -> None:
    figures = read_figures(FOLDER / "lm_eval-group.json")
    assert rows(figures) == [("sums", "acc", "24.5614", 57)]
    assert right_answers(figures[0]) == 14


def test_lm_evals_tasks_have_several_metrics(altered: Any) -> None:
    path, _ = altered("lm_eval-group.json", '"group_subtasks"', '"no_groups"')
    figures = read_figures(path, tasks=["sums_first"])
    assert rows(figures) == [
        ("sums_first", "acc", "27.0270", 37),
        ("sums_first", "acc_norm", "21.6216", 37),
    ]
    assert [right_answers(one) for one in figures] == [10, 8]


def test_a_fraction_in_full_precision_has_to_be_exact(altered: Any) -> None:
    path, _ = altered("lm_eval-group.json", '"acc,none": 0.24561403508771928', '"acc,none": 0.2456')
    (one,) = read_figures(path)
    with pytest.raises(RelforgeError, match=r"no accuracy of 57 questions: 13 right give 22\.80"):
        right_answers(one)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"exact_match,answer": 0.0', '"exact_match,answer": NaN', "answer is no number"),
        ('"exact_match,answer": 0.0', '"exact_match,answer": "N/A"', "answer is no number"),
        ('"effective": 30', '"effective": "?"', "not as lm-eval writes it"),
        ('"effective": 30', '"effective": 0', "not as lm-eval writes it"),
    ],
)
def test_what_lm_eval_does_not_write_is_refused_at_its_line(
    altered: Any, old: str, new: str, what: str
) -> None:
    path, line = altered("lm_eval-limited.json", old, new)
    error = refused(path)
    assert what in error.what
    assert (error.where or "").startswith(f"{path}:{line}:")


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    text = (FOLDER / "lm_eval-limited.json").read_text()
    path = tmp_path / "results.json"
    path.write_text(text[: len(text) // 2])
    error = refused(path)
    assert error.what == "the results are no whole JSON"
    assert error.where == f"{path}:{text[: len(text) // 2].count(chr(10)) + 1}"


# ---------------------------------------------------------------- evalscope


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("evalscope-gsm8k.json", ("gsm8k", "mean_acc", "95.0700", 1319)),
        ("evalscope-ceval.json", ("ceval", "mean_acc", "77.4200", 62)),
        ("evalscope-1.10-gsm8k.json", ("gsm8k", "mean_acc", "95.7500", 1319)),
    ],
)
def test_evalscopes_reports_of_both_shapes(name: str, expected: tuple[str, str, str, int]) -> None:
    assert rows(read_figures(FOLDER / name)) == [expected]


def test_subsets_that_were_rounded_before_they_were_averaged_still_give_k() -> None:
    (one,) = read_figures(FOLDER / "evalscope-ceval.json")
    assert one.off_by == Decimal("0.015")
    assert right_answers(one) == 48
    (one,) = read_figures(FOLDER / "evalscope-gsm8k.json")
    assert (one.off_by, right_answers(one)) == (Decimal("0.005"), 1254)


def test_a_run_with_questions_that_failed_is_refused() -> None:
    path = FOLDER / "evalscope-aime24.json"
    error = refused(path)
    assert error.what == "aime24: the run is incomplete"
    assert error.why == "3 of 30 questions ended in an error"
    line = path.read_text().splitlines().index('    "execution_summary": {') + 1
    assert error.where == f"{path}:{line}:5"


def test_a_folder_holds_the_reports_of_one_model(tmp_path: Path) -> None:
    for name in ("evalscope-gsm8k.json", "evalscope-ceval.json", "evalscope-aime24.json"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    assert [one.task for one in read_figures(tmp_path, tasks=["C-Eval", "GSM8K"])] == [
        "ceval",
        "gsm8k",
    ]
    assert "incomplete" in refused(tmp_path).what
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty").what == "the folder holds no report"


def test_scores_up_to_a_hundred_are_percentages_already(altered: Any) -> None:
    path, _ = altered("evalscope-gsm8k.json", '"max": 1.0', '"max": 100.0')
    path.write_text(path.read_text().replace('"score": 0.9507', '"score": 95.07'))
    assert [one.percent for one in read_figures(path)] == [Decimal("95.07")]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"score": 0.9507', '"score": null', "score is no number"),
        ('"num": 1319', '"num": 0', "not as evalscope writes it"),
        ('"errored": 0', '"errored": true', "not as evalscope"),
    ],
)
def test_what_evalscope_does_not_write_is_refused_at_its_line(
    altered: Any, old: str, new: str, what: str
) -> None:
    path, line = altered("evalscope-gsm8k.json", old, new)
    error = refused(path)
    if new == '"errored": true':  # pydantic reads it as 1, which is one error too many
        assert error.what == "gsm8k: the run is incomplete"
        return
    assert what in error.what
    assert (error.where or "").startswith(f"{path}:{line}:")


def test_pass_at_one_is_a_mean(altered: Any) -> None:
    path, _ = altered("evalscope-gsm8k.json", '"aggregation": "mean"', '"aggregation": "pass_at_k"')
    path.write_text(path.read_text().replace('"dimensions": {}', '"dimensions": {"k": 1}', 1))
    assert [one.metric for one in read_figures(path)] == ["pass@1"]
    path.write_text(path.read_text().replace('"k": 1', '"k": 8', 1))
    (one,) = read_figures(path)
    assert one.metric == "accuracy (pass_at_k, k=8)"
    with pytest.raises(RelforgeError, match="not known to be a share"):
        right_answers(one)


# ---------------------------------------------------------------- AISBench


def test_aisbench_has_a_column_for_each_model() -> None:
    path = FOLDER / "aisbench.csv"
    figures = read_figures(path, column="vllm-api-general-chat")
    assert rows(figures) == [
        ("gsm8k", "accuracy", "95.0700", None),
        ("aime2024", "accuracy", "76.6700", None),
        ("ceval", "naive_average", "88.7100", None),
    ]
    assert [one.where for one in figures] == [f"{path}:{line}" for line in (2, 3, 4)]
    assert [one.settings.prompt_hash for one in figures] == [
        "aisbench:84f965",
        "aisbench:604a78",
        None,
    ]
    error = refused(path)
    assert error.what == "the summary has several models"
    assert error.why == "there are vllm-api-general-chat, vllm-api-stream-chat"
    assert refused(path, column="other").what == "no model is named other"


def test_aisbench_counts_where_it_says_so() -> None:
    path = FOLDER / "aisbench-counts.csv"
    assert rows(read_figures(path, tasks=["gsm8k", "BFCL-v3-simple"])) == [
        ("BFCL-v3-simple", "accuracy", "92.5000", 400),
        ("gsm8k", "accuracy", "95.9100", None),
    ]


def test_a_dataset_without_a_result_is_refused_at_its_line() -> None:
    path = FOLDER / "aisbench-counts.csv"
    error = refused(path)
    assert (error.what, error.where) == ("aime2024 has no result: '-'", f"{path}:4")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("(370/400)", "(371/400)", "371 of 400 are not 92.50 %"),
        ("(370/400)", "(370/0)", "370 of 0 are not 92.50 %"),
        ("92.50 (370/400)", "n/a", "has no result: 'n/a'"),
        ("92.50 (370/400)", "9.2.5", "'9.2.5' is no number"),
        (",gen,400,", ",gen,", "the line has 5 values, the first 6"),
    ],
)
def test_what_aisbench_does_not_write_is_refused_at_its_line(
    altered: Any, old: str, new: str, what: str
) -> None:
    path, line = altered("aisbench-counts.csv", old, new)
    error = refused(path)
    assert what in error.what
    assert error.where == f"{path}:{line}"


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize("name", ["rows.csv", "rows.yaml"])
def test_a_plain_table_keeps_its_decimals(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(
        "task, metric, value, n\n\nGSM8K, EM, 95.07, 1319\nAIME 2024, , 80.00,\n"
        if name.endswith("csv")
        else "- {task: GSM8K, metric: EM, value: 95.07, n: 1319}\n"
        "# a remark\n- task: AIME 2024\n  value: 80.00\n"
    )
    figures = read_figures(path)
    assert rows(figures) == [
        ("GSM8K", "EM", "95.0700", 1319),
        ("AIME 2024", "accuracy", "80.0000", None),
    ]
    assert [one.off_by for one in figures] == [Decimal("0.005")] * 2
    lines = (3, 4) if name.endswith("csv") else (1, 3)
    assert [one.where for one in figures] == [f"{path}:{line}" for line in lines]


@pytest.mark.parametrize(
    ("name", "text", "line", "what"),
    [
        ("a.csv", "task,value\nGSM8K,95,07\n", 2, "the line has 3 values, the first has 2 names"),
        ("a.csv", "task,value\nGSM8K,many\n", 2, "'many' is no number"),
        ("a.csv", "task,value\nGSM8K,\n", 2, "value: String should have at least 1 character"),
        ("a.csv", "task,value,n\nGSM8K,95.07,0\n", 2, "n: Input should be greater"),
        ("a.csv", "task,score\nGSM8K,95.07\n", 2, "value: Field required"),
        ("a.csv", "task,value\n", None, "the table has no rows"),
        ("a.csv", "", None, "the table has no rows"),
        ("a.yaml", "- {task: GSM8K, value: 95.07}\n- GSM8K\n", 2, "no plain mapping"),
        ("a.yaml", "- {task: GSM8K, value: [95]}\n", 1, "no plain mapping"),
        ("a.yaml", "task: GSM8K\n", 1, "the table is no list"),
        ("a.yaml", "- {task: GSM8K\n", 2, "the table is no YAML"),
        ("a.csv", "task,value,task\nA,1,B\n", 1, "'task' stands twice"),
        ("a.yaml", "- {task: A, value: 1, task: B}\n", 1, "'task' stands twice"),
        ("a.yaml", "[" * 200, 1, "nested too deeply"),
        ("a.json", "[" * 100_000, 1, "no whole JSON"),
        ("a.txt", "GSM8K 95.07", None, "of no known format"),
        ("a.json", "[]", None, "of no known format"),
        ("a.json", "{}", None, "of no known format"),
    ],
)
def test_a_bad_table_is_refused_at_its_line(
    tmp_path: Path, name: str, text: str, line: int | None, what: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    error = refused(path)
    assert what in error.what
    assert error.where == (str(path) if line is None else f"{path}:{line}")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.csv").what == "the results cannot be read"
    (tmp_path / "a.csv").write_bytes(b"task,value\n\xff\n")
    assert refused(tmp_path / "a.csv").what == "the results cannot be read"


# ---------------------------------------------------------------- evidence, and two sides


def test_evidence_is_a_figure_where_the_other_side_has_no_answers(tmp_path: Path) -> None:
    assert is_evidence(EVIDENCE)
    assert not is_evidence(FOLDER / "lm_eval-limited.json")
    assert not is_evidence(tmp_path)
    (one,) = read_figures(EVIDENCE)
    assert (one.task, one.n, right_answers(one)) == ("tiny_adder_addition", 1993, 1891)
    assert read_figures(EVIDENCE, tasks=["other"]) == ()


def test_evidence_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    path.write_text(EVIDENCE.read_text().replace('"correct": 1891', '"correct": 1892', 1))
    with pytest.raises(RelforgeError, match="cannot be used") as caught:
        read_figures(path)
    assert caught.value.code is ExitCode.SOURCE


def figure(task: str, metric: str) -> Figure:
    return Figure(task=task, metric=metric, percent=Decimal(50), off_by=Decimal("0.5"), n=100)


def names(pairs: list[tuple[Figure, Figure]]) -> list[tuple[str, str, str]]:
    return [(one.task, one.metric, other.metric) for one, other in pairs]


def test_a_task_that_one_side_lacks_is_not_left_out() -> None:
    reference = [figure("GSM8K", "EM"), figure("MMLU", "Acc.")]
    with pytest.raises(RelforgeError, match="the result has no MMLU"):
        matched(reference, [figure("gsm8k", "accuracy")])
    pairs = matched(reference, [figure("gsm8k", "accuracy")], tasks=["gsm8k"])
    assert names(pairs) == [("GSM8K", "EM", "accuracy")]
    with pytest.raises(RelforgeError, match="no figure of ceval"):
        matched(reference, reference, tasks=["ceval"])
    with pytest.raises(RelforgeError, match="nothing to compare"):
        matched([figure("GSM8K", "bleu")], [figure("GSM8K", "bleu")])


def test_several_metrics_of_a_task_are_not_mixed_up() -> None:
    strict, flexible = (
        figure("gsm8k", f"exact_match,{name}") for name in ("strict-match", "flexible-extract")
    )
    assert len(matched([strict, flexible], [flexible, strict])) == 2
    assert all(
        one.metric == other.metric for one, other in matched([strict, flexible], [flexible, strict])
    )
    with pytest.raises(RelforgeError, match="several figures in the result") as caught:
        matched([figure("GSM8K", "EM")], [strict, flexible])
    assert caught.value.hint == "say which is meant: --metric NAME"
    pairs = matched([figure("GSM8K", "EM")], [strict, flexible], metric="exact_match,strict-match")
    assert names(pairs) == [("GSM8K", "EM", "exact_match,strict-match")]


def test_the_fixtures_are_whole() -> None:
    assert json.loads((FOLDER / "lm_eval-group.json").read_text())["lm_eval_version"] == "0.4.13"
    assert json.loads((FOLDER / "evalscope-gsm8k.json").read_text())["schema_version"] == 2
