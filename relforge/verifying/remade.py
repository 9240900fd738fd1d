"""The cards of a release, written again from its record alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from relforge.card.gather import gather
from relforge.card.model import CardData, Language
from relforge.card.output import LANGUAGES, Free
from relforge.manifest.device import Device
from relforge.manifest.model import Model
from relforge.manifest.reference import ReferenceFigures
from relforge.manifest.release import Release
from relforge.stages.card import CardInputs, material_for, written
from relforge.verifying.upstream import upstream


class Translatable(dict[str, str]):
    """Answers for every sentence that may have a translation, so that its lines can be found."""

    def __bool__(self) -> bool:
        return True

    def get(self, key: str, default: Any = None) -> Any:
        return f"\u2402{key}" if _is_prose(key) else default


def card_data(record: Mapping[str, Any]) -> tuple[CardData, Free]:
    """What the card says, and the free texts by language.

    Raises KeyError, ValidationError for a record that another version of relforge wrote.
    """
    # Stages that there were not when an older record was written had no key.
    stages = {name: None for name in CardInputs.model_fields if name.endswith("_key")}
    values = {**stages, **record["inputs"]["card"]["values"]}
    values |= {
        "release": Release.model_validate(values["release"]),
        "device": Device.model_validate(values["device"]),
        "model": Model.model_validate(values["model"]),
        "references": [ReferenceFigures.model_validate(one) for one in values["references"]],
    }
    inputs = CardInputs.model_validate(values)
    return gather(material_for(inputs, upstream(record))), cast(Free, inputs.free)


def cards(
    record: Mapping[str, Any], project: Path | None
) -> tuple[dict[str, str], dict[str, frozenset[int]]]:
    """Cards by name; and of each the lines, from 0, whose words a translation of the project may
    have replaced: none where ``project`` has the translations.

    Raises KeyError, ValidationError, RelforgeError.
    """
    data, free = card_data(record)
    prose: dict[Language, Mapping[str, str]] = {}
    if project is not None:
        from relforge.manifest.project import find_project

        found = find_project(project, project)
        prose = {language: found.translations(language) for language in LANGUAGES}
    files = written(data, free, prose)
    texts = {name: raw.decode() for name, raw in files.items()}
    loose: dict[str, frozenset[int]] = {}
    if project is None:
        others = (language for language in LANGUAGES if language != "en")
        marked = written(data, free, {language: Translatable() for language in others})
        for name, text in texts.items():
            other = marked[name].decode().split("\n")
            plain = text.split("\n")
            if len(other) == len(plain):
                differ = (n for n, line in enumerate(plain) if line != other[n])
                loose[name] = frozenset(differ)
    return texts, loose


def _is_prose(text: str) -> bool:
    """Whether it has at least two words: names, digests and figures have no translation."""
    return sum(word.strip(".,;:()").isalpha() for word in text.split()) >= 2
