"""A card as files: both languages, and what hubs read beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from relforge.card.blocks import free_texts
from relforge.card.metadata import eval_results
from relforge.card.model import CardData, Language, Target
from relforge.card.render import render
from relforge.card.words import Words, words_of
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.publishing.published import HUB_CARDS

LANGUAGES: tuple[Language, ...] = ("en", "zh")
_NAMES: dict[Language, str] = {"en": "README.md", "zh": "README_zh.md"}
Free = Mapping[Language, Mapping[str, str]]


class CardOutput(Frozen):
    """One release in what ``relforge card --json`` prints; stable.

    ``stale`` are files that differ from what they should be, or are not there.
    """

    release: str
    folder: str
    files: tuple[str, ...]
    stale: tuple[str, ...]


class CardsOutput(Frozen):
    """What ``relforge card --json`` prints; stable."""

    cards: tuple[CardOutput, ...]


def card_name(language: Language) -> str:
    """The file of a language, beside the others."""
    return _NAMES[language]


def card_files(
    card: CardData,
    *,
    target: Target = "hf",
    languages: Iterable[Language] = LANGUAGES,
    free: Free | None = None,
    prose: Mapping[Language, Mapping[str, str]] | None = None,
) -> tuple[dict[str, bytes], tuple[Words, ...]]:
    """The files by their names in the release's folder, and the words that they were made with.

    ``free`` is what people wrote, ``prose`` the project's translations. Raises RelforgeError (GATE)
    for metadata that a hub's library does not accept.
    """
    files: dict[str, bytes] = {}
    used = []
    for language in languages:
        words = words_of(language, (prose or {}).get(language))
        text = render(card, words, target, free=(free or {}).get(language))
        files[card_name(language)] = text.encode()
        used.append(words)
    if target == "hf":
        files |= eval_results(card)
    return files, tuple(used)


def cards_of_hubs(
    card: CardData,
    *,
    free: Free | None = None,
    prose: Mapping[Language, Mapping[str, str]] | None = None,
) -> dict[str, bytes]:
    """The same card with the heads of other hubs than Hugging Face, by their names in the
    release's folder: ``cards/modelscope/README.md``."""
    files, _ = card_files(card, target="modelscope", free=free, prose=prose)
    return {f"{HUB_CARDS}modelscope/{name}": data for name, data in files.items()}


def kept_texts(
    folder: Path, languages: Iterable[Language] = LANGUAGES
) -> dict[Language, dict[str, str]]:
    """What people wrote into the cards of a folder, by language and block.

    Raises RelforgeError (GATE) where it cannot be told, so that no text is lost.
    """
    found: dict[Language, dict[str, str]] = {}
    for language in languages:
        path = folder / card_name(language)
        if path.is_file():
            texts = free_texts(_read(path), str(path))
            if texts:
                found[language] = texts
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RelforgeError(
            "the card that is there is not UTF-8, and what people wrote into it would be lost",
            code=ExitCode.GATE,
            where=str(path),
            why=f"byte {error.start}: {error.reason}",
            hint="convert it (iconv -f CURRENT -t UTF-8), or move the card away",
        ) from error
