"""References: what they must say, what is wrong with them at file:line; which figures can be."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from relforge.checking import check_project
from relforge.checking.references import of_reported
from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.evidence import load_reference
from relforge.evaluation.statistics.datasets import DATASETS, dataset_of, same_task
from relforge.evaluation.statistics.figures import (
    Figure,
    compare_figures,
    possible_k,
    printed,
    right_answers,
    sized,
)
from relforge.manifest.loader import parse
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.reference import AskedWith, ReferenceFigures
from relforge.manifest.site import Site

BUILTIN = Project((builtin_root(),))
REPORTED = """\
kind: reference
name: toy-elsewhere
model: toy
title: toy elsewhere
status: reported
precision: unknown
hardware: NVIDIA H100
tool: unknown
tool_version: unknown
source: a card
figures:
  - {task: GSM8K, metric: EM, value: 95.75, n: 1319}
"""


def figure(text: str, *, n: int | None, metric: str = "acc", task: str = "GSM8K") -> Figure:
    percent, off_by = printed(text)
    return Figure(task=task, metric=metric, percent=percent, off_by=off_by, n=n)


# ---------------------------------------------------------------- manifests


@pytest.mark.parametrize("name", sorted(BUILTIN.reference_files))
def test_shipped_references_say_what_they_are(name: str) -> None:
    reference = BUILTIN.reference(name)
    assert BUILTIN.model(reference.model)
    for one in reference.figures:
        assert (one.evidence is not None) == (reference.status == "measured")


def test_the_measured_reference_is_its_evidence() -> None:
    reference = BUILTIN.reference("tiny-adder-pytorch")
    (one,) = reference.figures
    assert one.evidence is not None
    assert one.evidence == BUILTIN.model("tiny-adder").reference
    evidence = load_reference(BUILTIN.path(one.evidence.path), sha256=one.evidence.sha256)
    assert (one.n, f"{one.value:.2f}") == (evidence.n, f"{evidence.accuracy_percent:.2f}")


def test_a_reference_keeps_figures_that_others_reported() -> None:
    reference = parse(REPORTED, Path("toy.yaml"), ReferenceFigures)
    (one,) = reference.figures
    assert (one.task, one.value, one.n, reference.source) == ("GSM8K", 95.75, 1319, "a card")


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("source: a card\n", "", "1:1", "reported figures need a source"),
        ("status: reported", "status: measured", "11:1", "no evidence with its n"),
        ("status: reported", "status: guessed", "5:1", "status"),
        ("value: 95.75", "value: 957.5", "12:31", "figures.0.value"),
        ("precision: unknown", "precision: fp7", "6:1", "precision"),
        ("n: 1319}", "m: 1319}", "12:45", "unknown key"),
        (
            "figures:\n",
            "figures:\n  - {task: GSM8K, metric: EM, value: 1}\n",
            "11:1",
            "GSM8K stands twice",
        ),
        (
            "n: 1319}",
            f"n: 1319, evidence: {{task: GSM8K, path: e.json, sha256: {'a' * 64}}}}}",
            "11:1",
            "say `status: measured`",
        ),
    ],
)
def test_what_a_reference_must_say(old: str, new: str, where: str, what: str) -> None:
    assert old in REPORTED
    with pytest.raises(RelforgeError) as caught:
        parse(REPORTED.replace(old, new, 1), Path("toy.yaml"), ReferenceFigures)
    assert caught.value.code is ExitCode.USAGE
    assert caught.value.where == f"toy.yaml:{where}"
    assert what in caught.value.what


def test_an_unknown_reference_is_told_with_the_nearest() -> None:
    with pytest.raises(RelforgeError, match="unknown reference") as caught:
        BUILTIN.reference("tiny-adder-pytorsh")
    assert caught.value.hint == "did you mean 'tiny-adder-pytorch'?"


# ---------------------------------------------------------------- relforge check


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """tiny-adder's model and reference, with the files they pin."""
    for kind, name in (("models", "tiny-adder"), ("references", "tiny-adder-pytorch")):
        folder = tmp_path / "manifests" / kind
        folder.mkdir(parents=True)
        source = builtin_root() / "manifests" / kind / f"{name}.yaml"
        (folder / source.name).write_bytes(source.read_bytes())
    (tmp_path / "examples").symlink_to(builtin_root() / "examples")
    return tmp_path


def faults(root: Path) -> list[tuple[str, str]]:
    """Place and message of each fault."""
    found = check_project(Project((root,)), Site(), lint=False).faults
    return [((one.where or "").removeprefix(f"{root}/manifests/"), one.message) for one in found]


