"""Every word of the cards against record and evidence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from relforge.benching.model import LevelFigures
from relforge.verifying.files import Files, at
from relforge.verifying.measured import shown
from relforge.verifying.report import Outcome, judged

CARD = "README.md"
_HASH = re.compile(r"[0-9a-f]{64}")
_FIGURE = re.compile(r"\d[\d.,]*\d|\d")
_HEAD = re.compile(r"\A---\n(.*?)^---\n", re.S | re.M)


def card(files: Files, record: Mapping[str, Any], project: Path | None) -> Outcome:
    """The cards are what relforge writes from this record, word for word.

    A card whose wording another version of relforge made is compared figure by figure.
    """
    if "card" not in (record.get("inputs") or {}):
        return judged(_by_figures(files, record, None), _said(record))
    try:
        from relforge.card.fingerprint import generator_sha256
        from relforge.verifying.remade import cards

        texts, loose = cards(record, project)
    except (KeyError, TypeError, ValidationError):
        # Manifests and results of another version of relforge.
        said = f"{_said(record)}; another version of relforge wrote the card and its record"
        return judged(_by_figures(files, record, None), said)
    problems = list(_by_words(files, texts, loose))
    same_words = at(record, "inputs", "card", "values", "generator") == generator_sha256()
    if problems and not same_words:
        found = list(_by_figures(files, record, texts[CARD]))
        return judged(
            found,
            f"{_said(record)}; another version of relforge worded the card, so that figures were "
            "compared and sentences were not",
        )
    count = sum(len(text.splitlines()) for text in texts.values())
    translated = sum(len(lines) for lines in loose.values())
    more = (
        f"; {translated} of them are translated, and only their figures were compared "
        "(--project DIR compares the words)"
        if translated
        else ""
    )
    return judged(
        problems,
        f"{len(texts)} files, {count} lines: just what the record's results give{more}",
    )


def _by_words(
    files: Files, texts: Mapping[str, str], loose: Mapping[str, frozenset[int]]
) -> Iterator[str]:
    for name, text in texts.items():
        if name not in files.names:
            yield f"{name} is not there"
            continue
        try:
            published = files.read(name).decode()
        except UnicodeDecodeError:
            yield f"{name} is not UTF-8"
            continue
        ours, theirs = text.split("\n"), published.split("\n")
        for number, (wanted, found) in enumerate(zip_longest(ours, theirs)):
            if wanted == found:
                continue
            moved = wanted is None or found is None or len(ours) != len(theirs)
            if not moved and number in loose.get(name, ()) and _figures(wanted) == _figures(found):
                continue
            where = f"{name}:{number + 1}"
            yield f"{where} has {_quoted(found)}, the record gives {_quoted(wanted)}"
            if moved:
                break
    known = {*texts}
    for name in files.names:
        if name.startswith(("README", ".eval_results/")) and name not in known:
            yield f"{name} is no card of this record"


def _by_figures(files: Files, record: Mapping[str, Any], text: str | None) -> Iterator[str]:
    """Digest, lock, scores, loads, and every hash; with ``text``, as it would be worded now, every
    row of its tables."""
    card_text = files.read(CARD).decode()
    for name, value in (("image", record["image_digest"]), ("lock", record["lock_sha256"])):
        if value not in card_text:
            yield f"the card does not have the {name} of the record, {value}"
    tasks = (record["results"].get("evaluate") or {}).get("tasks") or []
    for task in tasks:
        cell = f"{task['result_percent']:.2f} % ({task['result_correct']})"
        if cell not in card_text:
            yield f"the card does not have the result of {task['task']}, {cell}"
    report = (record["results"].get("bench") or {}).get("report") or {}
    for level in report.get("levels") or () if report.get("verdict") == "pass" else ():
        known_level = LevelFigures.model_validate(level["figures"])
        rate = f"{known_level.request_per_s:.2f} | {known_level.output_tokens_per_s:.1f} |"
        if rate not in card_text:
            at_once = known_level.concurrency
            yield f"the card does not have the rates of {at_once} requests at once, {rate[:-2]}"
    known = set(_HASH.findall(str(record)))
    for digest in sorted(set(_HASH.findall(card_text)) - known):
        yield f"the card has a hash that the record does not know: {digest}"
    yield from _scores_of_head(card_text, tasks)
    if text is not None:
        yield from _rows(card_text, text)


def _rows(published: str, again: str) -> Iterator[str]:
    """Rows with figures, found by their first cell."""
    wanted: dict[str, list[Counter[str]]] = {}
    for label, figures in _labelled(again):
        wanted.setdefault(label, []).append(figures)
    for label, figures in _labelled(published):
        if label in wanted and figures not in wanted[label]:
            yield (
                f"the card's row {shown(label)!r} has {_listed(figures)}, the record gives "
                f"{' or '.join(_listed(one) for one in wanted[label])}"
            )


def _labelled(text: str) -> Iterator[tuple[str, Counter[str]]]:
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|-"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if len(cells) > 1 and (figures := _figures(" ".join(cells[1:]))):
                yield cells[0], figures


def _scores_of_head(card_text: str, tasks: list[Mapping[str, Any]]) -> Iterator[str]:
    """What hubs show: the scores in the card's head."""
    head = _HEAD.match(card_text)
    if head is None:
        return
    try:
        data = yaml.safe_load(head[1])
        scores = [
            (result["dataset"]["name"], metric["value"])
            for model in data.get("model-index") or []
            for result in model["results"]
            for metric in result["metrics"]
        ]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, RecursionError):
        yield "the card's head cannot be read"
        return
    known = {round(float(task["result_percent"]), 4) for task in tasks}
    for name, value in scores:
        if tasks and value not in known:
            yield f"the card's head gives {shown(value)} for {shown(name)}, which no task has"


def _figures(text: str) -> Counter[str]:
    return Counter(_FIGURE.findall(text))


def _listed(figures: Counter[str]) -> str:
    return shown(", ".join(sorted(figures.elements()))) or "no figure"


def _quoted(line: str | None) -> str:
    return "no line" if line is None else repr(shown(line))


def _said(record: Mapping[str, Any]) -> str:
    tasks = (record["results"].get("evaluate") or {}).get("tasks") or []
    scores = "1 score" if len(tasks) == 1 else f"{len(tasks)} scores"
    return f"digest, lock and {scores} are those of record and evidence"
