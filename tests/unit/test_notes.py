"""Release notes: all that changed is told, nothing that did not, and no noise as an improvement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.notes.compare import compare_records
from relforge.notes.model import Notes
from relforge.notes.record import record_of
from relforge.notes.render import render, render_with, words_of
from tests.support.records import NEWER, Change, record, write_record


def notes(*changes: Change, before: tuple[Change, ...] = ()) -> Notes:
    old, new = record(*before), record(*changes)
    return compare_records(record_of(old, where="old"), record_of(new, where="new"))


def test_nothing_is_told_of_a_record_against_itself() -> None:
    found = notes()
    assert found.nothing
    assert "Nothing changed" in render(found)
    assert "##" not in render(found)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("lock/sources/engine/tree", "9" * 40), "9" * 40),
        (("lock/patches/engine-gpu/patches/0/1", "9" * 64), "`0001-load.patch`: changed"),
        (("results/build/python_packages/torch", "2.9.0"), "| torch | up | `2.8.0` | `2.9.0` |"),
        (("results/build/python_packages/torch", "2.7.0"), "| torch | down |"),
        (("results/build/python_packages/torch", None), "| torch | removed | `2.8.0` | none |"),
        (("results/build/debian_packages/bash", "5.3"), "| bash | changed |"),
        (("verdicts/bench", "fail"), "| bench | pass | fail |"),
        (("verdicts/bench", None), "| bench | pass | not-run |"),
        (
            ("inputs/evaluate/values/release/serve/args/max-num-seqs", 8),
            "| `serve.args.max-num-seqs` | `32` | `8` |",
        ),
        (("inputs/evaluate/values/release/engine", "sglang"), "| `engine` | `vllm` | `sglang` |"),
        (("inputs/weights/values/files/0/sha256", "7" * 64), f"`m.bin` | `{'0' * 64}` | `7777"),
        (("results/build/base_digest", "sha256:" + "8" * 64), "digest of what was used"),
        (("skipped/coverage", None), "no longer: coverage"),
        (("results/build/pip_check", ["a requires b."]), "- pip check: a requires b."),
        (("results/evaluate/tasks/0/margin_points", 1.0), "went from 2 to 1 points"),
        (("results/evaluate/tasks/0/conclusion", "inconclusive"), "is inconclusive"),
        (
            ("results/coverage", {"operators": 3, "calls": 9, "shares": {"operators": 50.0}}),
            "| `operators` | none | `3` |",
        ),
    ],
)  # fmt: skip
def test_each_change_is_told(change: Change, expected: str) -> None:
    found = notes(change)
    assert not found.nothing
    assert expected in render(found)


def test_a_setting_that_is_empty_is_as_good_as_none() -> None:
    assert notes(("inputs/evaluate/values/release/serve/mounts", [])).nothing


def test_a_patch_under_another_name_is_the_same_patch() -> None:
    (change,) = notes(("lock/patches/engine-gpu/patches/1/0", "0002-gpu.patch")).patches
    assert change.renamed == (("0002-kernels.patch", "0002-gpu.patch"),)
    assert (change.added, change.removed, change.changed) == ((), (), ())


def test_commits_of_a_forge_are_a_range_to_look_at() -> None:
    text = render(notes(*NEWER))
    assert f"<https://github.com/example/engine/compare/{'a' * 40}...{'c' * 40}>" in text


def test_sizes_are_by_kind_of_layer_with_the_bytes_of_an_update() -> None:
    image = notes(*NEWER).image
    assert image is not None
    assert image.new_layers_bytes == 50_000_000
    sizes = {size.kind: (size.before_bytes, size.after_bytes) for size in image.layers}
    assert sizes["native"] == (45_000_000, 50_000_000)
    assert sizes["base"] == (50_000_000, 50_000_000)
    text = render(notes(*NEWER))
    assert "| whole image, compressed | 500.0 MB | 505.0 MB | +5.0 MB (+1.0 %) |" in text
    assert "fetches 50.0 MB (9.9 % of the compressed image)" in text


def test_unknown_layers_are_said_to_be_unknown() -> None:
    text = render(notes(*NEWER, before=(("results/build/layer_sizes", None),)))
    assert "does not say how large each layer is" in text


def test_packages_that_nobody_listed_are_not_taken_for_none() -> None:
    found = notes(*NEWER, before=(("results/build/python_packages", {}),))
    assert found.python_packages == ()
    assert "does not name the packages" in render(found)


def test_counts_alone_make_no_improvement_of_noise() -> None:
    (task,) = notes(*NEWER).accuracy
    assert (task.basis, task.finding) == ("counts", "no difference shown")
    assert task.difference_points == pytest.approx(0.4)
    low, high = task.interval_points or (0.0, 0.0)
    assert low < 0 < high


def test_a_large_difference_is_one_also_by_counts() -> None:
    better = notes(
        ("image_digest", "sha256:" + "2" * 64),
        ("results/evaluate/tasks/0/result_correct", 960),
        ("results/evaluate/tasks/0/result_percent", 96.0),
    )
    assert better.accuracy[0].finding == "better"
    assert "| better |" in render(better)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("results/evaluate/tasks/0/n", 500), "1000 questions were asked before, 500 now"),
        (("results/evaluate/tasks/0/metric", "f1"), "the metric was exact_match"),
        (("inputs/evaluate/values/tasks/0/file/questions_sha256", "1" * 64), "task itself"),
        (("inputs/evaluate/values/tasks", []), "which questions were asked"),
    ],
)
def test_other_questions_are_not_compared(change: Change, why: str) -> None:
    (task,) = notes(("image_digest", "sha256:" + "2" * 64), change).accuracy
    assert task.finding == "not compared"
    assert why in task.why
    assert task.interval_points is None


def folders(tmp_path: Path, before: list[bool], after: list[bool]) -> tuple[str, str]:
    old = write_record(tmp_path / "old", record(), before)
    new = write_record(tmp_path / "new", record(*NEWER), after)
    return str(old), str(new)


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert dispatch("notes", [*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_answers_are_compared_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # By counts 12 of 1000 are noise; that none of the others was lost is not.
    before = [n >= 80 for n in range(1000)]
    after = [n >= 68 for n in range(1000)]
    (task,) = printed(capsys, *folders(tmp_path, before, after))["accuracy"]
    assert (task["basis"], task["only_before"], task["only_after"]) == ("paired", 0, 12)
    assert task["finding"] == "better"
    assert task["p_value"] == pytest.approx(2 * 0.5**12)


def test_several_tasks_share_the_chance_of_a_false_finding() -> None:
    task = record()["results"]["evaluate"]["tasks"][0]
    names = [f"sums{n}" for n in range(8)]
    asked = [{"file": {"name": name, "questions_sha256": "e" * 64}} for name in names]
    place = "inputs/evaluate/values/tasks"
    before = [{**task, "task": name} for name in names]
    # p is about 0.03 for one of eight: real alone, chance among eight.
    after = [{**before[0], "result_correct": 944}, *before[1:]]
    digest = ("image_digest", "sha256:" + "2" * 64)
    one = notes(digest, ("results/evaluate/tasks/0/result_correct", 944))
    many = notes(
        digest, (place, asked), ("results/evaluate/tasks", after),
        before=((place, asked), ("results/evaluate/tasks", before)),
    )  # fmt: skip
    assert one.accuracy[0].finding == "better"
    assert {row.finding for row in many.accuracy} == {"no difference shown"}


def test_altered_answers_are_refused(tmp_path: Path) -> None:
    old, new = folders(tmp_path, [True] * 100, [True] * 100)
    file = Path(new, "evidence", "evaluation.json")
    file.write_text(file.read_text().replace("true", "false", 1))
    assert dispatch("notes", [old, new]) == int(ExitCode.PUBLISH)


def test_ladders_of_one_machine_have_no_verdict() -> None:
    found = notes(*NEWER)
    assert found.bench is not None
    assert not found.bench.why
    text = render(found)
    assert "| 8 | 3000.0 | 2900.0 |" in text
    assert "does not say which is faster" in text
    assert "this image is" not in text


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (("results/bench/report/machine/processor", "another"), "machine"),
        (("results/bench/report/settings/tool_version", "0.33.0"), "load generator"),
        (("results/bench/report/settings/bench/input_tokens", 1024), "input_tokens"),
        (("results/bench/report/levels/0/figures/prompts", 50), "requests at 1 at a time"),
    ],
)
def test_ladders_under_other_conditions_are_not_comparable(change: Change, condition: str) -> None:
    found = notes(*NEWER, change).bench
    assert found is not None
    assert [one.name for one in found.why] == [condition]
    assert "not comparable" in render(notes(*NEWER, change))


def test_other_devices_and_models_are_refused() -> None:
    for key in ("device", "model"):
        with pytest.raises(RelforgeError, match=f"different {key}s") as refused:
            notes((f"names/{key}", "another"))
        assert refused.value.code is ExitCode.USAGE


def test_the_first_release_tells_what_it_has() -> None:
    first = compare_records(None, record_of(record(), where="new"))
    text = render(first)
    assert "first release" in text
    assert "| sums (exact_match) | 92.00 % (n = 1000) | 93.00 % | -1.00 | -1.80 to -0.20 |" in text
    assert "`0001-load.patch`\n" in text
    assert "in the image: 3; packages of the distribution: 1." in text


@pytest.mark.parametrize("first", [True, False])
def test_every_wording_is_translated(first: bool) -> None:
    words = words_of("zh")
    old = None if first else record_of(record(), where="old")
    changes = (*NEWER, ("verdicts/bench", "fail"), ("skipped/coverage", None))
    found = compare_records(old, record_of(record(*changes), where="new"))
    text = render_with(found, words)
    assert words.missing == set()
    assert "准确率" in text
    assert ("首个发布" in text) == first


@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_renders_and_the_linter_of_cards_finds_no_mistake(language: Any, tmp_path: Path) -> None:
    from relforge.card.lint.many import Card, lint_cards

    text = render(
        notes(*NEWER, ("inputs/evaluate/values/release/serve/env", {"A|B": "a`b|c"})), language
    )
    page = MarkdownIt("commonmark").enable("table").render(text)
    # Every row has the cells of its head, also where a value has a bar in it.
    for table in page.split("<table>")[1:]:
        rows = table.split("</table>")[0].split("<tr>")[1:]
        counts = {row.count("<td>") + row.count("<th>") for row in rows}
        assert len(counts) == 1, table
    assert "| |" not in text
    assert "\n\n\n" not in text
    findings = lint_cards([Card("NOTES.md", text, tmp_path)])
    assert [one for one in findings if one.severity == "error"] == []


def test_records_of_the_wrong_kind_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "b.json").write_text('{"release": 7}')
    for name, why in (("a.json", "no JSON object"), ("b.json", "model"), ("none", "No such file")):
        assert dispatch("notes", [str(tmp_path / name)]) == int(ExitCode.USAGE)
        err = capsys.readouterr().err
        assert why in err
        assert name in err


def test_notes_go_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = folders(tmp_path, [True] * 50, [True] * 50)
    out = tmp_path / "NOTES.md"
    assert dispatch("notes", [old, new, "--lang", "zh", "--out", str(out)]) == 0
    assert out.read_text().startswith("# 发布说明")
    assert capsys.readouterr().out == ""
