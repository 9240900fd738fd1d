"""Renders a card; the same data gives the same bytes."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.card.data import CardData
from relforge.ui.text import size

if TYPE_CHECKING:
    from jinja2 import Template


@lru_cache(maxsize=1)
def _template() -> Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the output is Markdown
    )
    environment.filters["size"] = size
    return environment.get_template("card.md.j2")


def render(card: CardData) -> str:
    """The card as Markdown."""
    text = _template().render(card=card)
    return re.sub(r"\n{3,}", "\n\n", text)
