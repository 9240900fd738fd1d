"""A tuning as JSON, with one evaluation a line; and what of it can be read back.

Format ``relforge.tuning/1``: ``subject`` (what was evaluated, in the words of who did), ``limits``,
``suspects``, ``operators``, ``result``, and ``evaluations`` in the order they were made. A set of
operators is written as positions in ``operators``: ``0-3 7``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from relforge.tuning.asking import Asked, Evaluation, Found, Limits
from relforge.tuning.search import Tuning

FORMAT = "relforge.tuning/1"


def positions(names: Collection[str], operators: Sequence[str]) -> str:
    """The names as ranges of positions: ``0-3 7``; empty for none."""
    chosen = [place for place, operator in enumerate(operators) if operator in names]
    runs: list[list[int]] = []
    for place in chosen:
        if runs and runs[-1][1] == place - 1:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def names_at(text: str, operators: Sequence[str]) -> frozenset[str]:
    """The names at these positions. Raises ValueError for what ``positions`` never writes."""
    found: list[str] = []
    for run in text.split():
        first, _, last = run.partition("-")
        places = range(int(first), int(last or first) + 1)
        if not places or places[-1] >= len(operators):
            raise ValueError(f"no operators stand at {run}")
        found.extend(operators[place] for place in places)
    names = frozenset(found)
    if positions(names, operators) != text:
        raise ValueError(f"{text!r} is not how positions are written")
    return names


def row_of(evaluation: Evaluation, operators: Sequence[str]) -> dict[str, Any]:
    """One evaluation as it is written."""
    asked, found = evaluation.asked, evaluation.found
    row: dict[str, Any] = {
        "purpose": evaluation.purpose,
        "disabled": positions(asked.disabled, operators),
        "part": asked.part,
        "level": asked.level,
        "outcome": found.outcome,
        "n": found.n,
        "seconds": round(found.seconds, 3),
        "reason": found.reason,
    }
    return row if found.evidence is None else {**row, "evidence": found.evidence}


def evaluation_of(row: Mapping[str, Any], operators: Sequence[str]) -> Evaluation:
    """What ``row_of`` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    if row["outcome"] not in ("pass", "fail", "inconclusive"):
        raise ValueError(f"{row['outcome']!r} is no outcome")
    return Evaluation(
        Asked(names_at(row["disabled"], operators), int(row["part"]), int(row["level"])),
        Found(
            row["outcome"],
            str(row["reason"]),
            n=int(row["n"]),
            seconds=float(row["seconds"]),
            evidence=row.get("evidence"),
        ),
        row["purpose"],
    )


def result_of(tuning: Tuning) -> dict[str, Any]:
    """The result, with the figures that the evaluations give."""
    count, total = len(tuning.culprits), len(tuning.operators)
    return {
        "state": tuning.state,
        "reason": tuning.reason,
        "culprits": list(tuning.culprits),
        "suspects": list(tuning.suspects),
        "given_back": list(tuning.given_back),
        "interactions": [
            {"operator": one.operator, "others": list(one.others)} for one in tuning.interactions
        ],
        "confirmed": tuning.confirmed,
        "smallest": tuning.smallest,
        "evaluations": tuning.count(),
        "search_evaluations": tuning.count("search"),
        "bound": round(2 * count * math.log2(total), 1) if count and total > 1 else None,
        "seconds": round(sum(one.found.seconds for one in tuning.evaluations), 3),
    }


def record(
    tuning: Tuning,
    *,
    subject: Mapping[str, Any],
    limits: Limits,
    suspects: Sequence[str] = (),
) -> dict[str, Any]:
    """The whole evidence."""
    return {
        "format": FORMAT,
        "subject": dict(subject),
        "limits": {
            "evaluations": limits.evaluations,
            "seconds": limits.seconds,
            "levels": limits.levels,
        },
        "suspects": list(suspects),
        "operators": list(tuning.operators),
        "result": result_of(tuning),
        "evaluations": [row_of(one, tuning.operators) for one in tuning.evaluations],
    }


def text_of(evidence: Mapping[str, Any]) -> str:
    """JSON with one evaluation per line, so that it reads and diffs."""
    parts = [
        f'  "{name}": {json.dumps(evidence[name], ensure_ascii=False, allow_nan=False)}'
        for name in ("format", "subject", "limits", "suspects", "operators", "result")
    ]
    rows = ",\n".join(
        f"    {json.dumps(row, ensure_ascii=False, allow_nan=False)}"
        for row in evidence["evaluations"]
    )
    return "{\n" + ",\n".join(parts) + f',\n  "evaluations": [\n{rows}\n  ]\n}}\n'