def altered(root: Path, old: str, new: str) -> Path:
    path = root / "manifests" / "references" / "tiny-adder-pytorch.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_a_right_reference_has_no_fault(project: Path) -> None:
    assert faults(project) == []


@pytest.mark.parametrize(
    ("old", "new", "key", "what"),
    [
        ("value: 94.88", "value: 94.93", "value", "value is 94.93, and its evidence says 94.88"),
        ("value: 94.88", "value: 94.91", "value", "94.91 % is no accuracy"),
        ("value: 94.88", "value: 94.8", "value", "value is 94.8, and its evidence says 94.88"),
        ("n: 1993", "n: 1000", "n", "n is 1000, and its evidence says 1993"),
        ("shots: 0", "shots: 5", "settings", "settings.shots is 5, and its evidence says 0"),
        ("max_tokens: 8", "max_tokens: 9", "settings", "settings.max_tokens is 9"),
        ('prompt: "{{question}}"', "prompt: Q", "settings", "settings.prompt is Q"),
        ("tool_version: torch 2.13.0", "tool_version: torch 2.12.0", "tool_version", "torch 2.12"),
        ("model: tiny-adder", "model: tiny-adders", "model", "unknown model 'tiny-adders'"),
        ("sha256: a81bf4", "sha256: a81bf5", "evidence", "not the one that the manifest pins"),
        ("sha256: a81bf4", "sha256: a81bf5", "evidence", "another one than that of tiny-adder"),
        ("reference.json", "absent.json", "evidence", "the project has no"),
    ],
)
def test_a_wrong_reference_is_a_fault_at_its_line(
    project: Path, old: str, new: str, key: str, what: str
) -> None:
    path = altered(project, old, new)
    line = next(
        number
        for number, text in enumerate(path.read_text().splitlines(), 1)
        if re.match(rf"\s*(- )?{key}:", text)
    )
    found = [where for where, message in faults(project) if what in message]
    assert [where.rsplit(":", 1)[0] for where in found] == [f"references/{path.name}:{line}"]


def test_what_is_reported_of_a_release_has_to_be_possible() -> None:
    release = BUILTIN.release("deepseek-r1-int4-bi_V150")
    assert list(of_reported(release)) == []
    wrong = release.reported[0].model_copy(update={"n": 500})
    (found,) = of_reported(release.model_copy(update={"reported": (*release.reported, wrong)}))
    assert found.keys == ("reported", 6, "value")
    assert "95.07 % is no accuracy of 500 questions" in found.what


# ---------------------------------------------------------------- figures


def published() -> list[tuple[str, str, str]]:
    """Reference or release, task, and value as it is written, of all that are not measured."""
    rows = []
    for kind, names in (
        ("references", BUILTIN.reference_files),
        ("releases", BUILTIN.release_files),
    ):
        for name in names:
            text = (builtin_root() / "manifests" / kind / f"{name}.yaml").read_text()
            content = yaml.load(text, Loader=yaml.BaseLoader)  # numbers as they are written
            if content.get("status") == "measured":
                continue
            for one in content.get("figures", ()) or content.get("reported", ()):
                if dataset_of(one["task"]) is not None:
                    rows.append((name, one["task"], one["value"]))
    return rows


@pytest.mark.parametrize(("name", "task", "value"), published())
def test_every_published_figure_is_possible_with_the_assumed_n(
    name: str, task: str, value: str
) -> None:
    """All of them are plain accuracies of these datasets, C-Eval's of its validation part."""
    dataset = dataset_of(task)
    assert dataset is not None
    percent, off_by = printed(value)
    assert possible_k(percent, off_by, dataset.n) is not None


def test_the_sizes_are_those_of_the_datasets() -> None:
    assert {one.name: one.n for one in DATASETS} == {
        "GSM8K": 1319,
        "MMLU": 14042,
        "C-Eval": 1346,
        "AIME 2024": 30,
        "GPQA-Diamond": 198,
        "MATH-500": 500,
    }
    assert all(one.source and one.part for one in DATASETS)


def test_tools_write_the_same_task_in_other_ways() -> None:
    assert same_task("GPQA_diamond", "GPQA-Diamond")
    assert same_task("aime24", "AIME 2024")
    assert same_task("aime2024", "aime24")
    assert same_task("ceval-valid", "C-Eval")
    assert not same_task("aime25", "AIME 2024")
    assert not same_task("gpqa", "GPQA-Diamond")
    assert dataset_of("GPQA") is None


