"""How many questions well-known tasks have, for figures that were published without saying so."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Dataset:
    """A task as its publishers have it, and the part of it whose score is usually published."""

    name: str
    n: int
    part: str
    source: str
    also: tuple[str, ...] = ()
    """Other names, as tools write them."""


DATASETS = (
    Dataset("GSM8K", 1319, "test", "Cobbe et al. 2021, arXiv 2110.14168"),
    Dataset(
        "MMLU",
        14042,
        "test, 57 subjects",
        "Hendrycks et al. 2021, arXiv 2009.03300; the same in AISBench's weights of its subjects",
    ),
    Dataset(
        "C-Eval",
        1346,
        "validation, 52 subjects; the test part has 12342",
        "hkust-nlp/ceval:README.md@cba65ae9: labels of the test part were not released until July "
        "2025, and AISBench, evalscope and lm-eval ask the validation part",
        also=("ceval-valid",),
    ),
    Dataset("AIME 2024", 30, "AIME I and II", "15 questions in each paper", also=("aime24",)),
    Dataset("GPQA-Diamond", 198, "diamond", "Rein et al. 2023, arXiv 2311.12022"),
    Dataset("MATH-500", 500, "test", "Lightman et al. 2023, arXiv 2305.20050"),
)


def same_task(name: str, other: str) -> bool:
    """Whether two names mean one task: ``GPQA_diamond`` and ``GPQA-Diamond``."""
    return _key(name) == _key(other)


def dataset_of(task: str) -> Dataset | None:
    """The well-known task of that name."""
    return next((one for one in DATASETS if _plain(one.name) == _key(task)), None)


def _key(name: str) -> str:
    plain = _plain(name)
    return next(
        (_plain(one.name) for one in DATASETS if plain in map(_plain, one.also)),
        plain,
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
