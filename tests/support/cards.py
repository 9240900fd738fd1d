"""The cards of the shipped releases, as `relforge card` writes them where nothing was built."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from relforge.card.collect import material_of
from relforge.card.gather import gather
from relforge.card.model import CardData, Language, Target
from relforge.card.output import card_files, card_name
from relforge.evidence.store import Store
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site
from relforge.pipeline import STAGES
from relforge.plan import make_plan, subject

PROJECT = Project((builtin_root(),))


@cache
def card_data(release: str) -> CardData:
    """The data of a release's card, without any evidence."""
    loaded = subject(PROJECT, PROJECT.release(release), Site())
    with TemporaryDirectory() as home:
        return gather(material_of(make_plan(loaded, STAGES, Store(Path(home)))))


@cache
def shipped_card(release: str, language: Language = "en", target: Target = "hf") -> str:
    """The card of a shipped release. Every wording of ours has its translation."""
    files, (words,) = card_files(
        card_data(release),
        target=target,
        languages=[language],
        prose={language: PROJECT.translations(language)},
    )
    assert not words.missing, words.missing
    assert not words.untranslated, words.untranslated
    return files[card_name(language)].decode()
