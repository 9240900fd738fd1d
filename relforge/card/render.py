"""Renders a card; the same data gives the same bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from relforge import PROJECT
from relforge.card.metadata import front_matter
from relforge.card.model import CardData, Code, Target
from relforge.card.words import Words
from relforge.ui.text import size

if TYPE_CHECKING:
    from jinja2 import Environment

# After these marks of Chinese text no blank is written: 、 and those of the full-width forms.
_SPACED = "\u3001\u3002\uff0c\uff1a\uff1b\uff01\uff1f\uff08\uff09"


@lru_cache(maxsize=1)
def _environment() -> Environment:
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
    # A bar ends a cell, also in a code span.
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")
    return environment


def render(
    card: CardData,
    words: Words,
    target: Target = "hf",
    *,
    free: Mapping[str, str] | None = None,
) -> str:
    """The card as Markdown. ``free`` is what people wrote into its free-text blocks, by name."""

    def worded(text: str, **values: object) -> str:
        return words.filled(text, values)

    body = (
        _environment()
        .get_template("card.md.j2")
        .render(
            card=card,
            project=PROJECT,
            _=worded,
            say=words.say,
            prose=words.prose_of,
            known=words.maybe,
            code=lambda block: code_block(block, words),
            free=lambda name: free_block(name, ""),
        )
    )
    body = tidy(body)
    # Only now: what people wrote keeps its lines, whatever they are.
    for name, text in (free or {}).items():
        body = body.replace(free_block(name, ""), free_block(name, text))
    return front_matter(card, target) + body


def tidy(text: str) -> str:
    """Joins the sentences of a paragraph, and leaves one blank line between parts.

    Code blocks, tables, lists and comments keep their lines.
    """
    found: list[str] = []
    fenced = False
    for line in text.splitlines():
        fence = line.startswith("```")
        plain = bool(line) and not fenced and not fence and not re.match(r"[|#<!-]|\d+\. ", line)
        if plain and found and _is_sentence(found[-1]):
            glue = "" if found[-1][-1] in _SPACED else " "
            found[-1] += glue + line
        elif line or fenced or (found and found[-1]):
            found.append(line.rstrip() if not fenced else line)
        if fence:
            fenced = not fenced
    return "\n".join(found).strip() + "\n"


def _is_sentence(line: str) -> bool:
    return bool(line) and not line.startswith(("|", "#", "<", "!", "-", "```"))


def code_block(block: Code, words: Words) -> str:
    """A fenced block with its title, and the comment that tells a test what it is."""
    marks = [f"relforge:step {block.step}"] if block.step else []
    if marks and block.ready:
        marks.append(f"ready={block.ready}")
    if marks and block.background:
        marks.append("background")
    if marks and block.needs:
        marks.append(f"needs={','.join(block.needs)}")
    parts = [words.say(block.title), ""] if block.title else []
    parts += [f"<!-- {' '.join(marks)} -->"] if marks else []
    parts.append(f"```{block.language}\n{block.text}\n```")
    if block.expect is not None and block.step != "request":
        parts += ["", words.text("It prints:"), "", "<!-- relforge:expect -->"]
        parts.append(f"```text\n{block.expect}\n```")
    return "\n".join(parts)


def free_block(name: str, text: str) -> str:
    """A place for what people write; it stays when the card is written anew."""
    inner = f"{text}\n" if text else ""
    return f"<!-- relforge:free {name} -->\n{inner}<!-- relforge:end {name} -->"
