"""Why a server did not start or died: known causes, matched on its log and container state.

Every cause names its evidence (the line that gave it away) and the manifest field that mends it.
Order matters: the first cause that matches is the one reported, so the specific ones stand first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from relforge.engine.containers import ContainerState
from relforge.frozen import Frozen

_EVIDENCE_CHARS = 400
_LAST_LINES = 3


class Cause(Frozen):
    """A recognised cause. ``line`` is the evidence's line number in the text, from 1; 0: none."""

    id: str
    explanation: str
    remedy: str
    field: str
    """The manifest field that mends it, e.g. ``serve.shm_bytes``."""
    evidence: str
    line: int = 0


@dataclass(frozen=True)
class KnownCause:
    """One row of the table. A match of ``state`` outranks every match of ``patterns``."""

    id: str
    explanation: str
    remedy: str
    field: str
    patterns: tuple[re.Pattern[str], ...] = ()
    state: Callable[[ContainerState], bool] = lambda _state: False


def _p(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


CAUSES: tuple[KnownCause, ...] = (
    KnownCause(
        id="out-of-memory",
        explanation="the kernel killed the server because its container ran out of memory",
        remedy="raise serve.memory_bytes, or lower what the server reserves (serve.args, "
        "serve.env: the KV cache)",
        field="serve.memory_bytes",
        state=lambda state: state.oom_killed,
    ),
    KnownCause(
        id="exec-not-found",
        explanation="the image has no such program on its PATH, or its interpreter is missing",
        remedy="correct serve.command (engine 'command'), or build the package that carries the "
        "program into the image (build.packages)",
        field="serve.command",
        patterns=_p(
            r"executable file not found in \$PATH",
            r"exec: \"[^\"]+\": (stat [^:]+: )?no such file or directory",
            r"unable to start container process: .*no such file or directory",
        ),
    ),
    KnownCause(
        id="exec-format",
        explanation="the program was built for another processor architecture",
        remedy="build for the device's architecture (device manifest: architecture, base)",
        field="device.architecture",
        patterns=_p(r"exec format error"),
    ),
    KnownCause(
        id="missing-device",
        explanation="a device node that the launch profile names is not there on this host",
        remedy="see whether the driver is loaded; correct launch_profiles.devices of the device",
        field="device.launch_profiles",
        patterns=_p(r"error gathering device information"),
    ),
    KnownCause(
        id="missing-cpu-kernels",
        explanation="the wheel in the image lacks the CPU kernels that fit this processor "
        "(vllm/_C_AVX2 or vllm/_C_AVX512): the operators were never registered",
        remedy="build from a tree whose setup.py takes all libraries of the precompiled wheel "
        "(patches: the release's vLLM patch set), or compile them (build.packages.native)",
        field="patches",
        patterns=_p(
            r"has no attribute '?init_cpu_memory_env'?", r"no attribute '?init_cpu_threads_env'?"
        ),
    ),
    KnownCause(
        id="slot-mapping-stand-in",
        explanation="the CPU stand-in of vLLM's slot-mapping kernel has another parameter list "
        "than its caller, so the first request kills the engine",
        remedy="add the patch that mends vllm/utils/cpu_triton_utils.py (patches)",
        field="patches",
        patterns=_p(r"Boolean value of Tensor with more than one value is ambiguous"),
    ),
    KnownCause(
        id="head-size",
        explanation="the attention backend of this device does not know the model's head size",
        remedy="serve a model whose head size the device knows, or choose another attention "
        "backend (serve.args)",
        field="model",
        patterns=_p(
            r"head[_ ]?(size|dim)\b.{0,80}(not supported|unsupported|invalid)",
            r"(not supported?|unsupported|invalid|does not support).{0,60}head[_ ]?(size|dim)\b",
        ),
    ),
    KnownCause(
        id="port-taken",
        explanation="something in the container listens on the server's port already",
        remedy="change serve.port, or see what the image starts besides the server",
        field="serve.port",
        patterns=_p(
            r"address already in use",
            r"Errno 98\b",
            r"port \d+ is already (in use|allocated)",
        ),
    ),
    KnownCause(
        id="shm-too-small",
        explanation="shared memory (/dev/shm) in the container is too small for the server",
        remedy="raise serve.shm_bytes",
        field="serve.shm_bytes",
        patterns=_p(
            r"(shm|shared memory).{0,120}(no space left|too small|insufficient|exceeds)",
            r"(no space left on device|insufficient).{0,120}(/dev/shm|shared memory|\bshm\b|psm_)",
            r"bus error.{0,80}(shm|shared memory)",
            r"This might be caused by insufficient shared memory",
            r"unable to (open|mmap|allocate).{0,40}shared memory",
        ),
    ),
    KnownCause(
        id="unknown-option",
        explanation="the server does not know an option it was started with",
        remedy="correct serve.args (or serve.command) to what this version of the server takes",
        field="serve.args",
        patterns=_p(r"error: unrecognized arguments?:", r"error: argument --?[\w-]+:"),
    ),
    KnownCause(
        id="weights-unreadable",
        explanation="the weights are missing from the mounted folder, or cannot be read",
        remedy="compare the model manifest's weights (path, files, hashes) with the folder; the "
        "server reads them at serve.model_path",
        field="model.weights",
        patterns=_p(
            r"Cannot find any model weights",
            r"does not appear to have a file named",
            r"(SafetensorError|safetensors_rust).*",
            r"Error while deserializing header",
            r"(No such file or directory|Permission denied).{0,200}"
            r"(/models?/|config\.json|table\.json|tokenizer|safetensors)",
            r"(Invalid repository ID or local directory specified)",
            r"Repo id must (be in the form|use alphanumeric)",
            r"Can'?t load (the )?(configuration|tokenizer|feature extractor)",
            r"OSError:.*is not a (local folder|valid JSON file)",
        ),
    ),
    KnownCause(
        id="wrong-served-name",
        explanation="the server serves the model under another name than the release declares",
        remedy="make serve.served_name and the name the server is given the same",
        field="serve.served_name",
        patterns=_p(
            r"The model [`'\"].*[`'\"] does not exist", r"serves .* but not the declared name"
        ),
    ),
    KnownCause(
        id="killed",
        explanation="the server was killed from outside (SIGKILL): most often the host ran out of "
        "memory",
        remedy="free memory on the host (dmesg names the victim), or lower what the server "
        "reserves",
        field="serve.memory_bytes",
        state=lambda state: state.status == "exited" and state.exit_code == 137,
    ),
    KnownCause(
        id="bus-error",
        explanation="the server died of a bus error, as it does when shared memory runs full",
        remedy="raise serve.shm_bytes",
        field="serve.shm_bytes",
        state=lambda state: state.status == "exited" and state.exit_code == 135,
    ),
)


def diagnose(log_text: str, state: ContainerState | None = None, answer: str = "") -> Cause | None:
    """The first known cause that fits, or None.

    ``log_text`` is the server's log, ``state`` the container's, ``answer`` what a request was
    told; the evidence comes from the log first, then from the answer, then from the state.
    """
    said = "\n".join(text for text in (state.error if state else "", answer) if text)
    for known in CAUSES:
        if state is not None and known.state(state):
            return _cause(known, f"container state: {state.shown()}", 0)
        for number, line in enumerate(log_text.splitlines(), 1):
            if _matches(known, line):
                return _cause(known, line, number)
        for line in said.splitlines():
            if _matches(known, line):
                return _cause(known, line, 0)
    return None


_ERROR = re.compile(r"\b\w*(Error|Exception)\b\s*:|\b(fatal|panic|aborted)\b|^error\b", re.I)
_NO_ERROR = re.compile(r"\b(INFO|WARNING|DEBUG)\b|see (the )?(root cause|stack trace)", re.I)


def last_error_line(log_text: str) -> str | None:
    """The log's last line that reads like an error, for causes nobody has named yet.

    Lines that only point at another one ("see root cause above") are passed over.
    """
    for line in reversed(log_text.splitlines()):
        if _ERROR.search(line) and not _NO_ERROR.search(line):
            return _short(line)
    return None


def last_words(log_text: str) -> str:
    """What a log says of an end that no cause explains: its last error, else its last lines."""
    error = last_error_line(log_text)
    if error is not None:
        return error
    lines = [_short(line) for line in log_text.splitlines() if line.strip()][-_LAST_LINES:]
    if not lines:
        return "it wrote nothing to its log"
    return "its log holds no known error; its last words:\n" + "\n".join(lines)


def _matches(known: KnownCause, line: str) -> bool:
    return any(pattern.search(line) for pattern in known.patterns)


def _cause(known: KnownCause, evidence: str, line: int) -> Cause:
    return Cause(
        id=known.id,
        explanation=known.explanation,
        remedy=known.remedy,
        field=known.field,
        evidence=_short(evidence),
        line=line,
    )


def _short(line: str) -> str:
    line = line.strip()
    return line if len(line) <= _EVIDENCE_CHARS else line[:_EVIDENCE_CHARS] + " ..."
