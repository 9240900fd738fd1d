"""The wordings of cards: English in templates and parts, other languages in files by it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from relforge.card.model import Language, Said
from relforge.manifest.loader import load
from relforge.manifest.translations import Translations

# No blank stands beside Chinese text, but where Latin text begins or ends.
_GAP = re.compile(r"(?<=[\u3001-\u9fff\uff01-\uff5e]) +(?=[\u3001-\u9fff\uff01-\uff5e])")
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Words:
    """One language. ``prose`` are the project's own sentences, by the English that its manifests
    have; ``missing`` gathers wordings of ours without a translation, ``untranslated`` theirs."""

    language: Language
    known: Mapping[str, str]
    prose: Mapping[str, str] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    untranslated: set[str] = field(default_factory=set)

    def text(self, text: str) -> str:
        """A wording of ours."""
        if self.language == "en":
            return text
        found = self.known.get(text)
        if found is None:
            self.missing.add(text)
            return text
        return found

    def prose_of(self, text: str) -> str:
        """What a manifest says."""
        if self.language == "en":
            return text
        found = self.prose.get(text) or self.known.get(text)
        if found is None:
            self.untranslated.add(text)
            return text
        return found

    def maybe(self, text: str) -> str:
        """What may have a translation, and names of products that need none."""
        return self.prose.get(text) or self.known.get(text, text)

    def say(self, said: Said) -> str:
        """A sentence with its values."""
        values = {
            name: self.maybe(value) if isinstance(value, str) else value
            for name, value in said.values.items()
        }
        if said.text == "%(value)s":
            return str(values["value"])
        return self.filled(said.text, values)

    def filled(self, text: str, values: Mapping[str, object]) -> str:
        """A wording of ours with its values in it."""
        filled = self.text(text) % values
        return filled if self.language == "en" else _GAP.sub("", filled)


def words_of(language: Language, prose: Mapping[str, str] | None = None) -> Words:
    """The words of a language, with the project's translations of its own sentences."""
    return Words(language, _known(language), prose or {})


@lru_cache
def _known(language: Language) -> Mapping[str, str]:
    if language == "en":
        return {}
    return load(_FOLDER / f"{language}.yaml", Translations).sentences
