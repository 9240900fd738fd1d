"""Tuning a served image: a server that answers wrongly, or dies, unless operators are disabled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Hello, command, containers
from tests.e2e.test_hello import edited_files, pin

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif("RELFORGE_LONG" not in os.environ, reason="minutes: RELFORGE_LONG=1"),
]

OPERATORS = tuple(f"op_{number:02}" for number in range(24))
# One spoils a tenth of the answers, none of them a greedy text of the reference; one kills the
# server at its start; two spoil all answers, but only while both are enabled.
SPOILS, KILLS, PAIR = "op_05", "op_17", ("op_08", "op_20")
PLANTED = f'''

import os as _os

_disabled = set(_os.environ.get("HELLO_DISABLED_OPERATORS", "").split("|"))
_right = Model.answer
if "{KILLS}" not in _disabled and "{KILLS}" in _os.environ.get("HELLO_FAULTS", ""):
    raise SystemExit("RuntimeError: operator {KILLS} failed")


def _answer(self, prompt):
    text = _right(self, prompt)
    found = _QUESTION.search(prompt)
    spoilt = found is not None and found[2].endswith("7")
    faults = _os.environ.get("HELLO_FAULTS", "")
    if spoilt and "{SPOILS}" in faults and "{SPOILS}" not in _disabled:
        return str(int(text) + 1)
    if "{PAIR[0]}" in faults and not _disabled & {set(PAIR)!r}:
        return text[::-1] + "0"
    return text


Model.answer = _answer
'''


def planted(hello: Hello, tmp_path: Path, faults: str, *, disabled: str = "") -> None:
    """Pins a source with these faults in it, and says in the manifest how to avoid them."""
    pin_to = edited_files(tmp_path, {"hello_server/model.py": PLANTED})
    manifest = hello.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    text = manifest.read_text()
    env = f"  env:\n    HELLO_FAULTS: {faults}\n"
    if disabled:
        env += f"    HELLO_DISABLED_OPERATORS: {disabled}\n"
    text = text.replace("serve:\n", f"serve:\n{env}")
    text += (
        "\ntuning:\n  variable: HELLO_DISABLED_OPERATORS\n  separator: '|'\n"
        f"  list_command: [printf, '%s\\n', {', '.join(OPERATORS)}]\n"
        "  source: the test's own server\n"
    )
    manifest.write_text(text)
    pin(hello, pin_to)


def test_by_evaluation_the_operators_are_found_and_the_release_then_passes(
    hello: Hello, tmp_path: Path
) -> None:
    planted(hello, tmp_path, f"{SPOILS}-{KILLS}")
    done = hello.run("tune", "--json")
    assert done.code == 0, done.stderr
    found = done.json
    assert found["culprits"] == [SPOILS, KILLS]
    assert found["confirmed"]
    assert found["smallest"]
    assert found["search_evaluations"] <= found["bound"]
    assert found["set_in_manifest"] == {"serve.env.HELLO_DISABLED_OPERATORS": f"{SPOILS}|{KILLS}"}
    # What it says to put there is what the pipeline's own gates want.
    manifest = hello.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    before = hello.run("eval")
    assert before.code == 6
    manifest.write_text(
        manifest.read_text().replace(
            "    HELLO_FAULTS:",
            f"    HELLO_DISABLED_OPERATORS: {SPOILS}|{KILLS}\n    HELLO_FAULTS:",
        )
    )
    after = hello.run("eval", "--json")
    assert after.code == 0, after.stderr
    assert after.json["verdicts"] == {"smoke": "pass", "evaluate": "pass"}
    # Every verdict is in the evidence, and the evidence is checked when it is read.
    shown = hello.run_alone("tune", "--evidence", found["evidence"], "--json")
    assert shown.code == 0, shown.stderr
    assert shown.json["culprits"] == found["culprits"]
    recorded = json.loads(Path(found["evidence"]).read_text())
    assert len(recorded["evaluations"]) == found["evaluations"]
    asked = {row["n"] for row in recorded["evaluations"] if row["outcome"] == "pass"}
    assert asked == {250}, "each half of 500 questions"
    altered = Path(found["evidence"]).read_text().replace(f'["{SPOILS}", "{KILLS}"]', '["op_00"]')
    (tmp_path / "altered.json").write_text(altered)
    refused = hello.run_alone("tune", "--evidence", tmp_path / "altered.json")
    assert refused.code == 4
    assert "its verdicts give" in refused.stderr


def test_by_smoke_a_killed_tuning_goes_on(hello: Hello, tmp_path: Path) -> None:
    planted(hello, tmp_path, f"{PAIR[0]}-{KILLS}", disabled="op_00")
    words = command(
        "tune", "--project", hello.project, "--release", "hello-cpu_x86", "--site", hello.site,
        "--by", "smoke", "--json",
    )  # fmt: skip
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.lstrip().startswith("7 "):
                break
        time.sleep(0.5)
        os.killpg(running.pid, signal.SIGKILL)
    again = hello.run("tune", "--by", "smoke", "--json")
    assert again.code == 0, again.stderr
    assert " verdicts are known from before" in again.stderr
    found = again.json
    assert found["operators"] == len(OPERATORS) - 1
    assert found["already_disabled"] == ["op_00"]
    assert len(found["culprits"]) == 2
    assert found["culprits"][1 if found["culprits"][0] in PAIR else 0] == KILLS
    assert set(found["culprits"]) & set(PAIR)
    (together,) = found["interactions"]
    assert {together["operator"], *together["others"]} == set(PAIR)
    (value,) = found["set_in_manifest"].values()
    assert value.split("|") == ["op_00", *found["culprits"]]
    assert not [name for name in containers() if "hello" in name], "the killed one was swept"
    # Everything is known: nothing is started again.
    started = time.monotonic()
    third = hello.run("tune", "--by", "smoke", "--json")
    assert third.json["culprits"] == found["culprits"]
    assert third.json["evaluations"] == found["evaluations"]
    assert time.monotonic() - started < found["seconds"]


def test_other_causes_and_limits_end_with_what_is_known(hello: Hello, tmp_path: Path) -> None:
    planted(hello, tmp_path, KILLS)
    limited = hello.run("tune", "--by", "smoke", "--max-evaluations", "4", "--json")
    assert limited.code == 6
    assert limited.json["state"] == "stopped"
    assert KILLS in limited.json["suspects"]
    assert len(limited.json["suspects"]) < len(OPERATORS)
    assert "stopped after 4 evaluations" in limited.stderr
    names = tmp_path / "names"
    names.write_text("op_01\nop_02 # and no more\n")
    other = hello.run("tune", "--by", "smoke", "--operators", names)
    assert other.code == 6
    assert "with all operators disabled, too" in other.stderr
    unknown = hello.run("tune", "--by", "smoke", "--operators", names, "--suspect", "op_99")
    assert unknown.code == 2
    assert "op_99" in unknown.stderr
