#!/usr/bin/env python3
"""Memory and time of sealing, opening and rotating large patch sets, printed as a table.

    scripts/bench_seal.py [--megabytes 1000] [--dir DIR]

Each step runs in a process of its own. "relforge" is the peak resident memory of that process,
"before" what it had taken once everything was imported, "git" that of its largest child: git, which
applies a patch to prove it, takes memory in proportion to the largest file it makes. Exits 1 when
relforge's own peak is above 100 MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

LIMIT_MB = 100
LINE = b"+%015x %015x %015x %015x\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000, help="size of each patch set")
    parser.add_argument("--dir", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(options.step[0], Path(options.step[1]))))
        return 0
    worst = 0.0
    print(f"{'patch set':<16}{'step':<10}{'time':>8}{'relforge':>12}{'before':>10}{'git':>10}")
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        for label, count in (("one patch", 1), (f"{options.megabytes} patches", options.megabytes)):
            folder = Path(name) / label.replace(" ", "-")
            prepare(folder, count, options.megabytes * 1_000_000 // count)
            for what in ("seal", "open", "rotate"):
                words = [sys.executable, __file__, "--step", what, str(folder)]
                done = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
                worst = max(worst, done["own_mb"])
                print(
                    f"{label:<16}{what:<10}{done['seconds']:>6.1f} s{done['own_mb']:>9.1f} MB"
                    f"{done['before_mb']:>7.1f} MB{done['git_mb']:>7.0f} MB",
                    flush=True,
                )
    print(f"largest: {worst:.1f} MB; allowed: {LIMIT_MB} MB")
    return 0 if worst <= LIMIT_MB else 1


def prepare(folder: Path, count: int, size: int) -> None:
    """A repository with one empty tree, keys, and patches that each add one file."""
    from relforge.patching.keys import new_keys

    patches = folder / "set"
    patches.mkdir(parents=True)
    git = ["git", "-C", str(folder)]
    subprocess.run([*git, "init", "-q", "--bare", "store.git"], check=True)
    lines = size // len(LINE % (0, 0, 0, 0))
    for number in range(count):
        with (patches / f"{number:05}.patch").open("wb") as out:
            name = b"f%05d" % number
            out.write(b"diff --git a/%b b/%b\nnew file mode 100644\n" % (name, name))
            out.write(b"--- /dev/null\n+++ b/%b\n@@ -0,0 +1,%d @@\n" % (name, lines))
            for start in range(0, lines, 10_000):
                rows = range(start, min(start + 10_000, lines))
                out.write(b"".join(LINE % (number, row, row * 7919, row ^ number) for row in rows))
    names = "".join(f"{number:05}.patch\n" for number in range(count))
    (patches / "series").write_text(names)
    new_keys(folder / "keys", "bench")


def step(what: str, folder: Path) -> dict[str, float]:
    """One step, measured in this process."""
    from relforge.patching import bundle
    from relforge.patching.bundle.header import BundleSource, GitOrigin
    from relforge.patching.keys import (
        load_identities,
        load_recipients,
        load_signer,
        load_signing_key,
    )
    from relforge.patching.series import read_series

    keys = folder / "keys"
    recipients = load_recipients([keys / "bench.age.pub"])
    signing_key = load_signing_key(keys / "bench.sign.pem")
    signers = [load_signer("bench", keys / "bench.sign.pub.pem")]
    identities = load_identities([keys / "bench.age.key"])
    sealed = folder / "bench.bundle"
    before, started = own_mb(), time.perf_counter()
    if what == "seal":
        store = folder / "store.git"
        tree = subprocess.run(
            ["git", "--git-dir", store, "mktree"], input=b"", check=True, stdout=subprocess.PIPE
        ).stdout
        bundle.seal(
            read_series(folder / "set"),
            store_git_dir=store,
            source=BundleSource(
                name="bench", origin=GitOrigin(url="https://git.invalid/bench", commit="0" * 40)
            ),
            base_commit="0" * 40,
            base_tree=tree.decode().strip(),
            device=None,
            ships="none",
            creator="bench",
            recipients=recipients,
            signing_key=signing_key,
            out=sealed,
            home=folder / "home",
        )
    elif what == "open":
        with bundle.opened(sealed, signers, identities) as content:
            for _patch, chunks in content.patches():
                for _chunk in chunks:
                    pass
    else:
        bundle.rotate(
            sealed,
            trusted=signers,
            identities=identities,
            recipients=recipients,
            signing_key=signing_key,
            creator="bench",
            out=folder / "rotated.bundle",
        )
        (folder / "rotated.bundle").unlink()
    return {
        "seconds": time.perf_counter() - started,
        "own_mb": own_mb(),
        "before_mb": before,
        "git_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6,
    }


def own_mb() -> float:
    """Peak resident memory of this process in MB (the kernel counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())
