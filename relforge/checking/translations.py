"""Translations of sentences that no manifest has (any more): a changed sentence lost its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from relforge.checking.rules import Contradiction
from relforge.frozen import Frozen
from relforge.manifest.translations import Translations


def of_translations(
    translations: Translations, manifests: Iterable[Frozen]
) -> Iterator[Contradiction]:
    """``manifests`` are all devices, models and releases of the project."""
    said = {text for one in manifests for text in _texts(one.model_dump(mode="json"))}
    for sentence in translations.sentences:
        if sentence not in said:
            yield Contradiction(
                ("sentences", sentence),
                f"no manifest says {sentence!r}",
                "cards look sentences up as manifests have them, and would stay English",
                "write the sentence as the manifest has it now, or remove its translation",
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
