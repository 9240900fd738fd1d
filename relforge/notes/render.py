"""Release notes as Markdown, in English or Chinese; the same notes give the same bytes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.card.model import Language
from relforge.card.render import tidy
from relforge.card.words import Words
from relforge.manifest.loader import load
from relforge.manifest.translations import Translations
from relforge.notes.model import Notes
from relforge.ui.text import size

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent


def render(notes: Notes, language: Language = "en") -> str:
    """The notes in one language. A wording without a translation stays English."""
    return render_with(notes, words_of(language))


def render_with(notes: Notes, words: Words) -> str:
    """The same with words that gather what has no translation."""

    def worded(text: str, **values: object) -> str:
        return words.filled(text, values)

    template = _environment().get_template("notes.md.j2")
    return tidy(template.render(notes=notes, _=worded, known=words.maybe))


def words_of(language: Language) -> Words:
    """The words of release notes in a language."""
    return Words(language, {} if language == "en" else _known(language))


@lru_cache
def _known(language: Language) -> dict[str, str]:
    return dict(load(_FOLDER / "words" / f"{language}.yaml", Translations).sentences)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the output is Markdown
    )
    environment.filters.update(size=size, code=code)
    environment.globals["grown"] = grown
    return environment


def code(value: object) -> str:
    """A value as a code span that also stands in a table; a long one is cut at its end."""
    text = " ".join(str(value).split())
    text = f"{text[:200]}…" if len(text) > 200 else text
    # A span that holds backticks has longer fences (CommonMark, 6.1); a bar would end the cell.
    fence = "`"
    while fence in text:
        fence += "`"
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", "\\|")


def grown(before: int | None, after: int | None) -> str:
    """The difference of two sizes, with its percent of the earlier: ``+1.2 MB (+3.4 %)``."""
    if before is None or after is None:
        return ""
    change = after - before
    if change == 0:
        return "0 B"
    sign = "+" if change > 0 else "-"
    return f"{sign}{size(abs(change))}" + (f" ({percent(before, after)})" if before else "")


def percent(before: float, after: float) -> str:
    """The change in percent of the earlier value."""
    change = 100 * (after - before) / before
    return f"{change:+.1f} %" if abs(change) >= 0.05 else "0.0 %"
