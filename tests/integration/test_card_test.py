"""``relforge card test`` on cards that need no engine: real shells, the real command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.card_tests import START, Tried


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site.yaml").write_text(json.dumps({"kind": "site", "home": "home"}))
    made = tmp_path / "release"
    made.mkdir()
    return made


def words(folder: Path, *options: str) -> list[str]:
    start = [sys.executable, *START]
    return [*start, str(folder), "--site", str(folder.parent / "site.yaml"), *options]


def tried(folder: Path, text: str, *options: str, env: dict[str, str] | None = None) -> Tried:
    (folder / "README.md").write_text(text)
    done = subprocess.run(
        words(folder, *options),
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
    )
    return Tried(done.returncode, done.stdout, done.stderr)


def run(folder: Path, text: str, *options: str, env: dict[str, str] | None = None) -> Tried:
    done = tried(folder, text, "--yes", "--json", "--timeout", "20", *options, env=env)
    assert not list((folder.parent / "home" / "work").iterdir()), "a work folder stayed"
    return done


def test_variables_and_folder_stay_from_block_to_block(folder: Path) -> None:
    done = run(
        folder,
        "# C\n\n```bash\nA='b  c'\nmkdir sub\ncd sub\n```\n\n"
        '```bash\necho "$A" > file\ncat file\nbasename "$PWD"\n```\n\nIt prints:\n\n'
        "```text\nb  c\nsub\n```\n",
    )
    assert done.code == 0, done.stdout
    assert done.verdicts == ["pass", "pass"]
    assert [p.name for p in folder.iterdir()] == ["README.md"], "the card's folder is untouched"


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("true\nfalse\necho never", "line 5 ended with status 1"),
        ("echo why >&2; exit 3", "the shell ended with status 3"),
        ("cat < absent | cat", "absent: No such file"),
        ("no-such-program-here", "command not found"),
        ("if true; then", "bash cannot read it"),
        ("# nothing", "it has no commands"),
        ("sleep 60", "line 4 did not end within 2 s"),
    ],
)
def test_the_first_statement_that_fails_ends_its_step(
    folder: Path, block: str, reason: str
) -> None:
    card = f"# C\n\n```bash\n{block}\n```\n\n```bash\necho on\n```\n"
    done = run(folder, card, "--timeout", "2")
    assert done.code == 6
    assert done.verdicts == ["fail", "pass"], "what does not rest on it goes on"
    assert reason in done.step(1)["reason"]
    assert "never" not in (done.step(1)["got"] or "")


def test_a_card_of_which_nothing_runs_has_not_passed(folder: Path) -> None:
    done = run(folder, "# C\n\n```bash\nA=1\n```\n\n```bash\nhf download a/b\n```\n")
    assert done.code == 6
    assert done.report["verdict"] == "not-run"
    assert done.report["reason"] == "no step that runs a program could be run here"
    assert run(folder, "# C\n\nWords.\n").report["reason"] == "the card has no commands"


def test_a_card_from_elsewhere_runs_only_with_consent(folder: Path) -> None:
    card = "# C\n\n```bash\ntouch /tmp/relforge-card-ran-$$\necho ran\n```\n"
    done = tried(folder, card)
    assert done.code == 2
    assert "was not written here" in done.stderr
    assert "--dry-run" in done.stderr
    assert done.stdout == ""


def test_a_card_that_the_card_stage_wrote_needs_none(folder: Path) -> None:
    import hashlib

    card = "# C\n\n```bash\necho ran\n```\n"
    results = folder.parent / "home" / "store" / "results" / "card"
    results.mkdir(parents=True)
    (results / "broken.json").write_text("{")
    record = {"result": {"outputs": [{"sha256": hashlib.sha256(card.encode()).hexdigest()}]}}
    (results / "key.json").write_text(json.dumps(record))
    assert tried(folder, card).code == 0
    assert tried(folder, card + "\nChanged.\n").code == 2


def test_a_dry_run_shows_all_and_runs_nothing(folder: Path) -> None:
    mark = folder.parent / "mark"
    card = f"# C\n\n```bash\ncp README.md {mark}\n```\n\n```bash\nhf download a/b\n```\n"
    done = tried(folder, card, "--dry-run")
    assert done.code == 0, done.stderr
    assert f"    cp README.md {mark}\n" in done.stdout
    assert "line 4: C: run\n" in done.stdout
    assert "line 8: C: not run: needs the network outside" in done.stdout
    assert "2 steps, 1 would run\n" in done.stderr
    assert not mark.exists()
    none = tried(folder, "# C\n\nNothing to type.\n", "--dry-run")
    assert (none.code, none.stdout) == (0, "")
    assert "the card has no step\n" in none.stderr
    listed = json.loads(tried(folder, card, "--dry-run", "--json").stdout)
    assert [step["run"] for step in listed] == [True, False]


def test_a_file_beside_the_card_that_changes_fails_it(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "a.txt").write_text("a\n")
    card = "# C\n\n```bash\ncat data/a.txt\nmkdir new\nrm data/a.txt\n```\n"
    assert run(folder, card).code == 0, "the copy may be changed"
    assert (folder / "data" / "a.txt").read_text() == "a\n"
    done = run(folder, "# C\n\n```bash\necho b >> data/a.txt\n```\n")
    assert done.code == 6
    assert done.report["altered"] == ["data/a.txt"]
    assert done.verdicts == ["pass"]
    assert done.report["verdict"] == "fail"


def test_the_home_may_lie_beside_the_card(folder: Path) -> None:
    site = folder / "site.yaml"
    site.write_text(json.dumps({"kind": "site", "home": "home"}))
    done = tried(folder, "# C\n\n```bash\nls\n```\n", "--yes", "--json", "--site", str(site))
    assert done.code == 0, done.stderr
    assert done.step(1)["got"] == "README.md\nsite.yaml\n"


def test_the_tester_s_value_takes_the_place_of_a_step(folder: Path) -> None:
    card = (
        "# C\n\n```bash\nhf download a/b --local-dir w\nW=$PWD/w\n```\n\n"
        '```bash\nls "$W"\necho "$EXTRA"\n```\n'
    )
    (folder.parent / "weights here").mkdir()
    (folder.parent / "weights here" / "model").touch()
    where = f"W={folder.parent}/weights here"
    done = run(folder, card, "--set", where, "--set", "EXTRA=a $b 'c'")
    assert done.verdicts == ["not-run", "pass"], done.stdout
    assert done.step(1)["reason"] == "W was given with --set"
    assert done.step(2)["got"] == "model\na $b 'c'\n"
    assert done.code == 0
    assert tried(folder, card, "--yes", "--set", "NOPE=1").code == 2
    assert tried(folder, card, "--yes", "--set", "NOPE").code == 2


def test_no_secret_of_the_environment_reaches_a_card(folder: Path) -> None:
    done = run(
        folder,
        "# C\n\n```bash\nenv\nls -A ~\n```\n",
        env={"HF_TOKEN": "hf-very-secret", "AWS_SECRET_ACCESS_KEY": "aws-very-secret"},
    )
    assert done.code == 0
    assert "very-secret" not in done.stdout
    assert f"HOME={Path.home()}\n" not in done.step(1)["got"]


def test_a_step_stands_in_the_project_where_its_paths_are_there_alone(folder: Path) -> None:
    project = folder.parent / "project"
    (project / "manifests").mkdir(parents=True)
    (project / "examples" / "w").mkdir(parents=True)
    (folder / "here.txt").write_text("beside\n")
    card = (
        "# C\n\n```bash\nW=$PWD/examples/w\n```\n\n```bash\ncat here.txt\nls -d \"$W\"\n```\n\n"
        "<!-- relforge:step look in=project -->\n\n```bash\npwd\n```\n"
    )  # fmt: skip
    done = run(folder, card, "--project", str(project))
    assert done.verdicts == ["pass", "pass", "pass"], done.stdout
    assert done.step(2)["got"] == f"beside\n{project}/examples/w\n"
    assert done.step(3)["got"] == f"{project}\n"


def test_a_server_of_the_host_occupies_its_terminal_and_ends_with_the_test(folder: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    card = f"""# C

