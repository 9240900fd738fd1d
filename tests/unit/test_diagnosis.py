"""Log excerpts and container states, and the cause each must be given."""

from __future__ import annotations

import pytest

from relforge.engine.containers import ContainerState
from relforge.serving.diagnosis import CAUSES, diagnose, last_error_line

EXITED = ContainerState(status="exited", exit_code=1)
PREFIX = "(EngineCore pid=77) ERROR 01-02 03:04:05 [core.py:1] "

# id, line of a real log (vLLM 0.32.0 on CPU, Docker 26.1, Python 3.11) or its shortened form
LINES = [
    (
        "missing-cpu-kernels",
        PREFIX + "AttributeError: '_OpNamespace' '_C' object has no attribute "
        "'init_cpu_memory_env'",
    ),
    (
        "slot-mapping-stand-in",
        PREFIX + "RuntimeError: Boolean value of Tensor with more than one value is ambiguous",
    ),
    (
        "head-size",
        PREFIX + "RuntimeError: Unsupported CPU attention configuration: head_dim=16 isa=2 "
        "kv_cache_idx=0",
    ),
    (
        "head-size",
        PREFIX + "ValueError: Head size 16 is not supported by CPU attention. Supported head "
        "sizes: 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512.",
    ),
    ("port-taken", "OSError: [Errno 98] Address already in use"),
    ("port-taken", "[Errno 98] error while attempting to bind on address ('0.0.0.0', 8000)"),
    (
        "weights-unreadable",
        "FileNotFoundError: [Errno 2] No such file or directory: '/models/hello/config.json'",
    ),
    ("weights-unreadable", "PermissionError: [Errno 13] Permission denied: '/models/x/table.json'"),
    ("unknown-option", "vllm: error: unrecognized arguments: --no-such-option"),
    (
        "shm-too-small",
        PREFIX + "RuntimeError: Insufficient space in /dev/shm for shared-memory allocation: "
        "160 MiB required, 64 MiB free. Increase /dev/shm (e.g. --shm-size or --ipc=host).",
    ),
    (
        "weights-unreadable",
        "Value error, Invalid repository ID or local directory specified: '/models/tiny-adder'.",
    ),
    ("wrong-served-name", "The model `x` does not exist."),
]


@pytest.mark.parametrize(("cause_id", "line"), LINES)
def test_a_log_line_gives_the_cause_away(cause_id: str, line: str) -> None:
    log = f"INFO starting\nINFO loading\n{line}\nINFO bye\n"
    cause = diagnose(log, EXITED)
    assert cause is not None
    assert cause.id == cause_id
    assert cause.line == 3
    assert cause.evidence == line.strip()
    assert cause.remedy
    assert cause.field.split(".")[0] in (
        "serve", "model", "device", "patches",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cause_id", "state"),
    [
        ("out-of-memory", ContainerState(status="exited", exit_code=137, oom_killed=True)),
        ("killed", ContainerState(status="exited", exit_code=137)),
        ("bus-error", ContainerState(status="exited", exit_code=135)),
    ],
)
def test_a_state_gives_the_cause_away(cause_id: str, state: ContainerState) -> None:
    cause = diagnose("INFO all well\n", state)
    assert cause is not None
    assert cause.id == cause_id
    assert cause.line == 0
    assert "container state" in cause.evidence


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


def test_a_log_without_a_known_cause_gets_none() -> None:
    log = (
        "INFO Started server process [1]\n"
        "INFO Using max model len 128, head size 64\n"
        "INFO GET /health 200\n"
        "WARNING shared memory broadcast is used\n"
        "INFO Loading weights took 0.1 seconds from /models/tiny/model.safetensors\n"
    )
    assert diagnose(log, ContainerState(status="exited", exit_code=1)) is None
    assert last_error_line(log) is None


def test_the_last_error_line_is_the_root_and_no_pointer_to_it() -> None:
    root = "(Worker pid=5) ERROR 01-02 03:04:05 [x.py:9] KeyError: 'layers.0'"
    log = (
        f"WARNING ValueError: current limit exceeds maximum limit\n{root}\nINFO bye\n"
        "RuntimeError: Engine core initialization failed. See root cause above.\n"
    )
    assert last_error_line(log) == root
    assert last_error_line("INFO well\nWARNING odd\n") is None


def test_ids_are_unique_and_every_row_can_match() -> None:
    assert len({cause.id for cause in CAUSES}) == len(CAUSES)
    always_false = ContainerState(status="running")
    for cause in CAUSES:
        assert not cause.state(always_false)
        assert cause.patterns or any(
            cause.state(state)
            for state in (
                ContainerState(status="exited", exit_code=137, oom_killed=True),
                ContainerState(status="exited", exit_code=137),
                ContainerState(status="exited", exit_code=135),
            )
        )
