"""``relforge board``: what it writes, says and refuses; and the commands of docs/board.md."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from relforge.manifest.project import Project, builtin_root
from tests.support.boards import put_record, put_run, run_of, varied
from tests.support.fleet import make_project
from tests.support.records import record as small_record

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "board.md").read_text()
COMMANDS = TEXT.split("```bash\n")[1].split("```")[0].splitlines()
RELEASE = "model-0-chip_0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "place"
    make_project(root, 2, wheels=3)
    plain = small_record(("verdicts", {"smoke": "pass", "evaluate": "pass", "scan": "pass"}))
    project = Project((root, builtin_root()))
    put_record(root / "dist", varied(plain, project, RELEASE, number=1))
    put_record(root / "archive" / "1", varied(plain, project, RELEASE))
    put_run(root / "home", run_of(RELEASE, 1))
    (root / "site.yaml").write_text('{"kind": "site", "home": "home"}')
    return root


def relforge(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from relforge.cli import main; main()", *words],
        cwd=root, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RELFORGE_SITE": str(root / "site.yaml")},
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_the_page_is_written_and_json_says_what(root: Path) -> None:
    done = relforge(root, "board", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    schema = json.loads((ROOT / "manifests/schema/board-output.schema.json").read_text())
    jsonschema.validate(told, schema)
    written = files(root / "board")
    assert told["out"] == str(root / "board")
    assert told["releases"] == 2
    assert told["states"] == {"not-run": 1, "released": 1}
    assert (told["runs"], told["problems"]) == (1, 0)
    assert told["files"] == len(written)
    assert told["bytes"] == sum(len(data) for data in written.values())
    assert "wrote" in done.stderr
    assert any(name.startswith("charts/") for name in written)


def test_the_same_inputs_give_the_same_bytes(root: Path) -> None:
    assert relforge(root, "board").returncode == 0
    assert relforge(root, "board", "--out", "other").returncode == 0
    first = files(root / "board")
    assert first == files(root / "other")
    assert relforge(root, "board").returncode == 0
    assert files(root / "board") == first


def test_a_chart_that_somebody_altered_is_drawn_again(root: Path) -> None:
    relforge(root, "board")
    first = files(root / "board")
    chart = next(name for name in first if name.startswith("charts/"))
    (root / "board" / chart).write_text("<svg/>")
    relforge(root, "board")
    assert files(root / "board") == first


def test_what_is_no_longer_true_is_gone_from_the_folder(root: Path) -> None:
    relforge(root, "board")
    before = {name for name in files(root / "board") if name.startswith("releases/")}
    for name in (f"{RELEASE}.yaml", f"{RELEASE}.lock.yaml"):
        (root / "manifests" / "releases" / name).unlink()
    (root / "dist" / RELEASE / "release.json").unlink()
    relforge(root, "board")
    after = {name for name in files(root / "board") if name.startswith("releases/")}
    assert len(before - after) == 1


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_folder_of_somebody_else_is_not_replaced(root: Path, kind: str) -> None:
    target = root / "mine"
    if kind == "folder":
        target.mkdir()
        (target / "thesis.txt").write_text("years of work")
    else:
        target.write_text("years of work")
    done = relforge(root, "board", "--out", "mine")
    assert done.returncode == 2
    assert "holds something else" in done.stderr
    assert "years of work" in (target / "thesis.txt" if kind == "folder" else target).read_text()
    assert not [one for one in root.iterdir() if one.name.startswith(".mine")]


def test_what_cannot_be_written_leaves_the_old_page(root: Path) -> None:
    """A full disk, in effect: no file may grow beyond some bytes."""
    relforge(root, "board")
    first = files(root / "board")
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "from relforge.cli import main; main(['board'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RELFORGE_SITE": str(root / "site.yaml")},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "cannot write" in done.stderr
    assert files(root / "board") == first
    assert not [one for one in root.iterdir() if one.name.startswith(".board")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("127.0.0.1:80",), "--serve is not given"),
        (("--serve", "--out", "x"), "--serve writes nothing"),
        (("--serve", "--json"), "--serve writes nothing"),
        (("--serve", "nowhere:port"), "is no address to serve at"),
        (("--serve", "127.0.0.1:99999"), "is no address to serve at"),
        (("--dist", "missing"), "--dist names no folder"),
        (("--history", "missing"), "--history names no folder"),
    ],
)
def test_what_is_refused(root: Path, words: tuple[str, ...], said: str) -> None:
    done = relforge(root, "board", *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert not (root / "board").exists()


def test_a_port_that_is_taken(root: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = relforge(root, "board", "--serve", f"127.0.0.1:{port}")
    assert done.returncode == 3
    assert "cannot serve at" in done.stderr


def test_the_commands_of_the_documentation(root: Path) -> None:
    assert len(COMMANDS) == 4
    for command in COMMANDS:
        _, *words = shlex.split(command, comments=True)
        (root / "other-dist").mkdir(exist_ok=True)
        done = relforge(root, *words)
        assert done.returncode == 0, done.stderr


def test_the_documentation_names_every_state() -> None:
    from relforge.board.model import STATES

    for state in STATES:
        assert f"| {state} |" in TEXT
