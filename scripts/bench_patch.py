#!/usr/bin/env python3
"""Measures what relforge promises about patches; prints medians and ratios, both sides in turn.

    scripts/bench_patch.py [--repo FLAGSCALE] [--python PYTHON] [--runs N] [--in FOLDER]

Without --repo a synthetic repository is used: 4,000 files, a patch of 1.3 MB for 148 of them. With
a clone of FlagScale its own legacy entry metax_C550/720f091b is applied, and FlagScale's own tool
beside it (--python: one that has GitPython, cryptography and pyyaml). Everything happens on a
tmpfs, /dev/shm unless told otherwise. Times are seconds inside the process; whole commands, with
the interpreter's start, stand beside them. Ends with 1 when a figure is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from relforge.patching.bundle import seal  # noqa: E402
from relforge.patching.bundle.header import BundleSource, GitOrigin  # noqa: E402
from relforge.patching.flagscale import sealed as flagscale_sealed  # noqa: E402
from relforge.patching.flagscale.entry import EntryPatches, StoredFile  # noqa: E402
from relforge.patching.keys import (  # noqa: E402
    load_identities,
    load_recipients,
    load_signer,
    load_signing_key,
    new_keys,
)
from relforge.patching.kinds import patch_set_at  # noqa: E402
from relforge.patching.series import read_series  # noqa: E402
from relforge.patching.source import PatchSource, Recipe, Trust  # noqa: E402
from relforge.patching.tree.folder import unpatch_to_folder  # noqa: E402
from relforge.patching.tree.place import put_in_place  # noqa: E402

FILES = 4000
CHANGED, NEW = 96, 52
SEPARATE = 76
FLAGSCALE_BASE = "720f091b60f28102f66ae7a451800c8e457e8c4e"
FLAGSCALE_TOOL = "ae859257"
FLAGSCALE_PATCH = f"{FLAGSCALE_TOOL}:hardware/metax_C550/720f091b/720f091b.patch"
LEGACY = """
import sys, time
import git, yaml, cryptography.hazmat.primitives.ciphers
import cryptography.hazmat.primitives.asymmetric.rsa
sys.path.insert(0, "tools/patch")
sys.argv = ["tools/patch/unpatch.py", "--device-type", "metax_C550", "--commit-id", "720f091b",
            "--dir", "build"]
