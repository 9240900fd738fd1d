"""``relforge explain``, and remedies in the terms of a manifest."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from relforge.cli.dispatch import dispatch
from relforge.manifest.project import builtin_root, find_project
from relforge.manifest.release import Release
from relforge.serving.diagnosis import diagnose
from relforge.serving.diagnosis.advice import Manifest, advised
from relforge.serving.report import Cause

ROOT = builtin_root()
SHM = (
    "RuntimeError: Insufficient space in /dev/shm for shared-memory allocation: "
    "160 MiB required, 64 MiB free."
)
SOURCE = ROOT / "manifests" / "releases" / "tiny-adder-cpu_x86.yaml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The shipped release in a project of its own, with little shared memory."""
    releases = tmp_path / "project" / "manifests" / "releases"
    releases.mkdir(parents=True)
    text = SOURCE.read_text().replace("shm_bytes: 1073741824", "shm_bytes: 67108864")
    (releases / SOURCE.name).write_text(text)
    return tmp_path / "project"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "server.log"
    path.write_text(f"INFO one\n{SHM}\n")
    return path


def line_of(text: str) -> int:
    return next(n for n, row in enumerate(SOURCE.read_text().splitlines(), 1) if text in row)


def test_the_remedy_names_the_line_to_change(
    project: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(log), "--release", "tiny-adder-cpu_x86", "--project", str(project)]
    assert dispatch("explain", words) == 0
    line = line_of("shm_bytes:")
    assert capsys.readouterr().out == (
        "1. shm-too-small: shared memory (/dev/shm) in the container is too small for the server\n"
        f"   server.log:2: {SHM}\n"
        "   remedy: serve.shm_bytes is 67108864 in manifests/releases/tiny-adder-cpu_x86.yaml:"
        f"{line}; the server asked for 160 MiB: set serve.shm_bytes: 268435456\n"
    )


