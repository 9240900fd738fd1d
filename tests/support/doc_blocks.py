"""Shell blocks of README and docs/*.md: which mark stands above them, and running them.

A block has one of two marks, which readers do not see:

    <!-- runs: tests/integration/test_docs_patches.py -->   that test types it, as it stands there
    <!-- needs: an accelerator -->                          what no test of this repository can have

A test asks for the blocks that name it (``marked``) and types them (``Shell``), so that a mark that
names a test is true.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relforge.card.lint.document import Block, read

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
NEEDS = (
    "an accelerator",
    "a host with the device",
    "several hosts",
    "a registry of yours",
    "a fresh Debian 12 host",
)
"""What a block may need that no test here can have."""
_MARK = re.compile(r"<!-- (runs|needs): (.+?) -->")


@dataclass(frozen=True)
class Marked:
    """A shell block. ``runs`` is the file that runs it, ``needs`` what it needs; None: no such
    mark."""

    page: str
    line: int
    text: str
    language: str
    runs: str | None = None
    needs: str | None = None

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> tuple[Marked, ...]:
    """The shell blocks of a page, such as ``docs/verify.md``, in their order."""
    document = read(ROOT / page)
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    return tuple(_marked(page, block, lines) for block in document.blocks if block.is_shell)


def _marked(page: str, block: Block, lines: list[str]) -> Marked:
    above = next((row for row in reversed(lines[: block.line - 1]) if row.strip()), "")
    found = _MARK.fullmatch(above.strip())
    named = {found[1]: found[2]} if found else {}
    return Marked(page, block.line, block.text, block.language, **named)


def marked(page: str, test: str) -> tuple[Marked, ...]:
    """The blocks of a page that a test has to run; ``test`` is its ``__file__``."""
    name = Path(test).resolve().relative_to(ROOT).as_posix()
    found = tuple(block for block in blocks(page) if block.runs == name)
    assert found, f"no block of {page} says that {name} runs it"
    return found


@dataclass(frozen=True)
class Said:
    """What a block printed."""

    stdout: str
    stderr: str

    @property
    def both(self) -> str:
        return self.stdout + self.stderr


@dataclass
class Shell:
    """Types blocks, each in a shell of its own that ends with the first command that fails.

    ``relforge`` is this checkout's. Nothing of the user's own settings is seen: HOME is a folder of
    the test's. ``before`` stands in front of each block, for a stand-in of a program.
    """

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    programs: Path | None = None
    """Where its programs lie; None: beside the folder."""

    def __post_init__(self) -> None:
        beside = self.folder.parent / f"{self.folder.name}-programs"
        program = (self.programs or beside) / "relforge"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            "from relforge.cli import main\nmain()\n"
        )
        program.chmod(0o755)
        (program.parent / "home").mkdir(exist_ok=True)
        ours = {name: value for name, value in os.environ.items() if name != "RELFORGE_SITE"}
        self._env = {
            **ours,
            "PATH": f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(program.parent / "home"),
            **self.env,
        }

    def type(self, block: Marked | str, instead: Mapping[str, str] | None = None) -> Said:
        """Runs it; the test fails where it fails. ``instead`` puts a stand-in's address, or the
        like, in the place of what the page names."""
        text, where = (block, "") if isinstance(block, str) else (block.text, block.where)
        for old, new in (instead or {}).items():
            text = text.replace(old, new)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{self.before}\n{text}"],
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{where}\n{text}\n{done.stdout}{done.stderr}"
        return Said(done.stdout, done.stderr)
