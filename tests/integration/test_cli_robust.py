"""What a shell, a full disk or a careless paste can do to the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from relforge import redact
from relforge.errors import RelforgeError
from relforge.manifest.device import Device
from relforge.manifest.loader import parse
from relforge.manifest.project import builtin_root

SCHEMAS = Path(__file__).parents[2] / "manifests" / "schema"
RUN = [sys.executable, "-c", "from relforge.cli import main; main()"]


@pytest.mark.parametrize("words", [["--help"], ["devices", "--json"], ["schema"]])
def test_a_reader_that_goes_away_is_no_success(words: list[str]) -> None:
    """Nothing is said, and the exit code is that of any program whose pipe broke."""
    with subprocess.Popen([*RUN, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        stderr = run.stderr.read()
    assert run.returncode == 128 + signal.SIGPIPE, stderr
    assert b"Traceback" not in stderr


def test_output_that_cannot_be_written_is_said() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*RUN, "--help"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 3
    assert b"cannot write the output" in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_cannot_be_said_changes_nothing(tmp_path: Path) -> None:
    """A log on a full disk: the run goes on, and ends as it would have."""
    site = tmp_path / "site.yaml"
    site.write_text("home: home\nengine: {docker: /bin/false}\n")
    words = ["build", "--device", "cpu_x86", "--site", str(site)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*RUN, *words], stdout=subprocess.DEVNULL, stderr=full, check=False)
    assert done.returncode == 3
    (journal,) = (tmp_path / "home" / "runs").glob("*/events.jsonl")
    finished = json.loads(journal.read_text().splitlines()[-1])
    assert (finished["type"], finished["state"]) == ("run-finished", "failed")


def test_an_ascii_terminal_gets_text_too(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("home: home\n")
    done = subprocess.run(
        [*RUN, "plan", "--device", "cpu_x86", "--site", str(site)],
        capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"attest" in done.stdout


def test_a_home_that_cannot_be_made_is_the_environments_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    site = tmp_path / "site.yaml"
    site.write_text("home: file/home\n")
    done = subprocess.run(
        [*RUN, "build", "--device", "cpu_x86", "--site", str(site)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "next:" in done.stderr


def test_a_private_key_is_never_shown_whoever_typed_it() -> None:
    key = "AGE-SECRET-KEY-1" + "QWERTY" * 9
    assert key not in redact.text(f"cannot read {key}: no such file")
    pem = "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----"
    assert "abc" not in redact.text(f"x {pem} y")


def test_keys_stay_in_the_folder_that_was_named(tmp_path: Path) -> None:
    from relforge.patching.keys import new_keys

    for name in ("../evil", "", ".hidden", "a/b"):
        with pytest.raises(RelforgeError):
            new_keys(tmp_path / "keys", name)
    assert list(tmp_path.rglob("*evil*")) == []


def test_a_bundle_is_never_written_over_something_else(tmp_path: Path) -> None:
    precious = tmp_path / "key.pem"
    precious.write_text("precious")
    done = subprocess.run(
        [*RUN, "patch", "seal", "--release", "tiny-adder-cpu_x86", "--patch-set",
         "vllm-0.32.0-cpu", "--recipient", "x", "--sign", str(precious), "--out", str(precious)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(
    "text",
    ["x: " + "[" * 100_000, "x: &a [*a]", "? [a]\n: 2", "x: 2024-13-45", "x: " + "9" * 5000],
    ids=["deep", "circular", "list-key", "impossible-date", "huge-number"],
)
def test_yaml_that_is_no_manifest_is_refused_with_its_file(text: str) -> None:
    with pytest.raises(RelforgeError) as caught:
        parse(text, Path("bad.yaml"), Device)
    assert caught.value.code == 2
    assert "bad.yaml" in (caught.value.where or "")


def test_the_builtin_project_is_not_used_silently(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("home: home\n")
    done = subprocess.run(
        [*RUN, "devices", "--site", str(site)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0
    assert "built-in" in done.stderr


def test_a_release_and_another_device_contradict_each_other() -> None:
    done = subprocess.run(
        [*RUN, "plan", "--project", "examples/hello", "--release", "hello-cpu_x86", "--device",
         "nope"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2


def test_a_release_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    for folder in ("devices", "releases"):
        (tmp_path / "manifests" / folder).mkdir(parents=True)
    (tmp_path / "manifests" / "releases" / "broken.yaml").write_text("kind: release\nnme: x\n")
    (tmp_path / "manifests" / "devices" / "odd.yaml").write_text("kind: device\nnme: x\n")
    for path in (builtin_root() / "manifests" / "releases").glob("tiny-adder-cpu_x86.*"):
        shutil.copy(path, tmp_path / "manifests" / "releases")
    site = tmp_path / "site.yaml"
    site.write_text(f"kind: site\nhome: home\nengine: {{host: 'unix://{tmp_path}/none.sock'}}\n")
    done = subprocess.run(
        [*RUN, "release", "--all", "--json", "--project", str(tmp_path), "--site", str(site)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    printed = json.loads(done.stdout)
    (broken,) = printed["not_started"]
    assert (broken["release"], broken["exit_code"]) == ("broken", 2)
    assert "broken.yaml:" in broken["where"]
    (other,) = printed["releases"]
    assert other["release"] == "tiny-adder-cpu_x86", "others of the built-in project are not asked"
    assert other["stages"][0]["status"] == "failed", "its engine does not run"
    schema = json.loads((SCHEMAS / "releases-output.schema.json").read_text())
    jsonschema.validate(printed, schema)
