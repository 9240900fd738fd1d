"""The board in a browser: opening it, waiting for it, and what it complained of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
_WAIT_S = 30.0


@contextmanager
def page_of(chromium: Browser, **options: Any) -> Iterator[Page]:
    """A page of its own. Any error of a script, or refusal of the browser, fails the test."""
    context = chromium.new_context(**{"viewport": DESK, "locale": "en-US", **options})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    yield page
    context.close()
    assert not complaints, complaints


def wait_until(page: Page, expression: str) -> None:
    """Until a JavaScript expression holds; the page's policy forbids it to wait for that itself."""
    ends = time.monotonic() + _WAIT_S
    while not page.evaluate(expression):
        assert time.monotonic() < ends, f"never: {expression}"
        page.wait_for_timeout(20)


def open_page(page: Page, address: str, at: str = "") -> Page:
    """Opens the page, or a place in it, and waits until it can be used."""
    page.goto("about:blank")
    page.goto(address + at)
    wait_until(page, "performance.getEntriesByName('interactive').length === 1")
    return page


def go(page: Page, at: str, title: str) -> None:
    """To a place in the page that is open; ``title`` is its heading."""
    page.evaluate(f"location.hash = {at!r}")
    wait_until(page, f"document.querySelector('h1').textContent === {title!r}")


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(
        page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    )
