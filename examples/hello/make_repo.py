#!/usr/bin/env python3
"""Makes a git repository of examples/hello/src and prints its commit.

    make_repo.py DIR

The commit is the same on every machine: author, dates, message, file modes and object format are
fixed, and no git configuration of the user is read. A manifest can therefore pin it, and anybody
can make the repository it is pinned in. DIR must be absent or empty, or be such a repository
already (then nothing is done). Exit codes: 0 done, 2 usage, 3 git is missing.
"""

# ruff: noqa: T201 (a program: its result goes to stdout)
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "src"
MESSAGE = "hello-server 1.0.0\n"
DATE = "2026-01-01T00:00:00+00:00"
IGNORED_FOLDERS = {"__pycache__", "build", "dist"}
IGNORED_SUFFIXES = {".pyc", ".so", ".egg-info", ".whl"}


def source_files() -> list[str]:
    """The source's files, sorted; what a build leaves behind is not among them."""
    found = []
    for path in SOURCE.rglob("*"):
        parts = path.relative_to(SOURCE).parts
        hidden = any(
            part in IGNORED_FOLDERS or part.startswith(".") or Path(part).suffix in IGNORED_SUFFIXES
            for part in parts
        )
        if path.is_file() and not hidden:
            found.append("/".join(parts))
    return sorted(found)


def git(folder: Path, *words: str, stdin: bytes | None = None) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "relforge examples",
        "GIT_AUTHOR_EMAIL": "examples@relforge.invalid",
        "GIT_AUTHOR_DATE": DATE,
        "GIT_COMMITTER_NAME": "relforge examples",
        "GIT_COMMITTER_EMAIL": "examples@relforge.invalid",
        "GIT_COMMITTER_DATE": DATE,
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *words], input=stdin, env=env, capture_output=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"make_repo: git {words[0]} failed: {done.stderr.decode().strip()}")
    return done.stdout.decode().strip()


def make(folder: Path) -> str:
    """Makes the repository in *folder* and returns the commit of its branch ``main``."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", "--template=", "--object-format=sha1", "--initial-branch=main")
    for name in source_files():
        # By content: the modes and line endings of this checkout play no part.
        blob = git(folder, "hash-object", "-w", "--stdin", stdin=(SOURCE / name).read_bytes())
        git(folder, "update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
    tree = git(folder, "write-tree")
    commit = git(folder, "commit-tree", tree, stdin=MESSAGE.encode())
    git(folder, "update-ref", "refs/heads/main", commit)
    git(folder, "reset", "--quiet", "--hard")
    # Lets a client fetch the pinned commit itself, whatever branches are there.
    git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    return commit


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if "-h" in sys.argv or "--help" in sys.argv else 2)
    if shutil.which("git") is None:
        print("make_repo: git is not installed; install it and run this again", file=sys.stderr)
        sys.exit(3)
    folder = Path(sys.argv[1]).absolute()
    if folder.exists() and any(folder.iterdir()):
        if not (folder / ".git").is_dir():
            print(f"make_repo: {folder} is not empty; name another folder", file=sys.stderr)
            sys.exit(2)
        found = git(folder, "rev-parse", "refs/heads/main")
        wanted = make_elsewhere()
        if found != wanted:
            print(f"make_repo: {folder} holds {found}, not {wanted}; remove it", file=sys.stderr)
            sys.exit(2)
        print(found)
        return
    print(make(folder))


def make_elsewhere() -> str:
    """The commit that the source has now, made in a folder that is thrown away."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return make(Path(folder))


if __name__ == "__main__":
    main()
