"""Lines of real logs and states of containers, and the cause each must be given."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.engine.containers import ContainerState
from relforge.serving.diagnosis import CAUSES, KnownCause, diagnose, diagnose_all, last_error_line
from relforge.serving.diagnosis.model import required_word

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "diagnosis"
EXITED = ContainerState(status="exited", exit_code=1)
PREFIX = "(EngineCore pid=77) ERROR 01-02 03:04:05 [core.py:1] "
BY_ID = {cause.id: cause for cause in CAUSES}


def fixture(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = yaml.safe_load((FIXTURES / name).read_text())
    return rows


REPORTED = fixture("reported.yaml")
BENIGN = fixture("benign.yaml")
LOGS = sorted(path.stem for path in (FIXTURES / "produced").glob("*.log"))
HEALTHY = sorted((FIXTURES / "healthy").glob("*.log"))


@pytest.mark.parametrize("row", REPORTED, ids=[f"{r['cause']}-{n}" for n, r in enumerate(REPORTED)])
def test_a_line_of_a_public_issue_gives_its_cause_away(row: dict[str, Any]) -> None:
    cause = diagnose(f"INFO starting\n{row['line']}\nINFO bye\n", EXITED)
    assert cause is not None
    assert cause.id == row["cause"]
    assert cause.line == 2
    assert cause.certainty == row.get("certainty", "certain")
    assert row["source"].startswith("https://github.com/")


@pytest.mark.parametrize("name", LOGS)
def test_a_recorded_log_of_a_failure_gives_its_cause_away(name: str) -> None:
    """The file's name is the cause, and after a dot which of several logs it is."""
    found = diagnose((FIXTURES / "produced" / f"{name}.log").read_text(), EXITED)
    assert found is not None
    assert found.id == name.partition(".")[0]
    assert found.line > 0


@pytest.mark.parametrize("path", HEALTHY, ids=[path.stem for path in HEALTHY])
def test_the_log_of_a_healthy_server_gives_none(path: Path) -> None:
    log = path.read_text()
    assert len(log.splitlines()) > 30, "a whole log, not a piece of one"
    assert "Application startup complete" in log
    assert diagnose_all(log, ContainerState(status="running")) == ()
    assert diagnose_all(log, EXITED) == ()


@pytest.mark.parametrize("line", [row["line"] for row in BENIGN])
def test_a_line_that_asks_for_care_is_no_cause(line: str) -> None:
    assert diagnose_all(line) == ()


@pytest.mark.parametrize(
    "line",
    [
        "WARNING 11-29 15:40:10 [parallel.py:746] Address already in use. Retrying with a new "
        "port.",
        "INFO 11-29 15:40:10 [utils.py:1] Port 8000 is already in use, trying port 8001",
        "No CUDA runtime is found, using CUDA_HOME='/usr/local/cuda'",
        "WARNING shared memory broadcast is used",
        "(APIServer pid=1) WARNING 11-29 15:50:03 [system_utils.py:255] Found ulimit of 20000 and "
        "failed to automatically increase with error current limit exceeds maximum limit. This can "
        "cause fd limit errors like `OSError: [Errno 24] Too many open files`. Consider increasing "
        "with ulimit -n",
        "INFO Using max model len 128, head size 64",
        "INFO Loading weights took 0.1 seconds from /models/tiny/model.safetensors",
        "(APIServer pid=1) INFO:     127.0.0.1:1 - \"POST /v1/completions HTTP/1.1\" 404 Not Found",
    ],
)  # fmt: skip
def test_words_of_a_cause_in_other_lines_are_no_cause(line: str) -> None:
    assert diagnose_all(line, EXITED) == ()


@pytest.mark.parametrize(
    ("cause_id", "state"),
    [
        ("out-of-memory", ContainerState(status="exited", exit_code=137, oom_killed=True)),
        ("killed", ContainerState(status="exited", exit_code=137)),
        ("bus-error", ContainerState(status="exited", exit_code=135)),
        ("segfault", ContainerState(status="exited", exit_code=139)),
        ("illegal-instruction", ContainerState(status="exited", exit_code=132)),
    ],
)
def test_a_state_gives_the_cause_away(cause_id: str, state: ContainerState) -> None:
    cause = diagnose("INFO all well\n", state)
    assert cause is not None
    assert cause.id == cause_id
    assert cause.line == 0
    assert "container state" in cause.evidence


SHM = (
    "RuntimeError: Insufficient space in /dev/shm for shared-memory allocation: "
    "160 MiB required, 64 MiB free."
)
NCCL_TIMEOUT = (
    "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. "
    "1/2 clients joined."
)
GLIBC = "version `GLIBC_2.32' not found (required by /x/_C.abi3.so)"