@pytest.mark.parametrize(
    ("text", "n", "k"),
    [
        ("95.07", 1319, 1254),
        ("95.75", 1319, 1263),
        ("95.06", 1319, None),
        ("95.08", 1319, None),
        ("95.1", 1319, 1254),  # with one decimal several k would do: the nearest
        ("76.67", 30, 23),
        ("76.66", 30, None),  # cut off, not rounded
        ("70.20", 198, 139),
        ("100", 30, 30),
        ("0", 30, 0),
    ],
)
def test_which_figures_n_questions_can_give(text: str, n: int, k: int | None) -> None:
    percent, off_by = printed(text)
    assert possible_k(percent, off_by, n) == k
    if k is None:
        with pytest.raises(RelforgeError, match="is no accuracy"):
            right_answers(figure(text, n=n))
    else:
        assert right_answers(figure(text, n=n)) == k


def test_an_impossible_figure_is_told_with_the_nearest_possible_ones() -> None:
    with pytest.raises(RelforgeError) as caught:
        right_answers(figure("95.06", n=1319).model_copy(update={"where": "rows.csv:3"}))
    assert caught.value.code is ExitCode.USAGE
    assert caught.value.where == "rows.csv:3"
    assert caught.value.what == (
        "GSM8K: 95.06 % is no accuracy of 1319 questions: 1253 right give 95.00 %, "
        "1254 right give 95.07 %"
    )


def test_a_mean_need_not_be_whole() -> None:
    assert right_answers(figure("79.8", n=30, metric="Pass@1")) == pytest.approx(23.94)
    assert right_answers(figure("76.67", n=30, metric="Pass@1")) == 23


@pytest.mark.parametrize(
    ("text", "metric", "what"),
    [
        ("101", "acc", "is no percentage"),
        ("-1", "acc", "is no percentage"),
        ("50", "bleu", "not known to be a share of right answers"),
    ],
)
def test_what_is_no_share_of_right_answers_is_refused(text: str, metric: str, what: str) -> None:
    with pytest.raises(RelforgeError, match=what):
        right_answers(figure(text, n=100, metric=metric))


@pytest.mark.parametrize("text", ["", "n/a", "nan", "inf", "95,07", "95 %"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no"):
        printed(text)


def test_half_a_unit_of_the_last_digit() -> None:
    assert printed("95.07") == (Decimal("95.07"), Decimal("0.005"))
    assert printed("89") == (Decimal("89"), Decimal("0.5"))
    assert printed("1E+1") == (Decimal("10"), Decimal("0.5"))


def test_n_is_assumed_from_the_dataset_and_marked() -> None:
    assert sized(figure("95.07", n=None)).n == 1319
    assert sized(figure("95.07", n=None)).assumed
    assert not sized(figure("95.07", n=1319)).assumed
    with pytest.raises(RelforgeError, match="does not say how many") as caught:
        sized(figure("95.07", n=None, task="demo_gsm8k"))
    assert caught.value.code is ExitCode.USAGE


def test_figures_of_other_n_or_settings_are_not_compared() -> None:
    with pytest.raises(RelforgeError, match=r"n = 500, its reference 1319 \(assumed\)"):
        compare_figures(figure("95.75", n=None), figure("95", n=500), margin_points=2)
    asked = [
        figure("95.07", n=1319).model_copy(update={"settings": AskedWith(shots=shots)})
        for shots in (4, 8)
    ]
    with pytest.raises(RelforgeError, match="other settings") as caught:
        compare_figures(*asked, margin_points=2)
    assert "shots: 4, 8" in caught.value.what


def test_settings_that_nobody_says_are_no_difference() -> None:
    said = AskedWith(shots=5, temperature=0, seed=1)
    assert AskedWith().differences(said) == []
    assert AskedWith(temperature=0, seed=2).differences(said) == []
    assert AskedWith(temperature=0.6, seed=2).differences(said) == ["temperature: 0.6, 0.0"]
    assert AskedWith(temperature=0.6, seed=1).differences(AskedWith(seed=2)) == ["seed: 1, 2"]


def test_figures_are_judged_as_shares() -> None:
    got = compare_figures(figure("95.75", n=None), figure("95.07", n=None), margin_points=2)
    assert (got.n, got.assumed, got.conclusion) == (1319, True, "inconclusive")
    assert got.difference_points == pytest.approx(100 * (1254 - 1263) / 1319)
    assert got.n_to_decide == 1978
