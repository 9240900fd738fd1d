"""Translations: what manifests say in English, for cards in another language."""

from __future__ import annotations

from typing import Literal

from relforge.frozen import Frozen


class Translations(Frozen):
    """Sentences as a manifest has them, and what they are in the language."""

    kind: Literal["translations"]
    language: Literal["zh"]
    """``zh``: Chinese."""
    sentences: dict[str, str]
    """English sentence to translated one."""
