"""The pictures of README: the console, of a recorded run, and the board, as a browser shows it.

    python scripts/pictures.py              both, into docs/pictures/
    python scripts/pictures.py console      the one that is the same each time

``docs/pictures/console.events.jsonl`` is the event stream of a real run of tiny-adder-cpu_x86 on
two processor cores, without log lines, and with the place of the published folder relative. The
board needs chromium (``apt-get install chromium``), the extra ``dev``, and what a fresh
``./scripts/quickstart`` made: what failed in its home later would be seen, too.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
SITE = ROOT / ".relforge" / "site.yaml"
EVENTS = PICTURES / "console.events.jsonl"
WIDTH_COLUMNS = 132
BOARD_SIZE = {"width": 1420, "height": 960}
SHOWN = {"board.png": "#/"}
MOST_BYTES = 150_000


def console_svg() -> str:
    """What the console shows of the recorded run; the same events give the same picture."""
    from rich._export_format import CONSOLE_SVG_FORMAT
    from rich.console import Console

    from relforge.events import EVENT
    from relforge.ui.console import LiveListener

    # No terminal: what vanishes from one, spinners and log lines, is not recorded.
    console = Console(
        record=True, file=io.StringIO(), width=WIDTH_COLUMNS, highlight=False, force_terminal=False
    )
    listener = LiveListener(console)
    for row in EVENTS.read_text(encoding="utf-8").splitlines():
        listener(EVENT.validate_json(row))
    listener.close()
    # Without the fonts of somebody else's server: readers have one of their own.
    form = re.sub(r"\s*@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.S)
    form = form.replace("Fira Code, monospace", "ui-monospace, DejaVu Sans Mono, monospace")
    return console.export_svg(title="relforge", code_format=form, unique_id="console")


def board_pngs() -> dict[str, bytes]:
    """The board of what lies in ``dist/`` and of the project's releases."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("chromium is needed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as scratch:
        board = str(Path(scratch) / "board")
        words = ["board", "--out", board, "--project", str(ROOT), "--site", str(SITE)]
        subprocess.run(
            [sys.executable, "-c", "from relforge.cli import main; main()", *words],
            cwd=ROOT,
            check=True,
        )
        with sync_playwright() as started:
            browser = started.chromium.launch(
                executable_path=program, args=["--no-sandbox", "--disable-gpu"]
            )
            pictures = {}
            for name, place in SHOWN.items():
                page = browser.new_page(viewport=BOARD_SIZE)  # type: ignore[arg-type]
                page.goto((Path(scratch) / "board" / "index.html").as_uri() + place)
                page.wait_for_load_state("networkidle")
                pictures[name] = page.screenshot()
            browser.close()
    for name, picture in pictures.items():
        if len(picture) > MOST_BYTES:
            sys.exit(f"{name} has {len(picture)} bytes, more than {MOST_BYTES}")
    return pictures


def main(names: list[str]) -> None:
    wanted = names or ["console", "board"]
    if set(wanted) - {"console", "board"}:
        sys.exit(__doc__)
    PICTURES.mkdir(exist_ok=True)
    if "console" in wanted:
        (PICTURES / "console.svg").write_text(console_svg(), encoding="utf-8")
    if "board" in wanted:
        for name, picture in board_pngs().items():
            (PICTURES / name).write_bytes(picture)


if __name__ == "__main__":
    main(sys.argv[1:])
