"""Names that contradict each other."""

from __future__ import annotations

import re

from tests.support.card_mutations import Mutation, appended, replaced, replaced_all
from tests.support.card_mutations.parts import OF_A_MODEL, block, both, unless, where

_QUANTIZED = r"^# \S*(?:INT4|W8A8)"
_FEWEST_WORDS = 12


def _title(text: str) -> str:
    found = re.search(r"^# ([A-Z]\w+-[\w-]+)", text, re.M)
    return found[1] if found else ""


def _shouted(text: str) -> str | None:
    family = _title(text).partition("-")[0]
    return appended(f"The {family.upper()} answers in English.\n")(text) if family else None


def _broken(text: str) -> str | None:
    name = _title(text)
    if name.count("-") < 2:
        return None
    return appended(f"See {name.replace('-', '- ', 1)} for more.\n")(text)


def _other_size(text: str) -> str | None:
    family = _title(text).partition("-")[0]
    return appended(f"## Serving {family}-999B\n\nThe same.\n")(text) if family else None


def _other_column(text: str) -> str | None:
    first, *middle, last = _title(text).split("-") if "-" in _title(text) else ("", "")
    return replaced(rf"\| {_title(text)} \|", f"| {first}-X9-{last} |")(text) if middle else None


def _served(text: str) -> str | None:
    family, _, rest = _title(text).partition("-")
    name = f"{family}_{rest.partition('-')[0]}".lower()
    return appended(block("bash", f"launcher serve {name}"))(text)


def _repeated(text: str) -> str | None:
    for section in re.findall(r"^## [^`]*?(?=^#|\Z)", text, re.M):
        if len(set(re.findall(r"\w{3,}", section.partition("\n")[2]))) >= _FEWEST_WORDS:
            return appended(section.rstrip("\n") + "\n")(text)
    return None


MUTATIONS = (
    Mutation("identity-spelling", "capitals", _shouted),
    Mutation(
        "identity-spelling",
        "a v before the number",
        where(OF_A_MODEL, appended("Made for the QB150; the image is called qb_V150.\n")),
    ),
    Mutation("identity-spelling", "a blank", _broken),
    Mutation(
        "identity-foreign-name",
        "a contact",
        where(
            OF_A_MODEL,
            appended("| File | Use | Palisade |\n|---|---|---|\n| image | runs it | <a@b.org> |\n"),
        ),
    ),
    Mutation("identity-foreign-name", "a heading", _other_size),
    Mutation(
        "identity-foreign-link",
        "another model",
        where(OF_A_MODEL, appended("[Weights](https://huggingface.co/lab/Quillwort-9B).\n")),
    ),
    Mutation("identity-own-name", "a column", unless(", BF16", _other_column)),
    Mutation("identity-precision-dropped", "served", where(_QUANTIZED, _served)),
    Mutation(
        "identity-precision-dropped",
        "nowhere explained",
        where(
            _QUANTIZED,
            replaced_all(r"(?i)(?<!-)\b(?:INT4|W8A8|4-bit|8 bits|quanti[sz]\w*)\b", "small"),
        ),
        along=frozenset({"metadata-quantized-relation"}),
    ),
    Mutation(
        "identity-other-weights",
        "the original",
        replaced(r"(download --model \S+)-(?:INT4|W8A8)", r"\1"),
    ),
    Mutation("identity-device-kind", "other nodes", replaced_all(r"/dev/tern", "/dev/xpu")),
    Mutation(
        "identity-foreign-precision",
        "a sentence",
        where(
            _QUANTIZED,
            both(
                lambda text: re.sub(r"INT4|int4", "W4A16", text),
                appended("With w3a11 weights the cache is larger.\n"),
            ),
        ),
    ),
    Mutation("identity-repeated-section", "copied", _repeated),
)
