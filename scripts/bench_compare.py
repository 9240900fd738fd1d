#!/usr/bin/env python3
"""What `relforge bench compare` is worth here: a release against itself, and slowed down.

    scripts/bench_compare.py [--runs 1] [--blocks 8] [--concurrency 16] [--slower SETTING]

A release that is compared with itself must not be called faster or slower, one that may serve only
one request at a time must be called slower. Needs a release made by ./scripts/quickstart, and
memory for two of its servers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

RELEASE = "tiny-adder-cpu_x86"


def compared(words: argparse.Namespace, *other: str) -> dict[str, Any]:
    """One comparison, as it prints it."""
    command = [
        *(sys.executable, "-c", "from relforge.cli import main; main()"),
        *("bench", "compare", "--release", RELEASE, "--blocks", str(words.blocks)),
        *("--concurrency", str(words.concurrency), "--json", *other),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 6) or not done.stdout:
        sys.exit(f"the comparison ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def built() -> str:
    """The image that the release was built into."""
    command = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", f"relforge/{RELEASE}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()[0]


def main() -> int:
    """Prints every comparison; 1 when one of them is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--slower", default="serve.args.max-num-seqs=1")
    words = parser.parse_args()
    image = built()
    wrong = 0
    for _ in range(words.runs):
        for name, other, right in (
            ("itself", ("--image-a", image, "--image-b", image), ("equivalent", "undecided")),
            (words.slower, ("--with", words.slower), ("slower",)),
        ):
            found = compared(words, *other)
            low, high = found["interval"]
            wrong += found["conclusion"] not in right
            print(
                f"{name}: {found['conclusion']}, {found['ratio']:.3f} ({low:.3f} to {high:.3f}) "
                f"after {found['blocks']} blocks"
                + ("" if found["conclusion"] in right else f": WRONG, not {' or '.join(right)}")
            )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