def test_one_json_object(project: Path, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(log), "-r", "tiny-adder-cpu_x86", "--project", str(project), "--json"]
    assert dispatch("explain", [*words, "--exit-code", "139"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["explained"] is True
    assert [cause["id"] for cause in said["causes"]] == ["shm-too-small", "segfault"]
    first = said["causes"][0]
    assert first["change"]["set"] == "shm_bytes: 268435456"
    assert first["facts"] == {"needed": "160 MiB", "available": "64 MiB"}
    assert (first["kind"], first["provenance"]) == ("root", "produced")


def test_a_log_without_a_known_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "server.log"
    log.write_text("INFO one\nKeyError: 'layers.0'\n")
    assert dispatch("explain", [str(log)]) == 6
    said = capsys.readouterr()
    assert said.out == ""
    assert "KeyError: 'layers.0'" in said.err
    assert dispatch("explain", [str(log), "--json"]) == 6
    shown = json.loads(capsys.readouterr().out)
    assert (shown["explained"], shown["causes"]) == (False, [])
    assert shown["last_words"] == "KeyError: 'layers.0'"


def test_an_empty_log_and_an_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "server.log"
    log.touch()
    assert dispatch("explain", [str(log)]) == 6
    assert "it wrote nothing to its log" in capsys.readouterr().err
    assert dispatch("explain", [str(log), "--exit-code", "132"]) == 0
    assert "exit status: container state: ended with exit status 132" in capsys.readouterr().out


def test_a_log_on_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SHM.encode())))
    assert dispatch("explain", ["-"]) == 0
    assert "stdin:1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such.log"], "cannot read no-such.log"),
        ([str(ROOT)], "cannot read"),
        ([], "which log?"),
        (["x.log", "--list"], "--list goes with no log"),
        ([__file__, "--release", "no-such"], "unknown release"),
    ],
)
def test_what_cannot_be_done(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch("explain", words) == 2
    assert said in capsys.readouterr().err


def test_help_stays_light() -> None:
    """The verb's module pulls in neither the table nor pydantic's models of manifests."""
    import subprocess

    program = "import sys, relforge.cli.explain; print('relforge.serving.diagnosis' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "False\n"


# Remedies


def advice(line: str, **serve: Any) -> tuple[Cause, str | None]:
    """The cause of a line, with the remedy for a release whose ``serve`` is changed so."""
    release = find_project(ROOT).release("tiny-adder-cpu_x86")
    data = release.model_dump(mode="json")
    data["serve"] |= serve
    cause = diagnose(line)
    assert cause is not None
    found = advised(cause, Manifest(Release.model_validate(data), SOURCE))
    return found, found.change.set if found.change else None


@pytest.mark.parametrize(
    ("line", "serve", "to_write"),
    [
        (SHM, {"shm_bytes": 64 << 20}, f"shm_bytes: {256 << 20}"),
        (SHM.replace("160 MiB", "1.5 GiB"), {"shm_bytes": 64 << 20}, f"shm_bytes: {2 << 30}"),
        (SHM, {"shm_bytes": 64 << 20, "tmpfs": {"/dev/shm": {"size_bytes": 64 << 20}}},
         f"size_bytes: {256 << 20}"),
        ("Fatal python error:Bus error", {"shm_bytes": 64 << 20}, f"shm_bytes: {256 << 20}"),
        ("ValueError: The model's max seq len (32768) is larger than the maximum number of tokens "
         "that can be stored in KV cache (7344).", {}, "max-model-len: 7344"),
        ("ValueError: Total number of attention heads (52) must be divisible by tensor parallel "
         "size (8).", {"tensor_parallel": 8}, "tensor_parallel: 4"),
        ("ERROR:    [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): "
         "address already in use", {}, "port: 8001"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 3.50 GiB.",
         {"tensor_parallel": 4}, "tensor_parallel: 8"),
        ("free memory on device cuda:0 (15.0/20.0 GiB) on startup is less than desired GPU memory "
         "utilization (0.9, 18 GiB)", {}, "gpu-memory-utilization: 0.7"),
        ("ValueError: No available memory for the cache blocks.", {},
         "gpu-memory-utilization: 0.95"),
        ("RuntimeError: Cannot re-initialize CUDA in forked subprocess.", {},
         "VLLM_WORKER_MULTIPROC_METHOD: spawn"),
        ("the server serves 'llama' but not the declared name 'tiny-adder'", {},
         "served_name: llama"),
        ("zmq.error.ZMQError: Too many open files", {}, "nofile: 1048576"),
        ("RuntimeError: Failed to find C compiler.", {"args": {}}, "enforce-eager: true"),
    ],
)  # fmt: skip
def test_what_to_write(line: str, serve: dict[str, Any], to_write: str) -> None:
    cause, found = advice(line, **serve)
    assert found == to_write
    assert cause.remedy.endswith(f".{to_write}")
    assert cause.change is not None
    assert cause.change.where is not None
    assert cause.change.where.startswith("manifests/releases/tiny-adder-cpu_x86.yaml:")


def test_an_option_is_to_go() -> None:
    cause, _ = advice("vllm: error: unrecognized arguments: --enforce_eager")
    line = line_of("enforce-eager:")
    assert cause.remedy == (
        f"serve.args.enforce-eager is true in manifests/releases/tiny-adder-cpu_x86.yaml:{line}; "
        "this server has no such option: remove it"
    )


def test_an_option_that_is_not_the_manifests() -> None:
    cause, to_write = advice("vllm: error: unrecognized arguments: --other")
    assert to_write is None
    assert "correct serve.args" in cause.remedy


def test_a_log_of_another_launch_asks_for_no_change() -> None:
    cause, to_write = advice(SHM)  # the manifest gives 1 GiB
    assert to_write is None
    assert "the log is of a launch with other settings" in cause.remedy


def test_a_cause_outside_of_the_release_keeps_its_remedy() -> None:
    line = "ImportError: /lib64/libc.so.6: version `GLIBC_2.32' not found (required by /x.so)"
    cause, to_write = advice(line)
    assert (cause.change, to_write) == (None, None)
    assert "base image" in cause.remedy


def test_a_manifest_whose_file_is_unknown() -> None:
    release = find_project(ROOT).release("tiny-adder-cpu_x86")
    cause = diagnose(SHM.replace("160 MiB", "2 GiB"))
    assert cause is not None
    assert advised(cause, Manifest(release)).remedy == (
        "serve.shm_bytes is 1073741824; the server asked for 2 GiB: set serve.shm_bytes: 4294967296"
    )
