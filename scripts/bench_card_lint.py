#!/usr/bin/env python3
"""How long `relforge card lint` takes for many cards.

    ./scripts/bench_card_lint.py [CARDS]      default 1000

The cards are the clean ones of the tests, each time with other names, numbers and paths, and with
blocks of others until each has at least eight shell blocks, so that no two blocks are equal. The
time is that of the program from start to end; the figure to hold is 10 s for 1,000 cards on two
cores.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLEAN = sorted((ROOT / "tests" / "cards" / "clean").glob("*.md"))
BLOCK = re.compile(r"^```bash\n.*?^```$", re.M | re.S)
SHELL_BLOCKS = 8
ALLOWED_S_PER_CARD = 0.01


def made(number: int) -> str:
    """A card like no other: names end in the card's number, and so do the words of its blocks."""
    text = CLEAN[number % len(CLEAN)].read_text(encoding="utf-8")
    others = [block for path in CLEAN for block in BLOCK.findall(path.read_text(encoding="utf-8"))]
    have = len(BLOCK.findall(text))
    for at in range(max(0, SHELL_BLOCKS - have)):
        text += f"\n## More {at}\n\n{others[(number * 7 + at) % len(others)]}\n"
    blocks = iter(range(1000))

    def distinct(match: re.Match[str]) -> str:
        mark = f"{number}x{next(blocks)}"
        changed = match[0].replace("/data/", f"/data{number}/").replace(" -d ", " --detach ")
        return changed.removesuffix("```") + f"echo step-{mark}\n```"

    return BLOCK.sub(distinct, text.replace("Larkspur", f"Larkspur{number}"))


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            (Path(folder) / f"card-{number:05}.md").write_text(made(number), encoding="utf-8")
        blocks = sum(
            len(BLOCK.findall(p.read_text(encoding="utf-8"))) for p in Path(folder).iterdir()
        )
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", "from relforge.cli import main; main()", "card", "lint",
             "--json", folder],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        seconds = time.monotonic() - started
        assert done.returncode in (0, 6), done.stderr
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{count} cards, {blocks} shell blocks in {seconds:.1f} s"
        f" ({used.ru_utime + used.ru_stime:.1f} s of processor time,"
        f" {used.ru_maxrss // 1024} MiB at most); {done.stderr.strip().splitlines()[-1]}"
    )
    allowed = ALLOWED_S_PER_CARD * count
    if count >= 1000 and seconds > allowed:
        print(f"missed: {seconds:.1f} s, allowed {allowed:.1f} s")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