<!-- relforge:step start ready=http://127.0.0.1:{port}/README.md -->

```bash
python3 -m http.server --bind 127.0.0.1 {port}
```

```bash
curl -s http://127.0.0.1:{port}/README.md | head -1
```

This prints `# C`.
"""
    done = run(folder, card)
    assert done.verdicts == ["pass", "pass"], done.stdout
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "the server goes on"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_runs(folder: Path, number: signal.Signals) -> None:
    mark = f"31{os.getpid()}{int(number)}"
    (folder / "README.md").write_text(f"# C\n\n```bash\nsleep {mark}\n```\n")
    child = subprocess.Popen(words(folder, "--yes"), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not _runs(mark):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(number)
    assert child.wait(20) == 130
    assert not _runs(mark)
    assert not list((folder.parent / "home" / "work").iterdir())


def _runs(mark: str) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cmdline").read_bytes() == f"sleep\0{mark}\0".encode():
                    return True
            except OSError:
                continue
    return False


def test_what_is_wrong_with_the_call_is_said(folder: Path) -> None:
    assert subprocess.run(words(folder), capture_output=True).returncode == 2
    card = "# C\n\n```bash\necho\n```\n"
    assert tried(folder, card, "--yes", "--have", "luck").code == 2
    assert tried(folder, card, "--yes", "--timeout", "0").code == 2
    marked = "# C\n\n<!-- relforge:step start redy=x -->\n\n```bash\ntrue\n```\n"
    done = tried(folder, marked, "--yes")
    assert done.code == 2
    assert "README.md:3" in done.stderr