import runpy
started = time.perf_counter()
runpy.run_path("tools/patch/unpatch.py", run_name="__main__")
print("SECONDS", time.perf_counter() - started)
"""


@dataclass(frozen=True)
class Ground:
    """A repository on the tmpfs, a base commit in it, and a patch for that."""

    root: Path
    repo: Path
    base: str
    tree: str
    plain: Path
    flagscale: bool

    @property
    def patch(self) -> Path:
        return self.plain / "0001-all.patch"


def git(repo: Path, *args: str | Path, stdin: bytes | None = None) -> bytes:
    env = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    env |= {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER")
            for part, value in (("NAME", "bench"), ("EMAIL", "b@invalid"))}  # fmt: skip
    return subprocess.run(
        ["git", "-C", repo, *args], env=env, input=stdin, check=True, capture_output=True
    ).stdout


def synthetic(root: Path) -> Ground:
    """About 50 MB in 4,000 files that look like source, and 1.3 MB of changes."""
    chance = random.Random(7)
    words = [f"name_{chance.randrange(10**6)}" for _ in range(3000)]

    def lines(count: int) -> list[str]:
        return [f"    {chance.choice(words)} = {chance.choice(words)}({n})" for n in range(count)]

    repo = root / "repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    paths = []
    for number in range(FILES):
        path = repo / f"part{number % 40}" / f"module{number % 9}" / f"file_{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines(chance.randrange(50, 600))) + "\n")
        paths.append(path)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "base")
    base = git(repo, "rev-parse", "HEAD").decode().strip()
    for path in paths[: CHANGED * 20 : 20]:
        body = path.read_text().splitlines()
        for at in range(5, len(body), 37):
            body[at : at + 3] = lines(4)
        path.write_text("\n".join(body) + "\n")
    for number in range(NEW):
        (repo / f"part{number % 40}" / f"vendor_{number}.py").write_text("\n".join(lines(500)))
    git(repo, "add", "-A")
    patch = git(repo, "diff", "--cached", "--binary", "HEAD")
    git(repo, "reset", "-q", "--hard")
    git(repo, "gc", "-q", "--prune=now")
    return _ground(root, repo, base, patch, flagscale=False)


def real(root: Path, clone: Path) -> Ground:
    """The legacy entry of a FlagScale clone."""
    repo = root / "FlagScale"
    git(clone, "clone", "-q", "--no-checkout", clone, repo)
    git(repo, "repack", "-adq")
    sparse = clone / ".git/info/sparse-checkout"
    if sparse.is_file():
        (repo / ".git/info").mkdir(exist_ok=True)
        shutil.copy(sparse, repo / ".git/info/sparse-checkout")
    return _ground(root, repo, FLAGSCALE_BASE, git(repo, "show", FLAGSCALE_PATCH), flagscale=True)


def _ground(root: Path, repo: Path, base: str, patch: bytes, *, flagscale: bool) -> Ground:
    plain = root / "set"
    plain.mkdir()
    (plain / "0001-all.patch").write_bytes(patch)
    (plain / "series").write_text("0001-all.patch\n")
    tree = git(repo, "rev-parse", f"{base}^{{tree}}").decode().strip()
    return Ground(root, repo, base, tree, plain, flagscale)


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


class Bench:
    """Every measured action; what is left of the last one is removed outside of the clock."""

    def __init__(self, ground: Ground, runs: int, python: Path) -> None:
        self.ground, self.runs, self.python = ground, runs, python
        self.out = ground.root / "out"
        self.home = ground.root / "home"
        self.missed: list[str] = []
        keys = new_keys(ground.root / "keys", "bench")
        self.trust = Trust(
            (load_signer("bench", keys.signing_public),), load_identities([keys.identity])
        )
        origin = GitOrigin(url="https://git.invalid/bench", commit=ground.base)
        self.bundle = ground.root / "set.bundle"
        seal(
            read_series(ground.plain),
            store_git_dir=ground.repo / ".git",
            source=BundleSource(name="bench", origin=origin),
            base_commit=ground.base,
            base_tree=ground.tree,
            device=None,
            ships="none",
            creator="bench",
            recipients=load_recipients([keys.recipient]),
            signing_key=load_signing_key(keys.signing_key),
            out=self.bundle,
            home=self.home,
        )

    def recipe(self, patches: PatchSource) -> Recipe:
        return Recipe(
            self.ground.repo / ".git", self.ground.tree, patches, trust=self.trust,
            base_commit=self.ground.base,
        )  # fmt: skip

    def unpatch(self, patches: Callable[[], PatchSource]) -> float:
        shutil.rmtree(self.out, ignore_errors=True)
        return timed(
            lambda: unpatch_to_folder(
                self.out, self.recipe(patches()), home=self.home, epoch=1_700_000_000
            )
        )

    def plain(self) -> float:
        return self.unpatch(lambda: patch_set_at(self.ground.plain))

    def sealed(self) -> float:
        return self.unpatch(lambda: patch_set_at(self.bundle))

    def again(self) -> float:
        recipe = self.recipe(patch_set_at(self.ground.plain))
        return timed(
            lambda: unpatch_to_folder(self.out, recipe, home=self.home, epoch=1_700_000_000)
        )

    def worktree(self) -> float:
        tree = self.ground.root / "worktree"
        shutil.rmtree(tree, ignore_errors=True)
        git(self.ground.repo, "worktree", "prune")

        def both() -> None:
            git(self.ground.repo, "worktree", "add", "-q", "--detach", tree, self.ground.base)
            git(tree, "apply", "--index", "--whitespace=nowarn", self.ground.patch)

        return timed(both)

    def legacy(self) -> tuple[float, float]:
        """FlagScale's own tool in a fresh clone: seconds inside, and of the whole command."""
        place = self.ground.root / "legacy"
        shutil.rmtree(place, ignore_errors=True)
        clone = place / "FlagScale"
        clone.parent.mkdir()
        git(self.ground.repo, "clone", "-q", "--no-checkout", self.ground.repo, clone)
        sparse = self.ground.repo / ".git/info/sparse-checkout"
        if sparse.is_file():  # a mirror may lack some files
            shutil.copy(sparse, clone / ".git/info/sparse-checkout")
            git(clone, "config", "core.sparseCheckout", "true")
            git(clone, "config", "core.sparseCheckoutCone", "false")
        git(clone, "checkout", "-q", "-B", "work", FLAGSCALE_TOOL)
        git(clone, "config", "user.name", "bench")
        git(clone, "config", "user.email", "b@invalid")
        started = time.perf_counter()
        done = subprocess.run(
            [self.python, "-c", LEGACY], cwd=clone, check=True, capture_output=True, text=True
        )
        whole = time.perf_counter() - started
        result = clone / "build/metax_C550/FlagScale"
        head = git(result, "log", "-1", "--format=%P").decode().strip()
        if head != self.ground.base:
            raise SystemExit(f"FlagScale's tool did not apply the patch:\n{done.stdout}")
        return float(done.stdout.split("SECONDS")[1]), whole

    def command(self) -> float:
        """The whole of our command: a new interpreter that does the same."""
        shutil.rmtree(self.out, ignore_errors=True)
        program = (
            "import sys; from pathlib import Path\n"
            "from relforge.patching.tree.folder import unpatch_to_folder\n"
            "from relforge.patching.source import Recipe\n"
            "from relforge.patching.kinds import patch_set_at\n"
            "git, tree, patches, out, home = sys.argv[1:]\n"
            "recipe = Recipe(Path(git), tree, patch_set_at(Path(patches)))\n"
            "unpatch_to_folder(Path(out), recipe, home=Path(home), epoch=1)\n"
        )
        argv: list[str | Path] = [
            self.ground.repo / ".git",
            self.ground.tree,
            self.ground.plain,
            self.out,
            self.home,
        ]
        env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        return timed(
            lambda: subprocess.run([sys.executable, "-c", program, *argv], env=env, check=True)
        )

    def row(self, what: str, figure: float, limit: float, detail: str) -> None:
        good = figure <= limit
        if not good:
            self.missed.append(what)
        print(f"{what:<58} {figure:6.3f}  (<= {limit:g})  {'' if good else 'MISSED  '}{detail}")

    def ratio(
        self, what: str, limit: float, ours: Callable[[], float], theirs: Callable[[], float]
    ) -> None:
        """Medians of both sides, which take turns; the first turn is for warming up."""
        pairs = [(ours(), theirs()) for _ in range(self.runs + 1)][1:]
        one, other = (statistics.median(side) for side in zip(*pairs, strict=True))
        self.row(what, one / other, limit, f"{one * 1e3:.0f} ms / {other * 1e3:.0f} ms")

    def all(self) -> None:
        self.bytes_written()  # first: git worktree puts the patched objects into the repository
        self.ratio("plain / (git worktree add + git apply --index)", 1.0, self.plain, self.worktree)
        whole = statistics.median(self.command() for _ in range(self.runs))
        print(f"{'':<58} whole command {whole * 1e3:.0f} ms")
        if self.ground.flagscale:
            self.against_legacy()
        else:
            print("plain / FlagScale's legacy tool: not run, no clone is named (--repo)")
        self.ratio("sealed / plain", 1.1, self.sealed, self.plain)
        one, other = separate_files(self)
        self.ratio(f"{SEPARATE} separately sealed files / the same plain", 1.5, one, other)
        self.plain()
        times = sorted(self.again() for _ in range(self.runs))
        self.row("unchanged tree applied again, seconds", statistics.median(times), 0.1, "")

    def against_legacy(self) -> None:
        pairs = [(self.plain(), self.command(), *self.legacy()) for _ in range(self.runs)]
        ours, whole, theirs, their_whole = (
            statistics.median(side) for side in zip(*pairs, strict=True)
        )
        detail = f"{ours * 1e3:.0f} ms / {theirs * 1e3:.0f} ms"
        self.row("plain / FlagScale's legacy tool", ours / theirs, 0.55, detail)
        detail = f"{whole * 1e3:.0f} ms / {their_whole * 1e3:.0f} ms"
        print(f"{'  whole commands':<58} {whole / their_whole:6.3f}  {detail}")

    def bytes_written(self) -> None:
        """Everything in the work area when the tree is done, the marker, the index's first form."""
        found: dict[str, int] = {}

        def watched(fresh: Path, target: Path, *, replace: bool) -> None:
            for path in (self.home / "work").rglob("*"):
                if path.is_file():
                    found[str(path)] = path.stat().st_size * (2 if path.name == "index" else 1)
            found["marker"] = (fresh / ".relforge-tree.json").stat().st_size
            put_in_place(fresh, target, replace=replace)

        with mock.patch("relforge.patching.tree.folder.put_in_place", watched):
            self.plain()
        tree = sum(p.lstat().st_size for p in self.out.rglob("*") if p.is_file())
        tree -= found["marker"]
        share = sum(found.values()) / tree
        detail = f"{sum(found.values()) / 1e6:.1f} MB / {tree / 1e6:.1f} MB"
        self.row("bytes written besides the result tree / tree", share, 0.05, detail)


