"""What a tuning leaves on disk: journals that are gone on with, evidence that is checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.project import builtin_root
from relforge.tuning.asking import Asked, Found, Limits
from relforge.tuning.evidence import load_tuning, output_of
from relforge.tuning.journal import Journal, OtherJournal
from relforge.tuning.record import names_at, positions, record, result_of, text_of
from relforge.tuning.search import Tuning, tune
from tests.support.tuning import model, names, noisy

MEASURED = sorted((builtin_root() / "examples" / "tuning").glob("*.json"))


def written(path: Path, tuning: Tuning, limits: Limits = Limits()) -> Path:  # noqa: B008
    path.write_text(text_of(record(tuning, subject={"release": "some"}, limits=limits)))
    return path


def test_sets_of_operators_are_written_as_ranges() -> None:
    operators = names(12)
    for chosen, text in (
        ([], ""), (operators, "0-11"), (["op_3"], "3"), (["op_0", "op_1", "op_11"], "0-1 11"),
    ):  # fmt: skip
        assert positions(chosen, operators) == text
        assert names_at(text, operators) == frozenset(chosen)
    for bad in ("12", "3-2", "0 1", "x", "1 0", "-1"):
        with pytest.raises(ValueError):  # noqa: PT011 - int() has words of its own
            names_at(bad, operators)


def test_a_tuning_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    operators, truth = names(50), model(["op_7", "op_30"])
    whole = tune(operators, truth)
    for ended_after in range(whole.count()):
        path = tmp_path / f"{ended_after}.jsonl"
        asked: list[Asked] = []

        def evaluate(one: Asked, most: int = ended_after, asked: list[Asked] = asked) -> Found:
            if len(asked) == most:
                raise KeyboardInterrupt
            asked.append(one)
            return truth(one)

        with pytest.raises(KeyboardInterrupt):
            tune(operators, Journal(path, "key", operators).answering(evaluate))
        # A kill can leave the beginning of a line.
        with path.open("a") as file:
            file.write('{"purpose": "sear')
        journal = Journal(path, "key", operators)
        assert len(journal.known) == ended_after
        again: list[Asked] = []

        def rest(one: Asked, again: list[Asked] = again) -> Found:
            again.append(one)
            return truth(one)

        found = tune(operators, journal.answering(rest))
        assert found == whole
        assert journal.replayed == ended_after
        assert [*asked, *again] == [one.asked for one in whole.evaluations]
        assert len(Journal(path, "key", operators).known) == whole.count()


def test_each_verdict_is_on_disk_before_the_next_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "new" / "verdicts.jsonl"
    operators, truth = names(20), model(["op_7"])
    lines: list[int] = []

    def evaluate(asked: Asked) -> Found:
        lines.append(len(path.read_text().splitlines()))
        return truth(asked)

    tune(operators, Journal(path, "key", operators).answering(evaluate))
    assert lines == list(range(1, len(lines) + 1))


def test_the_journal_of_another_tuning_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    Journal(path, "key", names(3))
    for key, operators in (("other", names(3)), ("key", names(4))):
        with pytest.raises(OtherJournal):
            Journal(path, key, operators)
    for text in ("[]\n", "no json\n", "3\n"):
        path.write_text(text)
        with pytest.raises(OtherJournal):
            Journal(path, "key", names(3))


def test_evidence_is_read_back_whatever_the_end(tmp_path: Path) -> None:
    clash = model(["op_3"], [("op_9", "op_30")])
    ends = [
        tune(names(40), clash),
        tune(names(40), clash, Limits(evaluations=7)),
        tune(names(40), model([])),
        tune(names(40), lambda _: Found("fail", "always")),
        tune(names(40), noisy(["op_3"], wrong=0.2, inconclusive=0.5, seed=3), Limits(60, levels=3)),
    ]
    assert {end.state for end in ends} >= {"done", "stopped", "nothing-fails"}
    for number, end in enumerate(ends):
        levels = 3 if number == 4 else 1
        path = written(tmp_path / f"{number}.json", end, Limits(levels=levels))
        loaded = load_tuning(path)
        assert result_of(loaded.tuning) == result_of(end)
        assert loaded.subject == {"release": "some"}


def other_culprit(data: dict[str, Any]) -> None:
    data["result"]["culprits"] = ["op_4"]


def claims_more(data: dict[str, Any]) -> None:
    data["result"]["state"] = "done"
    data["result"]["confirmed"] = False


def fewer_evaluations(data: dict[str, Any]) -> None:
    data["result"]["evaluations"] -= 1


def turned_verdict(data: dict[str, Any]) -> None:
    data["evaluations"][-1]["outcome"] = "pass"


def left_out(data: dict[str, Any]) -> None:
    del data["evaluations"][3]


def one_more(data: dict[str, Any]) -> None:
    data["evaluations"].append({**data["evaluations"][-1], "level": 5})


def twice(data: dict[str, Any]) -> None:
    data["evaluations"].append(data["evaluations"][0])


def another_order(data: dict[str, Any]) -> None:
    data["evaluations"].reverse()


def no_outcome(data: dict[str, Any]) -> None:
    data["evaluations"][0]["outcome"] = "good"


def no_such_place(data: dict[str, Any]) -> None:
    data["evaluations"][2]["disabled"] = "0-99"


def another_format(data: dict[str, Any]) -> None:
    data["format"] = "relforge.tuning/0"


def named_twice(data: dict[str, Any]) -> None:
    data["operators"][1] = data["operators"][0]


@pytest.mark.parametrize(
    "alter",
    [
        other_culprit, claims_more, fewer_evaluations, turned_verdict, left_out, one_more, twice,
        another_order, no_outcome, no_such_place, another_format, named_twice,
    ],
)  # fmt: skip
def test_evidence_that_does_not_lead_to_its_result_is_refused(
    tmp_path: Path, alter: Callable[[dict[str, Any]], None]
) -> None:
    path = written(tmp_path / "tuning.json", tune(names(40), model(["op_3", "op_20"])))
    load_tuning(path)
    data = json.loads(path.read_text())
    alter(data)
    path.write_text(json.dumps(data))
    with pytest.raises(RelforgeError) as refused:
        load_tuning(path)
    assert refused.value.code == ExitCode.SOURCE


def test_what_was_measured_is_shown_as_its_verdicts_have_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert MEASURED
    for path in MEASURED:
        assert dispatch("tune", ["--evidence", str(path), "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["state"] == "done"
        assert "mul" in shown["culprits"]
        assert shown["operators"] == 398
        assert shown["search_evaluations"] <= shown["bound"]


def test_evidence_goes_with_nothing_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--evidence", str(MEASURED[0]), "--max-evaluations", "3"]
    assert dispatch("tune", words) == 2
    assert "it runs nothing" in capsys.readouterr().err


def test_only_what_is_known_to_pass_is_said_to_go_into_the_manifest(tmp_path: Path) -> None:
    subject = {
        "release": "r",
        "place": "serve.env.OFF",
        "separator": "|",
        "already_disabled": ["x"],
    }
    truth = model(["op_3", "op_20"])
    done = output_of(tune(names(40), truth), subject, tmp_path)
    assert done.subject == "r"
    assert done.already_disabled == ("x",)
    assert done.set_in_manifest == {"serve.env.OFF": "x|op_3|op_20"}
    stopped = output_of(tune(names(40), truth, Limits(evaluations=9)), subject, tmp_path)
    assert stopped.culprits
    assert stopped.set_in_manifest == {}
    nothing: dict[str, Any] = {}
    assert output_of(tune(names(40), truth), nothing, tmp_path).subject == "unnamed"
