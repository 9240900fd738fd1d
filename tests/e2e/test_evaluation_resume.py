"""An evaluation that is killed goes on with the questions that were not answered, and no other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.evaluation.answers import request_key
from tests.e2e.conftest import Hello, Result, command, containers
from tests.e2e.test_faults import change_server

pytestmark = pytest.mark.timeout(600)
QUESTIONS = 500
# Says what it is asked, and takes its time: at 8 at once the questions take some 6 s.
SLOW = (
    "import time, hello_server.__main__ as server\n"
    "parse = server.parse\n"
    "def slow(body, **words):\n"
    "    if isinstance(body, dict) and body.get('prompt'):\n"
    "        print('ASKED ' + body['prompt'] + chr(10), end='', flush=True)\n"
    "        time.sleep(0.1)\n"
    "    return parse(body, **words)\n"
    "server.parse = slow\n"
    "server.main()\n"
)


def release_of(hello: Hello, home: Path) -> Path:
    """The site of a home of its own; the server is slow."""
    home.mkdir()
    (home / "base").symlink_to((hello.home / "base").resolve())
    words = ["--model", "{model_path}", "--port", "{port}", "--served-name", "{served_name}"]
    manifest = hello.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    if "time.sleep" not in manifest.read_text():
        change_server(hello, "python3", "-c", SLOW, *words)
    return hello.other_site(home.parent / f"{home.name}.yaml", home=str(home))


def killed_after(hello: Hello, site: Path, home: Path, answers: int) -> list[str]:
    """Kills relforge and all its children once so many answers are kept; returns their lines."""
    words = command(
        "eval", "--project", hello.project, "--release", "hello-cpu_x86", "--site", site
    )
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as running:
        deadline = time.monotonic() + 240
        while len(kept(home)) < answers:
            assert running.poll() is None, "the evaluation ended before it could be killed"
            assert time.monotonic() < deadline, "the evaluation was not reached"
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGKILL)
    return kept(home)


def kept(home: Path) -> list[str]:
    """The answers in the one log that there is."""
    logs = list(home.glob("answers/*/*.jsonl"))
    assert len(logs) < 2
    return logs[0].read_text().splitlines()[1:] if logs else []


def questions(hello: Hello) -> dict[str, str]:
    """The questions by the key of their request."""
    lines = (hello.project / "heldout.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    task = yaml.safe_load((hello.project / "task.yaml").read_text())
    generation = task["generation_kwargs"]
    return {
        request_key("generate_until", [row["question"], generation]): row["question"]
        for row in rows
    }


def asked(home: Path) -> list[str]:
    """What the server of the last run was asked, by its own log."""
    log = max(home.glob("runs/*/*/logs/server-evaluate.log"), key=lambda path: path.parents[2])
    return re.findall(r"ASKED (\S+)", log.read_text())


def evidence(home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The stage's result, and its evidence file."""
    (path,) = home.glob("store/results/evaluate/*.json")
    result = json.loads(path.read_bytes())["result"]
    file: dict[str, Any] = json.loads(Path(result["outputs"][0]["path"]).read_bytes())
    return result, file


def evaluated(done: Result) -> None:
    assert done.code == 0, done.stderr
    assert {s["name"]: s["status"] for s in done.json["stages"]}["evaluate"] == "ran"


def test_killed_twice_and_run_to_its_end(hello: Hello, tmp_path: Path) -> None:
    home = tmp_path / "killed"
    site = release_of(hello, home)
    first = killed_after(hello, site, home, 60)
    second = killed_after(hello, site, home, 150)
    assert second[: len(first)] == first, "what was answered is kept as it was"
    assert len(second) < QUESTIONS, "it was killed too late to prove anything"
    # The last line is torn, as a machine leaves it that went down.
    (log,) = home.glob("answers/*/*.jsonl")
    log.write_bytes(log.read_bytes()[:-7])
    before = len(second) - 1

    done = hello.run("eval", "--json", site=site)
    evaluated(done)
    assert f"{before} answers are of an earlier run" in done.stderr + _stage_log(home)
    assert containers() == []
    by_key = questions(hello)
    answered = {by_key[json.loads(line)[1]] for line in second[:-1]}
    assert len(answered) == before
    again = asked(home)
    assert len(again) == len(set(again)) == QUESTIONS - before
    assert not answered & set(again), "questions were asked that had an answer"

    result, file = evidence(home)
    assert result["tasks"][0]["from_earlier_runs"] == before
    assert file["result"].pop("seconds") is None
    assert not (home / "answers").exists() or not list((home / "answers").iterdir())

    other = tmp_path / "whole"
    evaluated(hello.run("eval", "--json", site=release_of(hello, other)))
    whole, unkilled = evidence(other)
    assert whole["tasks"][0]["from_earlier_runs"] == 0
    assert unkilled["result"].pop("seconds") > 0
    assert file == unkilled
    assert len(asked(other)) == QUESTIONS


def test_answers_of_another_image_are_not_taken_over(hello: Hello, tmp_path: Path) -> None:
    home = tmp_path / "killed"
    site = release_of(hello, home)
    killed_after(hello, site, home, 60)
    manifest = hello.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    # The same sources, served with another option: nobody knows that the answers are the same.
    manifest.write_text(manifest.read_text().replace("shm_bytes: 67108864", "shm_bytes: 67108865"))
    evaluated(hello.run("eval", "--json", site=site))
    assert len(asked(home)) == QUESTIONS
    result, _ = evidence(home)
    assert result["tasks"][0]["from_earlier_runs"] == 0


def _stage_log(home: Path) -> str:
    return "".join(path.read_text() for path in home.glob("runs/*/*/logs/evaluate.log"))
