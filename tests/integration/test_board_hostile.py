"""Records and runs are data: whatever they hold is shown as text, and leads nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from relforge.board.folder import write_board
from relforge.board.page import script_json
from relforge.manifest.project import Project, builtin_root
from tests.support.board_pages import open_page, page_of
from tests.support.boards import board_of, put_record, put_run, run_of, varied
from tests.support.fleet import make_project
from tests.support.pages import browser
from tests.support.records import record as small_record

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RELEASE = "model-0-chip_0"
MARKUP = "</script><img src=x onerror=\"document.title='owned'\"><b>$x$\u2028"
_OWN_MARKUP = "() => [...document.querySelectorAll('main img:not(.chart), main b, main i')].length"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def marked(value: Any, keep: frozenset[str]) -> Any:
    """The same with markup at the end of every text, and in every name that is not ours."""
    if isinstance(value, dict):
        return {key: one if key in keep else marked(one, keep) for key, one in value.items()}
    if isinstance(value, list):
        return [marked(one, keep) for one in value]
    return value + MARKUP if isinstance(value, str) else value


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile") / "place"
    make_project(root, 2, wheels=3)
    project = Project((root, builtin_root()))
    plain = small_record(("verdicts", {"smoke": "pass", "evaluate": "pass", "scan": "pass"}))
    made = varied(plain, project, RELEASE)
    made["stages"] = [{"name": "build", "status": "ran", "seconds": 1.0}]
    made["relforge"] = "1"
    made["project"] = {"commit": "0", "uncommitted_changes": False}
    kept = frozenset({"created", "key", "release", "kind"})
    old = varied(plain, project, RELEASE, number=0)
    new = marked(made, kept)
    new["created"] = "2026-11-01T00:00:00Z"
    # A release of a name that is markup; compared with its earlier record.
    for name, at in ((RELEASE, "dist"), (f"<i>{MARKUP}", "other")):
        new["release"] = name
        path = put_record(root / at / "x", {**new, "release": "r"})
        path.write_text(json.dumps(new))
        (path.parent.rename(root / at / f"r{len(name)}"))
    old["names"] = new["names"]
    put_record(root / "archive", old)
    run = run_of(RELEASE, 3, fails_at="smoke")
    put_run(root / "home", run)
    folder = root / "home" / "runs" / run.id
    text = marked(json.loads((folder / "run.json").read_text()),
                  frozenset({"state", "status", "verdict", "id", "release"}))  # fmt: skip
    (folder / "run.json").write_text(json.dumps(text))
    write_board(board_of(root, dists=("dist", "other"), history=("archive",)), root / "board")
    return root / "board" / "index.html"


@pytest.mark.parametrize("name", [RELEASE, f"<i>{MARKUP}"])
def test_markup_in_every_field_shows_as_text(chromium: Browser, place: Path, name: str) -> None:
    with page_of(chromium) as page:
        open_page(page, place.as_uri())
        page.evaluate("name => { location.hash = board.link.release(name); }", name)
        page.wait_for_timeout(300)
        for summary in page.locator("details > summary").all():
            summary.click()
        text = page.locator("main").inner_text()
        shown = text.count("onerror=\"document.title='owned'\"")
        assert shown > 25, f"{shown} fields"
        assert page.locator("h2", has_text="Digests").count() == 1, "the record was read"
        assert page.title() == "relforge board"
        assert page.evaluate(_OWN_MARKUP) == 0
        assert page.locator("h1").inner_text().strip() == name.strip()


def test_markup_in_the_matrix_and_the_search(chromium: Browser, place: Path) -> None:
    with page_of(chromium) as page:
        open_page(page, place.as_uri())
        page.locator("#search").fill("onerror")
        assert page.locator("#matrix a.release").count() == 2
        assert page.evaluate(_OWN_MARKUP) == 0
        assert page.title() == "relforge board"


def test_no_script_but_the_boards_own_runs(chromium: Browser, place: Path) -> None:
    """Should markup ever get through, the page's policy still stands."""
    context = chromium.new_context()
    page = context.new_page()
    open_page(page, place.as_uri())
    page.evaluate(
        """() => {
          document.body.insertAdjacentHTML('beforeend', '<img src="x" onerror="window.owned = 1">');
          const script = document.createElement('script');
          script.textContent = 'window.owned = 2';
          document.body.append(script);
          const far = document.createElement('script');
          far.src = 'https://example.invalid/x.js';
          document.body.append(far);
        }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.owned") is None
    failed = page.evaluate("fetch('https://example.invalid/').then(() => 'sent', e => e.name)")
    assert failed == "TypeError"
    context.close()


def test_json_in_a_script_means_the_same_and_ends_no_element() -> None:
    value = {"a": [MARKUP, float("nan"), float("inf"), "\ud800", "&amp;"], "b": {"<": 1.5}}
    text = script_json(value)
    assert "<" not in text
    assert "\u2028" not in text
    read = json.loads(text)
    assert read["a"][0] == MARKUP
    assert read["a"][1:3] == [None, None]
    assert read["a"][4] == "&amp;"
    assert read["b"] == {"<": 1.5}
