"""Answers that are kept as they come: what is taken over after a kill, and what never is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from relforge.evaluation.answers import Answer, AnswerLog, request_key


def keep(path: Path, count: int, identity: str = "image A") -> list[str]:
    keys = [request_key("generate_until", [f"{i}+1=", {"until": ["\n"]}]) for i in range(count)]
    log = AnswerLog(path, identity)
    for number, key in enumerate(keys):
        log.add(key, Answer(f"{number}\u2028é\n", "stop"))
    log.close()
    return keys


def test_what_was_kept_is_taken_once(tmp_path: Path) -> None:
    keys = keep(tmp_path / "a" / "log", 3)
    log = AnswerLog(tmp_path / "a" / "log", "image A")
    assert log.earlier == 3
    assert log.take(keys[2]) == Answer("2\u2028é\n", "stop")
    assert log.take(keys[2]) is None
    assert log.take("another request") is None
    assert log.taken == 1
    log.close()


def test_equal_requests_are_told_apart_by_their_number(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log", "x")
    log.add("k", Answer("one"))
    log.add("k", Answer("two"))
    log.close()
    log = AnswerLog(tmp_path / "log", "x")
    taken = [log.take("k"), log.take("k"), log.take("k")]
    assert taken == [Answer("one"), Answer("two"), None]
    log.close()


def test_answers_of_something_else_are_not_taken_over(tmp_path: Path) -> None:
    keys = keep(tmp_path / "log", 3)
    log = AnswerLog(tmp_path / "log", "image B")
    assert (log.earlier, log.take(keys[0])) == (0, None)
    log.close()
    # Nor are they there again for the first.
    assert AnswerLog(tmp_path / "log", "image A").earlier == 0


def cut(lines: list[bytes]) -> bytes:
    return b"".join(lines)[:-9]


def without_end(lines: list[bytes]) -> bytes:
    return b"".join(lines)[:-1]


def altered(lines: list[bytes]) -> bytes:
    return b"".join([*lines[:3], lines[3].replace(b"2", b"3", 1), lines[4]])


def zeroed(lines: list[bytes]) -> bytes:
    return b"".join([*lines[:3], bytes(len(lines[3])), lines[4]])


@pytest.mark.parametrize(
    ("damage", "left"), [(cut, 3), (without_end, 3), (altered, 2), (zeroed, 2)]
)
def test_a_damaged_line_ends_what_is_taken_over(tmp_path: Path, damage: object, left: int) -> None:
    path = tmp_path / "log"
    keys = keep(path, 4)
    path.write_bytes(damage(path.read_bytes().splitlines(keepends=True)))  # type: ignore[operator]
    log = AnswerLog(path, "image A")
    assert log.earlier == left
    assert [log.take(key) is not None for key in keys] == [i < left for i in range(4)]
    log.add(keys[3], Answer("new"))
    log.close()
    assert AnswerLog(path, "image A").earlier == left + 1, "what is written next is whole again"


def test_requests_differ_by_everything_that_is_asked() -> None:
    asked = ["1+1=", {"until": ["\n"], "temperature": 0.0}]
    keys = {
        request_key("generate_until", asked),
        request_key("loglikelihood", asked),
        request_key("generate_until", ["1+2=", asked[1]]),
        request_key("generate_until", ["1+1=", {"until": ["\n"], "temperature": 1.0}]),
        request_key("generate_until", ["1+1=", {"until": ["\n", "x"], "temperature": 0.0}]),
    }
    assert len(keys) == 5
    turned = ["1+1=", {"temperature": 0.0, "until": ["\n"]}]
    assert request_key("generate_until", turned) in keys


def test_a_killed_process_leaves_every_answer_that_it_had(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from relforge.evaluation.answers import Answer, AnswerLog\n"
        "log = AnswerLog(Path(sys.argv[1]), 'x')\n"
        "for i in range(100_000):\n"
        "    log.add(str(i), Answer('a' * 200))\n"
        "    print(i, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if int(line) == 500:
                break
        os.kill(running.pid, signal.SIGKILL)
        said = [int(line) for line in running.stdout.read().split("\n")[:-1] if line]
    log = AnswerLog(tmp_path / "log", "x")
    assert log.earlier >= max(said, default=500) + 1
    assert all(log.take(str(i)) for i in range(501))
    log.close()


def test_the_first_line_says_what_it_is(tmp_path: Path) -> None:
    keep(tmp_path / "log", 1)
    head = json.loads((tmp_path / "log").read_text().splitlines()[0])
    assert head == {"format": "relforge.answers/1", "identity": "image A"}
