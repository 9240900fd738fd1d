"""Every shell block of README and docs/*.md is run by a test, or says what it needs instead."""

from __future__ import annotations

import pytest

from tests.support.doc_blocks import NEEDS, PAGES, ROOT, Marked, blocks

BLOCKS = [block for page in PAGES for block in blocks(page)]
_IDS = [block.where for block in BLOCKS]


def test_there_are_pages_with_blocks() -> None:
    assert {"README.md", "docs/guide-user.md", "docs/architecture.md"} <= set(PAGES)
    assert len(BLOCKS) > 50


@pytest.mark.parametrize("block", BLOCKS, ids=_IDS)
def test_the_block_has_a_mark_that_is_true(block: Marked) -> None:
    assert block.language == "bash", f"{block.where}: say bash, for readers and for this test"
    if block.needs is not None:
        assert block.needs in NEEDS, f"{block.where}: {block.needs!r} is none of {NEEDS}"
        return
    assert block.runs, f"{block.where}: no test runs it; put one above it, or what it needs"
    runner = ROOT / block.runs
    assert runner.is_file(), f"{block.where}: {block.runs} is not there"
    text = runner.read_text(encoding="utf-8")
    if runner.suffix != ".py":
        # What runs the tests is run by the block's own commands, each in a line of its own.
        assert [row.strip() for row in block.text.splitlines() if row.strip() not in text] == []
        return
    # It asks for the blocks that name it, and so it runs this one.
    assert f'marked("{block.page}", __file__)' in text, f"{block.runs} does not run {block.page}"


def test_most_blocks_are_run() -> None:
    assert sum(block.runs is not None for block in BLOCKS) > 0.8 * len(BLOCKS)
