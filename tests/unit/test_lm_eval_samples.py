"""lm-eval's samples, as it wrote them: compared question by question, refused where cut short."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.importing import has_answers, read_answers

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "evaluation" / "lm-eval-samples"
NAME = "samples_tiny_adder_addition_2026-01-01T00-00-00.000000.jsonl"
BEFORE, AFTER = FOLDER / "before" / NAME, FOLDER / "after" / NAME


def compare(*words: str | Path) -> int:
    return dispatch("eval", ["compare", *map(str, words)])


def test_two_files_are_compared_question_by_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(BEFORE, AFTER, "--margin", "2") == 6
    printed = capsys.readouterr().out
    rights = [[o.correct for o in read_answers(path).outcomes] for path in (BEFORE, AFTER)]
    lost = sum(a and not b for a, b in zip(*rights, strict=True))
    won = sum(b and not a for a, b in zip(*rights, strict=True))
    assert lost + won > 0
    assert f"of 12; only the reference {lost}, only the result {won}" in printed
    assert compare(BEFORE, BEFORE, "--margin", "30", "--json") == 0
    assert json.loads(capsys.readouterr().out)["difference"] == 0


def test_settings_are_those_of_the_requests() -> None:
    read = read_answers(BEFORE).settings
    assert (read.task, read.n, read.max_tokens) == ("tiny_adder_addition", 12, 8)
    assert (read.temperature, read.stop) == (0.0, ("<|endoftext|>", "\n"))
    assert (read.metric, read.filter) == ("exact_match", "answer")


def altered(tmp_path: Path, change: Any) -> Path:
    path = tmp_path / NAME
    rows = [json.loads(line) for line in AFTER.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))
    return path


def test_a_last_line_that_is_cut_is_refused_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / NAME
    shutil.copy(AFTER, path)
    path.write_bytes(path.read_bytes()[:-40])
    assert has_answers(path)
    with pytest.raises(RelforgeError, match="no whole JSON") as caught:
        read_answers(path)
    assert caught.value.code is ExitCode.USAGE
    assert caught.value.where == f"{path}:12"


def halved(rows: list[Any]) -> list[Any]:
    return [{**rows[0], "exact_match": 0.5}, *rows[1:]]


def strict_too(rows: list[Any]) -> list[Any]:
    return rows + [{**row, "filter": "strict"} for row in rows]


@pytest.mark.parametrize(
    ("change", "what", "where"),
    [
        (lambda rows: [*rows, rows[3]], "question 3 stands twice", ":13"),
        (halved, "exact_match is neither right nor wrong", ":1"),
        (lambda rows: [], "no samples", ""),
        (strict_too, "several metrics", ""),
        (lambda rows: [{**rows[0], "prompt_hash": "x"}], "not as lm-eval writes it", ":1"),
    ],
)
def test_what_is_no_whole_run_is_refused(
    tmp_path: Path, change: Any, what: str, where: str
) -> None:
    path = altered(tmp_path, change)
    with pytest.raises(RelforgeError, match=what) as caught:
        read_answers(path)
    assert caught.value.code is ExitCode.USAGE
    assert caught.value.where == f"{path}{where}"


def test_of_several_filters_one_is_named(tmp_path: Path) -> None:
    path = altered(tmp_path, strict_too)
    assert read_answers(path, "exact_match,strict").n == 12
    with pytest.raises(RelforgeError, match="no metric acc"):
        read_answers(path, "acc")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[:-1], "other settings"),
        (lambda rows: [{**r, "prompt_hash": "f" * 64} for r in rows], "other prompts"),
        (
            lambda rows: [
                {
                    **r,
                    "arguments": {
                        "gen_args_0": {"arg_0": "x", "arg_1": {"until": [], "temperature": 0.5}}
                    },
                }
                for r in rows
            ],
            "temperature: 0.0, 0.5",
        ),
    ],
)
def test_what_was_asked_otherwise_is_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, words: str
) -> None:
    assert compare(BEFORE, altered(tmp_path, change), "--margin", "2") == 2
    assert words in capsys.readouterr().err