@pytest.mark.parametrize(
    ("lines", "state", "ids"),
    [
        # the first in time of two roots
        ((PREFIX + SHM, "OSError: [Errno 28] No space left on device"), EXITED,
         ["shm-too-small", "disk-full"]),
        (("OSError: [Errno 28] No space left on device", PREFIX + SHM), EXITED,
         ["disk-full", "shm-too-small"]),
        # a symptom that stands before its root, and the exit status last
        ((NCCL_TIMEOUT, PREFIX + SHM), ContainerState(status="exited", exit_code=139),
         ["shm-too-small", "rendezvous-timeout", "segfault"]),
        # a killer that the engine names comes before all that was said before
        ((PREFIX + SHM,), ContainerState(status="exited", exit_code=137, oom_killed=True),
         ["out-of-memory", "shm-too-small"]),
        # a warning is weaker than how the server ended, and than a later error
        ((f"WARNING 07-24 21:16:52 x.py:14] {GLIBC}",),
         ContainerState(status="exited", exit_code=137), ["killed", "glibc-too-old"]),
        ((f"WARNING 07-24 21:16:52 x.py:14] {GLIBC}", PREFIX + SHM), EXITED,
         ["shm-too-small", "glibc-too-old"]),
        # a request that was refused did not end the server
        (("The model `x` does not exist.", PREFIX + SHM), EXITED,
         ["shm-too-small", "wrong-served-name"]),
        # the specific row of one line, again when the line is repeated
        (("ImportError: libcuda.so.1: cannot open shared object file",) * 3, EXITED,
         ["driver-library-missing"]),
    ],
)  # fmt: skip
def test_the_root_comes_first(
    lines: tuple[str, ...], state: ContainerState, ids: list[str]
) -> None:
    assert [cause.id for cause in diagnose_all("\n".join(lines), state)] == ids


def test_an_error_is_better_evidence_than_the_warning_before_it() -> None:
    log = f"WARNING 07-24 21:16:52 x.py:14] {GLIBC}\nINFO on\nImportError: libc.so.6: {GLIBC}\n"
    (cause,) = diagnose_all(log)
    assert (cause.certainty, cause.line) == ("certain", 3)
    assert cause.facts == {"version": "2.32", "file": "/x/_C.abi3.so"}


def test_a_server_that_runs_survived_what_it_warned_of() -> None:
    warned = f"WARNING 07-24 21:16:52 x.py:14] {GLIBC}\n"
    assert diagnose(warned, ContainerState(status="running")) is None
    assert diagnose(warned, EXITED) is not None
    assert diagnose(f"{GLIBC}\n", ContainerState(status="running")) is not None


def test_the_engines_own_words_count() -> None:
    said = (
        "failed to create task for container: failed to create shim task: OCI runtime create "
        'failed: runc create failed: unable to start container process: exec: "no-such": '
        "executable file not found in $PATH: unknown"
    )
    for found in (
        diagnose("", EXITED.model_copy(update={"error": said})),
        diagnose("", None, said),
    ):
        assert found is not None
        assert found.id == "exec-not-found"
        assert "no-such" in found.evidence


def test_the_last_error_line_is_the_root_and_no_pointer_to_it() -> None:
    root = "(Worker pid=5) ERROR 01-02 03:04:05 [x.py:9] KeyError: 'layers.0'"
    log = (
        f"WARNING ValueError: current limit exceeds maximum limit\n{root}\nINFO bye\n"
        "RuntimeError: Engine core initialization failed. See root cause above.\n"
    )
    assert last_error_line(log) == root
    assert last_error_line("INFO well\nWARNING odd\n") is None


# The table itself


def test_ids_are_unique_and_no_state_of_a_running_server_is_a_cause() -> None:
    assert len(BY_ID) == len(CAUSES)
    running = ContainerState(status="running")
    assert not any(cause.state(running) for cause in CAUSES)


@pytest.mark.parametrize("known", CAUSES, ids=list(BY_ID))
def test_a_row_says_where_it_was_seen(known: KnownCause) -> None:
    """A test that exists, or a public issue whose line is among the fixtures."""
    assert known.seen
    lines = {row["source"] for row in REPORTED if row["cause"] == known.id}
    for place in known.seen:
        if place.startswith("https://"):
            assert place in lines
        else:
            file, name = place.split("::")
            tree = ast.parse((ROOT / file).read_text())
            assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    root = known.field.partition(".")[0]
    assert root in (
        "serve", "model", "device", "patches", "build", "sources", "stack",
    )  # fmt: skip


@pytest.mark.parametrize("known", CAUSES, ids=list(BY_ID))
def test_no_pattern_can_run_away(known: KnownCause) -> None:
    for pattern in known.patterns:
        unbounded = re.findall(r"(?<!\\)[\])\w.][*+]|\{\d+,\}", pattern.source)
        assert not unbounded, pattern.source
        re.compile(pattern.source)


def test_enough_causes_were_produced_here_and_enough_are_known() -> None:
    produced = [cause.id for cause in CAUSES if cause.provenance == "produced"]
    assert len(CAUSES) >= 60
    assert len(produced) >= 40


@pytest.mark.parametrize(
    ("pattern", "word"),
    [
        (r"\b(CUDA|NPU) out of memory\. Tried", " out of memory. tried"),
        (r"couldn'?t connect", "t connect"),
        (r"ab?cdefg{2}hij", "cdef"),
        (r"[abc]{1,3}\$PATH not\.found", "$path not.found"),
        (r"abcdef(?P<x>ghijklmnopq)", "abcdef"),
    ],
)
def test_the_word_that_a_pattern_needs(pattern: str, word: str) -> None:
    if len(word) < 5:
        with pytest.raises(ValueError, match="no text is part"):
            required_word(pattern)
    else:
        assert required_word(pattern) == word


@pytest.mark.parametrize("pattern", [r"(abcdef|ghijkl)", r"abcdef|ghijkl", r"\w{1,9}", r"abc.def"])
def test_a_pattern_without_such_a_word_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(pattern)[1:-1])):
        required_word(pattern)