def separate_files(bench: Bench) -> tuple[Callable[[], float], Callable[[], float]]:
    """The current layout: one patch file for each changed file, sealed and plain."""
    ground = bench.ground
    chunks = ground.patch.read_bytes().split(b"\ndiff --git ")
    parts = [chunks[0] + b"\n", *(b"diff --git " + part + b"\n" for part in chunks[1:])]
    parts = [part[part.index(b"diff --git ") :] for part in parts if b"diff --git " in part]
    keys = ground.root / "rsa"
    pair = flagscale_keys(keys)
    names: dict[bool, list[StoredFile]] = {True: [], False: []}
    for number, part in enumerate(parts[:SEPARATE]):
        for closed in (True, False):
            name = f"{number:03}.patch" + (".encrypted" if closed else "")
            path = ground.root / "separate" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(flagscale_seal(part, pair) if closed else part)
            names[closed].append(StoredFile(name, path))
    trust = Trust(identities=load_identities([keys / "private_key.pem"]))

    def run(closed: bool) -> float:
        from relforge.gitio import Git

        bench.trust = trust
        shown = Git(ground.repo / ".git")
        return bench.unpatch(lambda: EntryPatches("bench", "bench", tuple(names[closed]), shown))

    return (lambda: run(True)), (lambda: run(False))


def flagscale_keys(folder: Path) -> object:
    from relforge.patching.flagscale.keypair import key_pair

    return key_pair(folder, passphrase=None, on_line=lambda _line: None)


def flagscale_seal(data: bytes, pair: object) -> bytes:
    return b"".join(flagscale_sealed.seal(iter([data]), pair.public))  # type: ignore[attr-defined]


@contextlib.contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="relforge-bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", type=Path)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--in", dest="parent", type=Path, default=Path("/dev/shm"))
    words = parser.parse_args()
    with scratch(words.parent) as root:
        ground = real(root, words.repo.absolute()) if words.repo else synthetic(root)
        bench = Bench(ground, words.runs, words.python.absolute())
        bench.all()
    if bench.missed:
        print(f"missed: {', '.join(bench.missed)}")
    return int(bool(bench.missed))


if __name__ == "__main__":
    sys.exit(main())
