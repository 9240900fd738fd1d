"""Cards as pages: rendered as hubs do (CommonMark with GFM), opened in a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_STYLE = """\
body { font: 16px/1.5 "Noto Sans", "DejaVu Sans", "Noto Sans CJK SC", "WenQuanYi Zen Hei",
       sans-serif; max-width: 1012px; margin: 2rem auto; padding: 0 2rem; color: #1f2328; }
table { border-collapse: collapse; display: block; width: max-content; max-width: 100%;
        overflow: auto; }
th, td { border: 1px solid #d1d9e0; padding: 6px 13px; }
pre { background: #f6f8fa; padding: 16px; overflow: auto; font-size: 85%; }
code { font-family: "DejaVu Sans Mono", monospace; }
img { max-width: 100%; }
"""


def as_page(card: str) -> str:
    """The HTML of a card; the YAML head is no part of what a reader sees."""
    from markdown_it import MarkdownIt

    body = card.split("\n---\n", 1)[1] if card.startswith("---\n") else card
    renderer = MarkdownIt("gfm-like", {"html": True})
    return (
        "<!doctype html><html><head><meta charset='utf-8'><title>card</title>"
        f"<style>{_STYLE}</style></head><body>{renderer.render(body)}</body></html>"
    )


@contextmanager
def browser() -> Iterator[Browser]:
    """Headless Chromium. Without one a test is skipped, but where everything has to be there."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        if "RELFORGE_ALL_TESTS" in os.environ:
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


def keep(picture: bytes, name: str) -> None:
    """Where RELFORGE_PICTURES names a folder, screenshots are kept there to be looked at."""
    if (folder := os.environ.get("RELFORGE_PICTURES")) is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(picture)
