#!/usr/bin/env python3
"""How long a board takes to make, and a browser to make it usable, as a table.

    scripts/bench_board.py [--releases 500] [--runs 5000] [--loads 5] [--record FILE] [--dir DIR]

Makes a project of so many releases (ten devices), a record for each, varied from one real record
(--record; else one that the stages themselves write here), with the chart of its benchmark beside
it, a record before it for every tenth, and so many runs. Every fifth release is stale, every 7th
failed last. Then the page is made twice, with no chart there and with those of the first time, and
opened from its file in headless Chromium: `interactive` is the time from the navigation to the mark
that the page sets when the matrix is drawn and search works, `search` from a letter typed to the
frame that shows what fits, `release` from the click to the details. Medians of the loads, each in a
fresh browser context. Exits 1 when interactive takes more than 2 s. Wants a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from relforge.board.building import make_board  # noqa: E402
from relforge.board.charts import bench_chart  # noqa: E402
from relforge.board.folder import write_board  # noqa: E402
from relforge.manifest.project import Project, builtin_root  # noqa: E402
from tests.support.boards import origin_of, put_record, put_run, run_of, varied  # noqa: E402
from tests.support.fleet import make_project  # noqa: E402
from tests.support.pages import browser  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ALLOWED_MS = 2000.0
_SEARCH = """async () => {
  const field = document.getElementById('search');
  const before = performance.now();
  field.value = 'model-1'; field.dispatchEvent(new Event('input'));
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - before;
}"""
_RELEASE = """async () => {
  const before = performance.now();
  document.querySelector('#matrix a.release').click();
  while (!document.querySelector('.timeline')) await new Promise(done => setTimeout(done, 1));
  return performance.now() - before;
}"""


def real_record(folder: Path) -> dict[str, Any]:
    """A record that the stages wrote, without an engine."""
    from tests.support.verified import Releaser

    published = Releaser.at(folder / "maker").release(folder / "published")
    record = json.loads((published / "release.json").read_bytes())
    assert isinstance(record, dict)
    return record


def make_place(root: Path, record: dict[str, Any], releases: int, runs: int) -> None:
    """Project, records and runs."""
    make_project(root, releases, wheels=8)
    project = Project((root, builtin_root()))
    drawn = bench_chart(record["results"]["bench"]["report"], "latency and throughput")
    chart = drawn.draw() if drawn is not None else None
    names = [name for name in project.release_files if name.startswith("model-")]
    digests = {}
    for number, name in enumerate(names):
        made = varied(record, project, name, number=number)
        if number % 5 == 0:
            made["inputs"]["smoke"]["key"] = "0" * 64
        put_record(root / "dist", made, chart=chart)
        digests[name] = made["image_digest"]
        if number % 10 == 0:
            before = varied(record, project, name, number=number)
            before["created"] = "2026-01-01T00:00:00Z"
            before["image_digest"] = "sha256:" + "e" * 64
            put_record(root / "archive", before)
    for number in range(runs):
        name = names[number % len(names)]
        # The last round is later than every record.
        late = number + (len(names) if number >= runs - len(names) else 0)
        fails = "smoke" if number % 7 == 0 and number >= runs - len(names) else None
        put_run(root / "home", run_of(name, late, fails_at=fails), digests[name])


def load(chromium: Browser, address: str) -> tuple[float, float, float]:
    """Milliseconds until the page is usable, of a search, and until a release is there."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address)
    while not (mark := page.evaluate("performance.getEntriesByName('interactive')[0]?.startTime")):
        page.wait_for_timeout(5)
    found = float(mark), float(page.evaluate(_SEARCH)), float(page.evaluate(_RELEASE))
    context.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--releases", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--loads", type=int, default=5)
    parser.add_argument("--record", type=Path, help="a release.json to vary")
    parser.add_argument("--dir", type=Path, help="where to work, and leave it")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = asked.dir or Path(temporary)
        root = place / "place"
        record = json.loads(asked.record.read_bytes()) if asked.record else real_record(place)
        make_place(root, record, asked.releases, asked.runs)
        origin = origin_of(root, history=("archive",))
        seconds = {}
        for name in ("made, no chart there", "made again, charts there"):
            started = time.perf_counter()
            board = make_board(origin)
            judged = time.perf_counter() - started
            sizes = write_board(board, root / "board", line=print)
            seconds[name] = (judged, time.perf_counter() - started)
        with browser() as chromium:
            address = (root / "board" / "index.html").as_uri()
            load(chromium, address)  # the browser's own start
            loads = [load(chromium, address) for _ in range(asked.loads)]
    states: dict[str, int] = {}
    for made in board.made.values():
        states[made.entry.state] = states.get(made.entry.state, 0) + 1
    print(f"{len(board.made)} releases {states}, {asked.runs} runs")
    for name, (judged, whole) in seconds.items():
        print(f"{name:<26} {whole:>7.1f} s   of which read and judged {judged:.1f} s")
    print(f"{'index.html':<26} {sizes['index.html'] / 1e3:>7.0f} kB")
    details = [size for name, size in sizes.items() if name.startswith("releases/")]
    print(f"{'details of a release':<26} {statistics.median(details) / 1e3:>7.0f} kB")
    print(f"{'the folder':<26} {sum(sizes.values()) / 1e6:>7.1f} MB in {len(sizes)} files")
    medians = [statistics.median(one) for one in zip(*loads, strict=True)]
    for name, found in zip(("interactive", "search", "release"), medians, strict=True):
        print(f"{name:<26} {found:>7.0f} ms")
    if medians[0] > ALLOWED_MS:
        print(f"missed: interactive {medians[0]:.0f} ms, allowed {ALLOWED_MS:.0f} ms")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
