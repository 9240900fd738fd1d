"""Every card, as a reader sees it: in a real browser, tables, code and charts readable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from relforge.benching.chart import svg
from tests.support import benching
from tests.support.cards import PROJECT, shipped_card
from tests.support.pages import as_page, browser, keep
from tests.unit.test_card import FIGURES
from tests.unit.test_card import card as built_card

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_LOOK = """() => {
  const shown = e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0; };
  const all = s => [...document.querySelectorAll(s)];
  return {
    headings: all('h1,h2,h3').map(e => e.innerText),
    tables: all('table').map(t => ({
      columns: [...new Set([...t.rows].map(r => r.cells.length))],
      empty: [...t.rows].flatMap(r => [...r.cells]).filter(c => !c.innerText.trim()).length,
      shown: shown(t),
    })),
    code: all('pre code').map(e => ({
      language: e.className, text: e.innerText, shown: shown(e),
      size: parseFloat(getComputedStyle(e).fontSize),
    })),
    images: all('img').map(e => ({ src: e.getAttribute('src'), loaded: e.naturalWidth > 0,
                                   width: e.getBoundingClientRect().width, alt: e.alt })),
    links: all('a').map(a => a.getAttribute('href')),
    text: document.body.innerText,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  };
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    opened = chromium.new_page(viewport={"width": 1280, "height": 900})
    yield opened
    opened.close()


def look_at(page: Page, card: str, folder: Path, name: str) -> dict[str, Any]:
    """Opens the card as a page in a folder, where its pictures lie."""
    (folder / "page.html").write_text(as_page(card))
    page.goto((folder / "page.html").as_uri())
    keep(page.screenshot(full_page=True), name)
    seen = page.evaluate(_LOOK)
    assert isinstance(seen, dict)
    return seen


def assert_readable(seen: dict[str, Any], card: str) -> None:
    assert seen["overflow"] <= 0, "the page is wider than the window"
    assert len(seen["headings"]) == len(set(seen["headings"])) > 8
    for table in seen["tables"]:
        assert table["shown"]
        assert len(table["columns"]) == 1, "a row with more or fewer cells than its header"
        assert table["empty"] == 0
    assert seen["tables"]
    blocks = re.findall(r"^```\w+\n(.*?)^```", card, re.M | re.S)
    assert [code["text"].strip() for code in seen["code"]] == [b.strip() for b in blocks]
    assert all(code["shown"] and code["size"] >= 12 for code in seen["code"])
    assert all(code["language"].startswith("language-") for code in seen["code"])
    assert all(image["loaded"] and image["alt"] for image in seen["images"])
    bare = re.sub(r"^```.*?^```", "", card.split("\n---\n", 1)[1], flags=re.M | re.S)
    for left in ("relforge:", "<!--", "```", "|---", "](", "**"):
        assert left not in seen["text"].replace("relforge:free", ""), "markup shows"
    assert len(bare) > 500


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("release", sorted(PROJECT.release_files))
def test_the_card_of_a_shipped_release(
    page: Page, tmp_path: Path, release: str, language: str
) -> None:
    card = shipped_card(release, "zh" if language == "zh" else "en")
    assert_readable(look_at(page, card, tmp_path, f"{release}-{language}"), card)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_card_of_a_built_and_measured_release(
    page: Page, tmp_path: Path, language: str
) -> None:
    report = benching.report()
    card = built_card(FIGURES, language="zh" if language == "zh" else "en", performance=report)
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "bench.svg").write_bytes(svg(report, "tiny-adder"))
    seen = look_at(page, card, tmp_path, f"built-{language}")
    assert_readable(seen, card)
    (chart,) = seen["images"]
    assert chart["src"] == "evidence/bench.svg"
    assert chart["width"] > 400


def test_a_page_that_is_broken_is_seen(page: Page, tmp_path: Path) -> None:
    """The checks can fail: a picture that is not there, a cell too many."""
    card = built_card(FIGURES, performance=benching.report())
    seen = look_at(page, card, tmp_path, "broken")
    assert not any(image["loaded"] for image in seen["images"])
    with pytest.raises(AssertionError):
        assert_readable(seen, card)
