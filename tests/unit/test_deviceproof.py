"""That the accelerator does the work is proved by its memory, device files and FlagGems' log."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from relforge.devicequery import Asked
from relforge.engine.containers import ContainerState
from relforge.events import Verdict
from relforge.hostcheck import Finding
from relforge.manifest.device import Device
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.smoke import Smoke
from relforge.serving.client import OpenAIClient
from relforge.serving.deviceproof import DeviceProof
from relforge.serving.expected import expected_of, says_flaggems
from relforge.serving.probes import PROBES, Target, run_probes
from relforge.serving.report import ProbeResult
from tests.support.smi import IXSMI

PROJECT = Project((builtin_root(),))
HELD = b"/proc/17/fd/9 /dev/iluvatar0\n/proc/17/fd/12 /dev/iluvatar1\n"


def smi(first_mib: int, second_mib: int) -> str:
    """The real program's output, with this much memory in use on its two devices."""
    used = iter((first_mib, second_mib))
    return re.sub(r"257MiB(?= / 32768MiB)", lambda _: f"{next(used)}MiB", IXSMI)


class Inside:
    """A container's answers to ``find`` and ``tail``, and its end."""

    def __init__(self, said: bytes = HELD, code: int = 0, files: dict[str, str] | None = None):
        self.said, self.code, self.files = said, code, files or {}

    def execute(self, argv: Sequence[str]) -> tuple[int, bytes]:
        if argv[0] == "tail":
            text = self.files.get(argv[-1])
            return (1, b"no such file") if text is None else (0, text.encode())
        assert argv[0] == "find"
        return self.code, self.said

    def stop(self, timeout_s: float) -> ContainerState:
        return ContainerState(status="exited", exit_code=0)


def device(name: str = "bi_V150") -> Device:
    return PROJECT.device(name)


def proof(outputs: Sequence[str], inside: Inside, per_node: int = 2) -> tuple[Verdict, str]:
    answers: Iterator[str] = iter(outputs)
    made = DeviceProof(
        device(), per_node=per_node, nodes=("/dev/iluvatar0", "/dev/iluvatar1:/dev/iluvatar1"),
        ask=lambda: Asked(next(answers)),
    )  # fmt: skip
    made.sample("before")
    made.sample("serving", inside)
    made.sample("after")
    assert [sample.when for sample in made.samples] == ["before", "serving", "after"]
    return made.judged()


def test_memory_that_rises_and_device_files_that_are_held() -> None:
    verdict, reason = proof([smi(257, 257), smi(29000, 28000), smi(257, 300)], Inside())
    assert verdict == "pass"
    assert "process 17 holds /dev/iluvatar0, process 17 holds /dev/iluvatar1" in reason
    assert "is kept after the end" in reason


def test_work_that_is_done_elsewhere() -> None:
    verdict, reason = proof([smi(257, 257), smi(257, 259), smi(257, 257)], Inside())
    assert verdict == "fail"
    assert "on 0 of the 2 accelerators" in reason


def test_one_of_two_accelerators_idles() -> None:
    outputs = [smi(257, 257), smi(29000, 257), smi(257, 257)]
    verdict, reason = proof(outputs, Inside())
    assert verdict == "fail"
    assert "on 1 of the 2 accelerators" in reason
    assert proof(outputs, Inside(), per_node=1)[0] == "pass"


def test_memory_that_somebody_else_took() -> None:
    verdict, reason = proof([smi(257, 257), smi(29000, 28000), smi(257, 257)], Inside(b""))
    assert verdict == "fail"
    assert "no process of the container has /dev/iluvatar0 open" in reason


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"exec: find: not found", 127),
        (b"find: '/proc/1/fd': Permission denied\n", 1),
        (b"find: unknown predicate `-lname'\n", 1),
    ],
)
def test_files_that_cannot_be_looked_at_prove_nothing(said: bytes, code: int) -> None:
    inside = Inside(said, code)
    verdict, reason = proof([smi(257, 257), smi(29000, 28000), smi(257, 257)], inside)
    assert verdict == "pass"
    assert "holds" not in reason


@pytest.mark.parametrize(
    ("name", "asked", "says"),
    [
        ("cpu_x86", Asked(None), "no accelerator"),
        (
            "bi_V150",
            Asked(None, Finding(name="d", state="missing", found="ixsmi is not on PATH")),
            "ixsmi is not on PATH",
        ),
    ],
)
def test_what_cannot_be_looked_at_is_not_run(name: str, asked: Asked, says: str) -> None:
    made = DeviceProof(device(name), per_node=1, nodes=(), ask=lambda: asked)
    made.sample("before")
    assert made.judged() == ("not-run", says)


def only(name: str, target: Target) -> ProbeResult:
    (result,) = run_probes(target, [probe for probe in PROBES if probe.name == name])
    return result


class Logged:
    """A process that runs, with a log."""

    def __init__(self, text: str, tmp_path: Path) -> None:
        import threading

        self.exited = threading.Event()
        self.log_path = tmp_path / "log"
        self._text = text

    def state(self) -> ContainerState:
        return ContainerState(status="running")

    def log_text(self) -> str:
        return self._text


OPLIST = (
    "[DEBUG] flag_gems.ops.mm.mm: GEMS MM\n[DEBUG] flag_gems.ops.softmax.softmax: GEMS SOFTMAX\n"
)


@pytest.mark.parametrize(
    ("files", "log", "settings", "verdict", "says"),
    [
        ({"/tmp/gems_oplist.log.txt": OPLIST}, "", Smoke(), "pass", "2 operators in /tmp/gems"),
        ({"/var/ops": OPLIST}, "", Smoke(flaggems_log="/var/ops"), "pass", "mm, softmax"),
        ({"/var/ops": OPLIST}, "", Smoke(), "fail", "neither its log"),
        ({"/tmp/gems_oplist.log.txt": ""}, "USE_FLAGGEMS=1", Smoke(), "fail", "not one"),
        (
            {},
            "INFO [vllm_fl.dispatch.manager] Op 'rms_norm' using 'default.flagos'",
            Smoke(),
            "pass",
            "1 operators in the server's log: rms_norm",
        ),
    ],
)
def test_flaggems_is_active_when_its_own_log_says_so(
    files: dict[str, str], log: str, settings: Smoke, verdict: str, says: str, tmp_path: Path
) -> None:
    with OpenAIClient("http://127.0.0.1:0", "m") as client:
        target = Target(
            client, Logged(log, tmp_path), settings, host=Inside(files=files), flaggems=None
        )
        result = only("flaggems", target)
    assert result.verdict == verdict
    assert says.replace("not one", "names one operator that ran") in result.reason


def test_which_releases_say_that_flaggems_is_used() -> None:
    iluvatar = PROJECT.release("deepseek-r1-int4-bi_V150")
    tiny = PROJECT.release("tiny-adder-cpu_x86")
    assert says_flaggems(iluvatar)
    assert says_flaggems(tiny)
    on_card = expected_of(iluvatar, device(), languages=(), flaggems=True)
    assert on_card.without_flaggems is None
    assert on_card.accelerators_per_node == iluvatar.serve.accelerators // iluvatar.serve.nodes
    on_cpu = expected_of(
        tiny, device("cpu_x86"), languages=(), flaggems=True, python_packages={"vllm": "0.32.0+cpu"}
    )
    assert on_cpu.without_flaggems == "no accelerator"
    assert on_cpu.version == "0.32.0+cpu"
