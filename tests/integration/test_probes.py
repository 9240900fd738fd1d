"""Every planted fault is caught by the probe that should, with a reason a person understands."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest

from relforge.cancel import CancelToken
from relforge.engine.containers import ContainerState
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.manifest.smoke import PROBE_NAMES, Smoke
from relforge.serving.client import OpenAIClient
from relforge.serving.engines.base import PLAIN, ServerTraits
from relforge.serving.probes import PROBES, Target, run_probes
from relforge.serving.reference import GreedyText, read_greedy_texts
from relforge.serving.report import ProbeResult
from relforge.serving.smoke import probe_url
from relforge.serving.wait import NotReady, wait_ready
from tests.fakes import openai_server
from tests.fakes.openai_server import VERSION, FakeServer, Fault
from tests.support.faults import FAKE_TRAITS, PLANTED, QUESTION, Planted

REFERENCE = (
    GreedyText(prompt="48+76=", max_tokens=8, text="124", finish_reason="stop"),
    GreedyText(prompt="1+1=", max_tokens=8, text="2", completion_tokens=2),
)
SMOKE = Smoke(request_timeout_s=10, prompts=(QUESTION,))
IMPATIENT = SMOKE.model_copy(update={"request_timeout_s": 0.5})
NAMES = [probe.name for probe in PROBES]
WITHOUT_CONTAINER = {"flaggems", "graceful-stop", "device"}


class Process:
    """A process whose end the test decides."""

    def __init__(self, log: Path, text: str = "", state: ContainerState | None = None) -> None:
        self.log_path = log
        log.write_text(text)
        self.exited = threading.Event()
        self.end = state or ContainerState(status="exited", exit_code=1)

    def state(self) -> ContainerState:
        return self.end if self.exited.is_set() else ContainerState(status="running")

    def log_text(self) -> str:
        return self.log_path.read_text()


class DiesWith(Process):
    """A process that ends with the fake server in this process."""

    def __init__(self, server: FakeServer, log: Path, text: str) -> None:
        super().__init__(log, text)
        self.exited = server.died


def probe(
    fault: Fault,
    tmp_path: Path,
    *,
    reference: tuple[GreedyText, ...] = REFERENCE,
    settings: Smoke = SMOKE,
    traits: ServerTraits = FAKE_TRAITS,
    log: str = "",
) -> dict[str, ProbeResult]:
    with (
        FakeServer(fault) as server,
        OpenAIClient(server.base_url, "tiny", timeout_s=settings.request_timeout_s) as client,
    ):
        process = DiesWith(server, tmp_path / "log", log)
        target = Target(
            client,
            process,
            settings,
            reference,
            languages=("en",),
            traits=traits,
            expected_version=VERSION,
        )
        target.wait = lambda: wait_ready(
            process, client, health_path="/health", timeout_s=0.5, cancel=CancelToken()
        )
        results = run_probes(target, PROBES)
    assert [result.name for result in results] == NAMES
    return {result.name: result for result in results}


@pytest.fixture(autouse=True)
def short_graces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relforge.serving.probes.running._DEATH_GRACE_S", 0.01)
    monkeypatch.setattr("relforge.serving.probes.running._ALIVE_GRACE_S", 0.01)
    monkeypatch.setattr("relforge.serving.probes.load._FREED_WITHIN_S", 6)
    monkeypatch.setattr("relforge.serving.probes.load._TELLING_S", 0.5)


def failed(results: dict[str, ProbeResult]) -> list[str]:
    return [f"{one.name}: {one.reason}" for one in results.values() if one.verdict == "fail"]


def test_every_probe_has_the_name_that_manifests_know() -> None:
    assert tuple(NAMES) == PROBE_NAMES


def test_a_clean_server_passes_every_probe(tmp_path: Path) -> None:
    for number in range(3):
        results = probe("none", tmp_path / str(number) if number else tmp_path)
        assert failed(results) == []
        (tmp_path / str(number + 1)).mkdir()
    not_run = {name for name, one in results.items() if one.verdict == "not-run"}
    assert not_run == WITHOUT_CONTAINER
    assert results["greedy-text"].reason == "2 of 2 greedy texts equal the reference"
    assert results["long-prompt"].reason == "a prompt of 511 tokens, of 512 in the context"


@pytest.mark.parametrize("lines", [1, 15, 30, 60, 80])
def test_the_context_is_filled_with_prompts_of_any_length(lines: int, tmp_path: Path) -> None:
    """Of 512 tokens, and a token is a character: the longest takes 486 of them."""
    asked = REFERENCE[0].model_copy(update={"prompt": "48+76=" + "\n48+76=" * (lines - 1)})
    asked = asked.model_copy(update={"prompt": asked.prompt[-486:]})
    results = probe("none", tmp_path, reference=(asked, REFERENCE[1]))
    assert failed(results) == []
    assert results["long-prompt"].verdict == results["over-limit"].verdict == "pass"


def test_without_a_reference_the_greedy_probe_is_not_run(tmp_path: Path) -> None:
    results = probe("none", tmp_path, reference=())
    assert results["greedy-text"].verdict == "not-run"
    assert failed(results) == []


def test_what_a_release_skips_is_not_run_with_its_reason(tmp_path: Path) -> None:
    settings = SMOKE.model_copy(update={"skip": {"chat": "a base model"}})
    results = probe("no-chat-template", tmp_path, settings=settings)
    assert results["chat"].verdict == "not-run"
    assert results["chat"].reason == "a base model"
    assert failed(results) == []


def test_a_server_of_an_unknown_kind_is_asked_for_the_standard_alone(tmp_path: Path) -> None:
    results = probe("logprobs-missing", tmp_path, traits=PLAIN)
    assert failed(results) == []
    not_run = {name for name, one in results.items() if one.verdict == "not-run"}
    assert not_run == {"version", "logprobs", "cancelled"} | WITHOUT_CONTAINER


def test_an_inexact_backend_agrees_by_tokens(tmp_path: Path) -> None:
    inexact = SMOKE.model_copy(update={"exact": False})
    results = probe("none", tmp_path, settings=inexact)
    assert failed(results) == []
    assert "4 of 4 tokens of the reference (100.0%)" in results["greedy-text"].reason
    assert results["repeat"].verdict == "not-run"
    wrong = (REFERENCE[0].model_copy(update={"text": "125"}), REFERENCE[1])
    results = probe("none", tmp_path, settings=inexact, reference=wrong)
    assert "3 of 4 tokens of the reference (75.0%)" in results["greedy-text"].reason
    assert results["greedy-text"].verdict == results["after-load"].verdict == "fail"
    lenient = inexact.model_copy(update={"agreement": 0.7})
    assert failed(probe("none", tmp_path, settings=lenient, reference=wrong)) == []
    silent = FAKE_TRAITS.model_copy(update={"echo": False})
    results = probe("none", tmp_path, settings=inexact, traits=silent)
    assert results["greedy-text"].verdict == "not-run"
    assert "cannot be measured" in results["greedy-text"].reason


@pytest.mark.parametrize("planted", PLANTED, ids=lambda one: one.fault)
def test_the_right_probe_fails_first(planted: Planted, tmp_path: Path) -> None:
    silent = planted.fault in ("hangs", "drips")
    results = probe(planted.fault, tmp_path, settings=IMPATIENT if silent else SMOKE)
    names = [result.name for result in results.values() if result.verdict == "fail"]
    assert names, f"{planted.fault} was not noticed"
    assert names[0] == planted.probe
    assert planted.says in results[planted.probe].reason


def test_every_fault_is_planted_somewhere() -> None:
    elsewhere = {
        "none", "dies-at-start", "dies-on-first-request", "ignores-sigterm", "sigterm-exits-1",
    }  # fmt: skip
    assert {one.fault for one in PLANTED} | elsewhere == set(get_args(Fault))


def test_a_server_that_answers_nothing_any_more_is_not_waited_for_by_every_probe(
    tmp_path: Path,
) -> None:
    results = probe("hangs", tmp_path, settings=IMPATIENT)
    late = [name for name, one in results.items() if "no complete answer" in one.reason]
    assert late == ["completion", "greedy-text"]
    assert results["stream"].verdict == "not-run"
    assert results["stream"].reason == "2 probes in a row got no answer in time"


class Program:
    """The fake as a process of its own, which a signal ends, as a container is ended."""

    def __init__(self, fault: Fault) -> None:
        self.process = subprocess.Popen(
            [sys.executable, openai_server.__file__, "--port", "0", "--fault", fault],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        assert "listening" in self.process.stderr.readline()

    def stop(self, timeout_s: float) -> ContainerState:
        self.process.terminate()
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return ContainerState(status="running")
        return ContainerState(status="exited", exit_code=code if code >= 0 else 128 - code)

    def execute(self, argv: Sequence[str]) -> tuple[int, bytes]:
        raise AssertionError(f"nothing asks for {argv}")

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize(
    ("fault", "verdict", "says"),
    [
        ("none", "pass", "ended with exit status 0"),
        ("ignores-sigterm", "fail", "still runs 0.5 s after SIGTERM"),
        ("sigterm-exits-1", "fail", "ended with exit status 1"),
    ],
)
def test_the_end_of_a_server_is_looked_at(fault: Fault, verdict: str, says: str) -> None:
    ending = [one for one in PROBES if one.name == "graceful-stop"]
    with Program(fault) as program, OpenAIClient("http://127.0.0.1:0", "tiny") as client:
        target = Target(client, None, Smoke(stop_timeout_s=0.5), host=program)
        (result,) = run_probes(target, ending)
    assert result.verdict == verdict
    assert says in result.reason


def test_a_url_is_probed_and_goes_on() -> None:
    with FakeServer() as server:
        report = probe_url(
            server.base_url + "/v1", "tiny", reference=REFERENCE, settings=SMOKE,
            traits=FAKE_TRAITS, cancel=CancelToken(),
        )  # fmt: skip
        assert report.verdict == "pass", report.reason
        with OpenAIClient(server.base_url, "tiny") as client:
            assert client.models()
    verdicts = {one.name: one.verdict for one in report.probes}
    assert verdicts["container-alive"] == verdicts["graceful-stop"] == "not-run"


def test_a_url_where_nothing_answers() -> None:
    report = probe_url(
        "http://127.0.0.1:9", "tiny", reference=(), settings=SMOKE, traits=PLAIN,
        cancel=CancelToken(),
    )  # fmt: skip
    assert report.verdict == "fail"
    assert report.reason.startswith("port: the connection failed")
    assert {one.verdict for one in report.probes[2:]} == {"not-run"}


def test_a_wrong_name_has_its_cause(tmp_path: Path) -> None:
    cause = probe("wrong-model", tmp_path)["models"].cause
    assert cause is not None
    assert (cause.id, cause.field) == ("wrong-served-name", "serve.served_name")


def test_a_server_that_the_first_request_kills_is_called_so(tmp_path: Path) -> None:
    line = "RuntimeError: Boolean value of Tensor with more than one value is ambiguous"
    results = probe("dies-on-first-request", tmp_path, log=f"INFO all well\n{line}\n")
    assert results["health"].verdict == "pass"
    completion = results["completion"]
    assert completion.verdict == "fail"
    assert (
        "the first request killed the server, which ended with exit status 1" in completion.reason
    )
    assert completion.cause is not None
    assert completion.cause.id == "slot-mapping-stand-in"
    assert (completion.cause.evidence, completion.cause.line) == (line, 2)
    for name in ("greedy-text", "chat", "stream"):
        assert results[name].verdict == "not-run"
        assert "did not survive probe 'completion'" in results[name].reason


def test_a_server_that_never_gets_ready(tmp_path: Path) -> None:
    results = probe("never-ready", tmp_path)
    assert "not ready within 0.5 s" in results["health"].reason
    assert "HTTP 503" in results["health"].reason
    assert results["completion"].verdict == "not-run"


def test_cancel_ends_the_probes(tmp_path: Path) -> None:
    cancel = CancelToken()
    cancel.cancel("Ctrl-C")
    with FakeServer() as server, OpenAIClient(server.base_url, "tiny") as client:
        target = Target(client, None, SMOKE, REFERENCE)
        with pytest.raises(Cancelled):
            run_probes(target, PROBES, cancel=cancel)


def wait(process: Process, timeout_s: float, cancel: CancelToken | None = None) -> float:
    with OpenAIClient("http://127.0.0.1:0", "tiny") as client:
        return wait_ready(
            process,
            client,
            health_path="/health",
            timeout_s=timeout_s,
            cancel=cancel or CancelToken(),
        )


def test_waiting_ends_with_the_server_and_not_with_the_limit(tmp_path: Path) -> None:
    process = Process(tmp_path / "log", "x\nOSError: [Errno 98] Address already in use\n")
    threading.Timer(0.3, process.exited.set).start()
    started = time.monotonic()
    with pytest.raises(NotReady, match="ended with exit status 1 before it was ready") as caught:
        wait(process, 60)
    assert time.monotonic() - started < 1.2
    assert caught.value.code == ExitCode.GATE
    assert caught.value.cause is not None
    assert caught.value.cause.id == "port-taken"
    assert "[Errno 98]" in (caught.value.why or "")
    assert caught.value.log == str(tmp_path / "log")


def test_an_unknown_death_shows_the_last_error_line(tmp_path: Path) -> None:
    process = Process(tmp_path / "log", "ValueError: first\nKeyError: 'last'\nbye\n")
    process.exited.set()
    with pytest.raises(NotReady) as caught:
        wait(process, 60)
    assert caught.value.cause is None
    assert caught.value.why == "KeyError: 'last'"


def test_a_server_that_was_dead_before_the_first_probe_has_its_last_words(tmp_path: Path) -> None:
    process = Process(tmp_path / "log", "no luck today\n")
    process.exited.set()
    with OpenAIClient("http://127.0.0.1:0", "tiny") as client:
        alive, *rest = run_probes(Target(client, process, SMOKE, REFERENCE), PROBES)
    assert alive.verdict == "fail"
    assert "ended with exit status 1" in alive.reason
    assert "no luck today" in alive.reason
    assert {result.verdict for result in rest} == {"not-run"}


def test_waiting_can_be_cancelled(tmp_path: Path) -> None:
    cancel = CancelToken()
    threading.Timer(0.2, cancel.cancel, ("Ctrl-C",)).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        wait(Process(tmp_path / "log"), 60, cancel)
    assert time.monotonic() - started < 1.2


def test_reference_file(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    path.write_text(
        '{"format": "x", "greedy": [{"prompt": "a", "max_tokens": 8, "text": "b", "gap": 1.5}]}'
    )
    assert read_greedy_texts(path) == (GreedyText(prompt="a", max_tokens=8, text="b"),)
    for bad, says in (
        ("{", "Expecting property name"),
        ('{"greedy": []}', "at least 1 item"),
        ('{"greedy": [{"prompt": "a", "max_tokens": 0, "text": ""}]}', "greedy.0.max_tokens"),
    ):
        path.write_text(bad)
        with pytest.raises(RelforgeError) as caught:
            read_greedy_texts(path)
        assert says in (caught.value.why or "")
    with pytest.raises(RelforgeError, match="no greedy texts"):
        read_greedy_texts(tmp_path / "absent.json")
