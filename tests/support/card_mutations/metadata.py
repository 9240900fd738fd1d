"""What a hub and its readers look for first, taken away."""

from __future__ import annotations

import re

from tests.support.card_mutations import Mutation, appended, replaced, replaced_all
from tests.support.card_mutations.parts import OF_A_MODEL, SERVES, both, unless, where

_NO_HEAD = replaced(r"\A---\n[\s\S]*?^---\n+", "")
_LINK = r"\[([^\]]*)\]\(https?://[^)]*licen[^)]*\)|<(https)?://[^>]*LICEN[^>]*>"
_NO_LICENCE_FIELD = replaced(r"^license:.*\n", "")


def _other_licence(match: re.Match[str]) -> str:
    return "license: " + ("apache-2.0" if match[1] == "mit" else "mit")


def _to_apache(text: str) -> str:
    text = re.sub(r"^license: mit$", "license: apache-2.0", text, flags=re.M)
    return re.sub(r"\bMIT( License)?\b", "Apache License 2.0", text)


def _no_devices(text: str) -> str | None:
    if re.search("CPU|card|core|parallel_size", text):
        return None
    kinds = r"(?=[^\n|]{0,24}?(?:GPU|NPU|card))"
    text = re.sub(rf"(?i)\b(?:one|two|four|eight|sixteen|\d+){kinds}|(?<=在)一张", "some", text)
    text = re.sub(r"--gpus (?:\d|'\"device=0\"')", "--rm", text, count=1)
    text = re.sub(r"(?:\s*\\\n)?\s*--tensor-parallel-size \d+", "", text)
    return re.sub(r"(?:--device /dev/\w+\d\s*(?:\\\n\s*)?)+", "--device /dev/accel ", text)


MUTATIONS = (
    Mutation(
        "metadata-front-matter",
        "none",
        where(SERVES, _NO_HEAD),
        along=frozenset({"metadata-quantized-relation"}),
    ),
    Mutation(
        "metadata-front-matter",
        "broken",
        replaced(r"\A---\nlicense: .*", "---\nlicense: [mit"),
        along=frozenset({"metadata-quantized-relation"}),
    ),
    Mutation("metadata-empty-field", "base model", replaced(r"^base_model: .*", "base_model:")),
    Mutation("metadata-empty-field", "licence", replaced(r"^license: .*", 'license: ""')),
    Mutation(
        "metadata-licence-conflict",
        "another one",
        replaced(r"^license: (mit|apache-2\.0)$", _other_licence),
    ),
    Mutation(
        "metadata-no-licence",
        "none",
        where(
            OF_A_MODEL,
            both(
                _NO_LICENCE_FIELD,
                replaced(r"^##? (?:Licen[cs]e|许可证)\n[\s\S]*?(?=^#|\Z)", ""),
            ),
        ),
    ),
    Mutation(
        "metadata-licence-text",
        "no link",
        where(
            SERVES,
            both(
                _NO_LICENCE_FIELD,
                replaced_all(
                    _LINK, r"\1\2"
                ),
            ),
        ),
    ),
    Mutation(
        "metadata-licences-differ",
        "another card",
        where(r"^license: mit$", appended("The weights were not changed.\n")),
        beside=_to_apache,
    ),
    Mutation(
        "metadata-quantized-relation",
        "no relation",
        replaced(r"^base_model_relation: quantized\n", ""),
    ),
    Mutation(
        "metadata-no-versions",
        "none",
        where(
            SERVES,
            replaced_all(r"(?<![\d.=:])\d+\.\d+\.\d+(?!\.?\d|:)|\b5\d\d\.\d+(?:\.\d+)?", "current"),
        ),
    ),
    Mutation(
        "metadata-no-date",
        "none",
        where(SERVES, replaced_all(r"2025-\d\d-\d\d|2 April 2025", "a Friday")),
    ),
    Mutation("metadata-no-devices", "none", where(SERVES, _no_devices)),
    Mutation(
        "metadata-no-title",
        "a general word",
        where(
            OF_A_MODEL,
            unless(
                r"^# Contributing",
                both(replaced(r"^# .*", "# Introduction"), replaced_all(r"^## ", "# ")),
            ),
        ),
        along=frozenset({"identity-own-name", "markup-heading-level"}),
    ),
)  # fmt: skip
