"""Results that cannot be, or prove nothing."""

from __future__ import annotations

import re

from tests.support.card_mutations import Mutation, appended, replaced, replaced_all
from tests.support.card_mutations.parts import (
    OF_A_MODEL,
    RESULTS,
    SERVES,
    both,
    unless,
    where,
    with_column,
    without_column,
    without_paragraphs,
)

_QUANTIZED = r"^# \S*(?:INT4|W8A8)"
_FIRST_OF_THREE = r"^(\| \w[^\n]*?) (\d\d\.\d)(\d) (\| -[^\n]*\n\|[^\n]*\n\| )"
_INTERVAL = r"interval|standard error|置信"
_COUNTS = r"^ *(?:n|questions|题数|shots) *$"
_SETTINGS = r"shots?\b|seed|greed|temperature|questions|种子"
_FOUR = ("AIME 2024", "GSM8K", "MATH-500", "GPQA-Diamond")


def _table(reference: str, own: str, values: tuple[tuple[str, str], ...]) -> str:
    rows = "".join(
        f"| {task} (acc) | {one} | {two} |\n"
        for task, (one, two) in zip(_FOUR, values, strict=True)
    )
    return f"| Task | {reference} | {own} |\n|---|---|---|\n{rows}"


_SOME = (("76.67", "73.33"), ("95.75", "95.07"), ("93.20", "92.80"), ("70.20", "69.70"))
_EQUAL = (("76.67", "76.67"), ("95.75", "95.07"), ("93.20", "93.20"), ("70.20", "69.70"))


def _both_sides(text: str) -> str | None:
    return re.sub(
        r"^(\| AIME.*?)(\d\d\.\d\d) \| (\d\d\.\d\d)", r"\1\2 (±0.67) | \3 (±0.67)", text, flags=re.M
    )


def _no_results(text: str) -> str | None:
    return RESULTS.sub("", text)


MUTATIONS = (
    Mutation(
        "evaluation-impossible-value",
        "between two counts",
        replaced(r"^(\| GSM8K[^|]*\|(?: \d+ \|)*) \d\d\.\d\d", r"\1 87.75"),
    ),
    Mutation(
        "evaluation-spread",
        "one side",
        replaced(r"^(\| GSM8K[^|]*\|(?: \d+ \|)*) (\d\d\.\d\d)", r"\1 \2 (±1.20)"),
    ),
    Mutation(
        "evaluation-spread-impossible",
        "less than a question",
        where(r"^\| AIME", _both_sides),
    ),
    Mutation("evaluation-decimals", "one fewer", replaced(_FIRST_OF_THREE, r"\1 \2 \4")),
    Mutation("evaluation-units", "a count", replaced(_FIRST_OF_THREE, r"\1 1158/1319 \4")),
    Mutation("evaluation-units", "a fraction", replaced(_FIRST_OF_THREE, r"\1 0.8779 \4"),
             along=frozenset({"evaluation-decimals"})),
    Mutation(
        "evaluation-metric-style",
        "a capital letter",
        replaced(r"^(\| GSM8K) \(acc", r"\1 (Acc"),
    ),
    Mutation(
        "evaluation-metric-missing",
        "left out",
        replaced(r"^(\| GSM8K) \(acc\w*\)(?=[^\n]*\n\| \S+ (?:2024 )?\(acc)", r"\1"),
    ),
    Mutation("evaluation-empty-column", "dashes", with_column("Split", "-")),
    Mutation("evaluation-subset", "no subset", replaced_all(r"GPQA-Diamond", "GPQA")),
    Mutation(
        "evaluation-no-settings",
        "nothing said",
        where(
            OF_A_MODEL,
            both(without_paragraphs(_SETTINGS), without_column(_COUNTS)),
        ),
    ),
    Mutation(
        "evaluation-reference-precision",
        "not said",
        replaced(r"(-\d+B), BF16 \|", r"\1 |"),
    ),
    Mutation(
        "evaluation-no-interval",
        "no interval",
        where(
            SERVES,
            unless(_QUANTIZED, both(without_column(_INTERVAL), without_paragraphs(_INTERVAL))),
        ),
    ),
    Mutation(
        "evaluation-equal-results",
        "two of four",
        where(SERVES, appended(_table("Native, BF16", "Here, BF16", _EQUAL))),
    ),
    Mutation(
        "evaluation-official",
        "a sentence",
        where(
            RESULTS,
            unless("upstream", appended("The results are consistent with the official ones.\n")),
        ),
    ),
    Mutation(
        "evaluation-no-reference",
        "no reference",
        where(_QUANTIZED, without_column("BF16")),
    ),
    Mutation(
        "evaluation-no-result",
        "no figure",
        where(SERVES, appended("## Performance benchmark\n\nRun the tool and read its output.\n")),
    ),
    Mutation("evaluation-absent", "no table", where(_QUANTIZED, _no_results)),
    Mutation(
        "evaluation-copied-column",
        "under another name",
        appended(_table("Quillwort-1-BF16", "Quillwort-1-FP16", _SOME)),
        beside=lambda text: text + "\n" + _table("Quillwort-2-BF16", "Quillwort-2-FP16", _SOME),
    ),
    Mutation(
        "evaluation-swapped-columns",
        "the other way round",
        appended(_table("Quillwort-1-BF16", "Quillwort-1-FP16", _SOME)),
        beside=lambda text: text + "\n" + _table("Quillwort-1-FP16", "Quillwort-1-BF16", _SOME),
    ),
)  # fmt: skip
