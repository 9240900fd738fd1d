"""Accessibility of the board: axe-core finds nothing in any view, light, dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.board_pages import DESK, PHONE, open_page, page_of, wait_until
from tests.support.boards import (
    SCENE_FAILING,
    SCENE_REAL,
    SCENE_STALE,
    BoardScene,
    make_scene,
)
from tests.support.pages import browser, keep

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VIEWS = {
    "matrix": "",
    "filtered": "#/?q=model&state=stale,failing",
    "nothing": "#/?q=nothing-has-this-name",
    "release": f"#/release/{SCENE_REAL}",
    "stale": f"#/release/{SCENE_STALE}",
    "failing": f"#/release/{SCENE_FAILING}",
    "history": "#/history/cpu_x86/tiny-adder",
    "unknown": "#/release/no-such-release",
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> BoardScene:
    return make_scene(tmp_path_factory.mktemp("scene") / "place")


@pytest.fixture(scope="module")
def address(scene: BoardScene) -> str:
    return scene.write().as_uri()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def violations(page: Page) -> list[str]:
    """What axe-core finds, all of its rules that hold of a page at rest."""
    from axe_playwright_python.sync_playwright import Axe

    # Without reading style sheets anew, which the page's policy refuses.
    found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False})
    return [
        f"{rule['id']}: {node['html']}: {node['failureSummary']}"
        for rule in found.response["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESK["width"], PHONE["width"]])
def test_axe_finds_nothing(chromium: Browser, address: str, scheme: str, width: int) -> None:
    size = DESK if width == DESK["width"] else PHONE
    with page_of(chromium, color_scheme=scheme, viewport=size) as page:
        for name, at in VIEWS.items():
            open_page(page, address, at)
            for summary in page.locator("details > summary").all()[:6]:
                summary.click()
            assert violations(page) == [], name
            if name in ("release", "failing"):
                page.evaluate("scrollTo(0, 0)")
                keep(page.screenshot(full_page=True), f"board-{name}-{scheme}-{width}")


def test_axe_finds_nothing_in_chinese(chromium: Browser, address: str) -> None:
    with page_of(chromium, locale="zh-CN") as page:
        for name, at in VIEWS.items():
            open_page(page, address, at)
            assert violations(page) == [], name


def test_a_page_that_is_broken_is_seen(chromium: Browser, address: str) -> None:
    """The check can fail: faint text, a picture without words, a button without a name."""
    with page_of(chromium) as page:
        open_page(page, address)
        page.evaluate(
            """() => {
              document.querySelector('.counted').style.color = '#ddd';
              document.querySelector('#theme').textContent = '';
            }"""
        )
        broken = "\n".join(violations(page))
        assert "color-contrast" in broken
        assert "button-name" in broken


def test_motion_and_focus(chromium: Browser, address: str) -> None:
    """What has the focus shows it, and nothing moves by itself."""
    with page_of(chromium) as page:
        open_page(page, address)
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        wait_until(page, "document.activeElement.id === 'home'")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        assert page.evaluate("document.getAnimations().length") == 0
