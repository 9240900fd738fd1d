"""The board in a real browser, opened from its file: matrix, releases, keys, languages, widths."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from relforge.board import page as board_page
from tests.support.board_pages import DESK, PHONE, go, open_page, overflow, page_of, wait_until
from tests.support.boards import (
    SCENE_FAILING,
    SCENE_REAL,
    SCENE_RECORDED,
    SCENE_STALE,
    BoardScene,
    make_scene,
)
from tests.support.pages import browser, keep

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


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


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    with page_of(chromium) as opened:
        yield opened


def heading(page: Page) -> str:
    return page.locator("h1").inner_text()


def state_of(page: Page, release: str) -> str:
    found = page.locator(f'#matrix a[data-release="{release}"] .badge').first.inner_text()
    return found.strip()


def test_the_matrix_has_every_release_with_its_state(page: Page, address: str) -> None:
    open_page(page, address)
    assert heading(page) == "Releases"
    assert overflow(page) <= 0
    assert page.evaluate("document.scrollingElement.scrollWidth") == DESK["width"]
    assert page.locator("#matrix a.release").count() == 12 + 1
    assert state_of(page, SCENE_REAL) == "released"
    assert state_of(page, SCENE_RECORDED) == "released"
    assert state_of(page, SCENE_STALE) == "stale"
    assert state_of(page, SCENE_FAILING) == "failing"
    assert state_of(page, "model-0-chip_4") == "not-run"
    assert "rendered, never executed on the device" in str(
        page.locator('a[data-release="model-0-chip_4"]').get_attribute("title")
    )
    keep(page.screenshot(full_page=True), "board-matrix")


def test_filter_by_state_and_search_by_words(page: Page, address: str) -> None:
    open_page(page, address)
    page.locator('button[data-state="failing"]').click()
    assert page.locator("#matrix a.release").count() == 1
    assert page.locator(".counted").inner_text() == "1 of 13 releases"
    page.locator('button[data-state="stale"]').click()
    assert page.locator("#matrix a.release").count() == 2
    page.locator('button[data-state="failing"]').click()
    page.locator('button[data-state="stale"]').click()
    page.locator("#search").fill("MODEL-1 vllm chip_1")
    assert page.locator("#matrix a.release").count() == 1
    page.locator("#search").fill("no such thing")
    assert page.locator("#matrix").inner_text() == "No release fits."
    # What is chosen is in the address: it can be sent to others, and reloaded.
    page.locator("#search").fill("model-1")
    page.locator('button[data-state="not-run"]').click()
    assert page.evaluate("location.hash") == "#/?q=model-1&state=not-run"
    page.reload()
    assert page.locator("#search").input_value() == "model-1"
    assert page.locator("#matrix a.release").count() == 1


def test_a_release_by_its_address(page: Page, address: str) -> None:
    open_page(page, address, f"#/release/{SCENE_REAL}")
    assert heading(page) == SCENE_REAL
    stages = page.locator(".timeline li").evaluate_all("all => all.map(li => li.dataset.stage)")
    assert stages[0] == "weights"
    assert stages[-1] == "publish"
    text = page.locator("main").inner_text()
    assert "relforge verify " in text
    assert "1,000" in text, "questions"
    assert re.search(r"-0\.40 \[-\d\.\d\d, [+-]\d\.\d\d\]", text), "difference and interval"
    assert "non-inferior" in text
    charts = page.locator("img.chart")
    assert charts.count() == 2
    for number in range(2):
        charts.nth(number).scroll_into_view_if_needed()
        wait_until(page, f"document.querySelectorAll('img.chart')[{number}].naturalWidth > 300")
    changes = page.locator("section", has_text="Since the release before").inner_text()
    assert "sha256" not in changes
    page.evaluate("scrollTo(0, 0)")
    keep(page.screenshot(full_page=True), "board-release")


def test_every_link_to_evidence_leads_to_a_file(page: Page, address: str) -> None:
    open_page(page, address, f"#/release/{SCENE_REAL}")
    links = page.locator("article a[href^='../dist/']").evaluate_all(
        "all => all.map(a => [a.textContent, a.href])"
    )
    names = {name for name, _ in links}
    assert {"README.md", "README_zh.md", "release.json", "evidence/evaluation.json"} <= names
    assert not any(name.startswith(("image/", "weights/")) for name in names)
    for _, href in links:
        assert Path(href.removeprefix("file://")).is_file(), href


def test_a_record_without_a_folder_around_it_links_nothing(page: Page, address: str) -> None:
    open_page(page, address, f"#/release/{SCENE_RECORDED}")
    assert page.locator("article a[href^='../dist/']").count() == 0
    assert page.locator(".timeline li").count() > 10


def test_why_it_is_stale_and_what_to_type(page: Page, address: str) -> None:
    open_page(page, address, f"#/release/{SCENE_STALE}")
    why = page.locator(".why").inner_text()
    assert "smoke: release.serve.args.max-num-seqs: 32 → 64" in why
    assert f"relforge release --release {SCENE_STALE}" in why


def test_why_it_fails_and_what_to_type(page: Page, address: str) -> None:
    open_page(page, address, f"#/release/{SCENE_FAILING}")
    why = page.locator(".why").inner_text()
    assert "failed at smoke" in why
    assert "why: the server died" in why
    assert "relforge release --resume 2026" in why
    assert page.locator(".timeline .fail").count() > 0


def test_the_history_of_a_pair_grows_on_demand(page: Page, address: str) -> None:
    open_page(page, address, f"#/release/{SCENE_REAL}")
    page.get_by_role("link", name="History of tiny-adder on cpu_x86").click()
    wait_until(page, "document.querySelector('h1').textContent.startsWith('History')")
    rows = page.locator("tr[data-run]")
    assert rows.count() == 50
    page.get_by_role("button", name="Show more: 50 of 60 are shown").click()
    assert rows.count() == 60
    assert page.locator("button.more").is_hidden()
    first = rows.first
    first.locator("summary").click()
    first.locator(".timeline li").nth(14).wait_for()
    assert first.locator(".timeline li").count() == 15
    rows.nth(59).locator("summary").click()
    rows.nth(59).get_by_text("relforge runs show").wait_for()
    keep(page.screenshot(full_page=True), "board-history")


def test_the_keyboard_alone(page: Page, address: str) -> None:
    open_page(page, address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("model-0")
    for _ in range(5):  # four states, then the matrix
        page.keyboard.press("Tab")
    focused = "document.activeElement.dataset.release"
    assert page.evaluate(focused) == "model-0-chip_0"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "model-0-chip_2"
    page.keyboard.press("End")
    assert page.evaluate(focused) == "model-0-chip_9"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    wait_until(page, "document.activeElement.tagName === 'H1'")
    assert heading(page) == SCENE_STALE
    page.keyboard.press("Escape")
    wait_until(page, f"{focused} === '{SCENE_STALE}'")
    assert page.evaluate("location.hash") == "#/?q=model-0"
    # The whole matrix is one stop.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#matrix') === null")


def test_one_column_of_arrow_keys(page: Page, address: str) -> None:
    open_page(page, address, "#/?q=model-")
    page.locator('a[data-release="model-0-chip_1"]').focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.release") == "model-1-chip_1"


def test_chinese_and_back(page: Page, address: str) -> None:
    open_page(page, address, f"#/release/{SCENE_REAL}")
    page.locator("#language").click()
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    wait_until(page, "document.querySelector('main').textContent.includes('阶段')")
    text = page.locator("main").inner_text()
    for wording in ("评测", "延迟与吞吐", "自上一次发布以来", "证据", "运行记录", "不劣于参考"):
        assert wording in text
    assert re.search(r"2026年\d+月\d+日", text)
    keep(page.screenshot(full_page=True), "board-release-zh")
    page.reload()
    wait_until(page, "document.querySelector('main').textContent.includes('阶段')")
    page.locator("#language").click()
    wait_until(page, "document.querySelector('main').textContent.includes('Stages')")
    assert page.evaluate("document.documentElement.lang") == "en"


def test_a_chinese_browser_gets_chinese(chromium: Browser, address: str) -> None:
    with page_of(chromium, locale="zh-CN") as page:
        open_page(page, address)
        assert heading(page) == "发布"
        keep(page.screenshot(full_page=True), "board-matrix-zh")


def ground(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_dark_as_the_system_or_by_the_switch(chromium: Browser, address: str) -> None:
    with page_of(chromium, color_scheme="dark") as page:
        open_page(page, address)
        dark = ground(page)
        keep(page.screenshot(full_page=True), "board-matrix-dark")
        page.locator("#theme").click()
        assert page.locator("#theme").inner_text() == "Theme: light"
        light = ground(page)
        assert light == "rgb(255, 255, 255)" != dark
        page.locator("#theme").click()
        assert ground(page) == dark
        page.reload()
        assert ground(page) == dark
        assert page.locator("#theme").inner_text() == "Theme: dark"
        page.emulate_media(color_scheme="light")
        assert ground(page) == dark
        page.locator("#theme").click()
        assert ground(page) == light


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_a_phone_shows_a_list_and_never_scrolls_sideways(
    chromium: Browser, address: str, locale: str
) -> None:
    with page_of(chromium, viewport=PHONE, locale=locale) as page:
        open_page(page, address)
        assert page.locator("table.matrix").count() == 0
        assert page.locator("#matrix li a.release").count() == 13
        assert overflow(page) <= 0
        keep(page.screenshot(full_page=True), f"board-phone-{locale}")
        for release in (SCENE_REAL, SCENE_STALE, SCENE_FAILING):
            go(page, f"#/release/{release}", release)
            assert overflow(page) <= 0, release
            keep(page.screenshot(full_page=True), f"board-phone-{release}-{locale}")
        page.evaluate("location.hash = '#/history/cpu_x86/tiny-adder'")
        wait_until(page, "document.querySelectorAll('tr[data-run]').length === 50")
        assert overflow(page) <= 0


def test_a_table_that_goes_on_says_so_at_its_edge(chromium: Browser, address: str) -> None:
    with page_of(chromium, viewport={"width": 860, "height": 700}) as page:
        open_page(page, address)
        wide = page.locator("#matrix .wide")
        more = "document.querySelector('#matrix .wide').hasAttribute('data-more')"
        wide.wait_for()
        hidden = wide.evaluate("node => node.scrollWidth - node.clientWidth")
        assert hidden > 1, "the matrix of the scene is wider than this"
        wait_until(page, more)
        wide.evaluate("node => { node.scrollLeft = node.scrollWidth }")
        wait_until(page, f"!({more})")
        page.set_viewport_size({"width": 2400, "height": 700})
        wait_until(page, f"!({more})")


def test_a_window_that_becomes_narrow_turns_the_matrix_into_a_list(
    page: Page, address: str
) -> None:
    open_page(page, address)
    assert page.locator("table.matrix").count() == 1
    page.set_viewport_size({"width": 360, "height": 700})
    wait_until(page, "document.querySelector('table.matrix') === null")
    assert overflow(page) <= 0


def test_an_address_that_names_nothing(page: Page, address: str) -> None:
    open_page(page, address, "#/release/%3Cimg%20src%3Dx%3E")
    assert heading(page) == "There is no such release"
    assert "<img src=x>" in page.locator("main").inner_text()


def test_what_is_copied(chromium: Browser, address: str) -> None:
    with page_of(chromium, permissions=["clipboard-read", "clipboard-write"]) as page:
        open_page(page, address, f"#/release/{SCENE_STALE}")
        page.locator(".why button.copy").click()
        wait_until(
            page,
            "['copied', 'selected'].includes(document.querySelector('.why .copy').textContent)",
        )
        command = f"relforge release --release {SCENE_STALE}"
        copied = page.evaluate("navigator.clipboard?.readText().catch(() => '')")
        assert command in (copied, page.evaluate("getSelection().toString()"))


def test_every_text_of_the_page_has_its_chinese() -> None:
    known = board_page.words()
    sources = [
        (Path(board_page.__file__).parent / "page" / name).read_text()
        for name in board_page.SCRIPTS
    ]
    html = (Path(board_page.__file__).parent / "page" / "board.html.j2").read_text()
    used = {
        text for source in sources for text in re.findall(r'\bt\(\s*"((?:[^"\\]|\\.)+)"', source)
    }
    used |= set(re.findall(r'data-text="([^"]+)"', html))
    python = "".join(path.read_text() for path in Path(board_page.__file__).parent.glob("*.py"))
    used |= {text for text in re.findall(r'text="([^"]+)"', python) if text != "%(value)s"}
    assert len(used) > 90
    assert used - set(known) == set()
    places = re.compile(r"%\(\w+\)s")
    for text, chinese in known.items():
        assert sorted(places.findall(text)) == sorted(places.findall(chinese)), text
    dynamic = "".join((*sources, html, python))
    unused = {text for text in known if text not in used and f'"{text}"' not in dynamic}
    unused = {text for text in unused if f": {text}" not in dynamic and text not in _STATES}
    assert unused == set()


_STATES = {
    "released", "stale", "failing", "not-run", "running", "waiting", "done", "failed", "killed",
    "interrupted", "ran", "reused", "skipped", "pass", "fail", "inconclusive", "non-inferior",
    "inferior", "Why it is stale", "Why it is failing", "Why it is not-run",
}  # fmt: skip


def test_the_index_is_small_and_details_are_apart(scene: BoardScene, address: str) -> None:
    folder = scene.root / "board"
    listed = json.loads((folder / "board.json").read_text())["files"]
    on_disk = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert set(listed) == on_disk - {"board.json"}
    assert len([name for name in listed if name.startswith("releases/")]) == 13
    assert len((folder / "index.html").read_bytes()) < 60_000
