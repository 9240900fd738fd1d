"""Every planted fault is caught by the probe that should, with a reason a person understands."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from relforge.cancel import CancelToken
from relforge.engine.containers import ContainerState
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.manifest.release import Smoke
from relforge.serving.client import OpenAIClient
from relforge.serving.probes import PROBES, ProbeResult, Target, run_probes
from relforge.serving.reference import GreedyText, read_greedy_texts
from relforge.serving.wait import NotReady, wait_ready
from tests.fakes.openai_server import FakeServer, Fault

REFERENCE = (
    GreedyText(prompt="48+76=", max_tokens=8, text="124", finish_reason="stop"),
    GreedyText(prompt="1+1=", max_tokens=8, text="2", completion_tokens=2),
)
SMOKE = Smoke(request_timeout_s=0.5)
NAMES = [probe.name for probe in PROBES]


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
    log: str = "",
) -> dict[str, ProbeResult]:
    with (
        FakeServer(fault) as server,
        OpenAIClient(server.base_url, "tiny", timeout_s=0.5) as client,
    ):
        process = DiesWith(server, tmp_path / "log", log)
        target = Target(client, process, settings, reference)
        target.wait = lambda: wait_ready(
            process, client, health_path="/health", timeout_s=0.5, cancel=CancelToken()
        )
        results = run_probes(target)
    assert [result.name for result in results] == NAMES
    return {result.name: result for result in results}


def test_a_clean_server_passes_every_probe(tmp_path: Path) -> None:
    results = probe("none", tmp_path)
    assert {result.verdict for result in results.values()} == {"pass"}
    assert results["greedy-text"].reason == "2 of 2 greedy texts equal the reference"


def test_without_a_reference_the_greedy_probe_is_not_run(tmp_path: Path) -> None:
    results = probe("none", tmp_path, reference=())
    assert results.pop("greedy-text").verdict == "not-run"
    assert {result.verdict for result in results.values()} == {"pass"}
    inexact = Smoke(exact=False, request_timeout_s=0.5)
    assert probe("none", tmp_path, settings=inexact)["greedy-text"].verdict == "not-run"


@pytest.mark.parametrize(
    ("fault", "name", "says"),
    [
        ("wrong-model", "models", "serves 'another' but not the declared name 'tiny'"),
        ("status-500", "completion", "HTTP 500: internal trouble"),
        ("error-object", "completion", "reports an error: EngineCore encountered an issue"),
        ("not-json", "completion", "the answer is no JSON"),
        ("wrong-schema", "completion", "does not follow the OpenAI schema"),
        ("empty-choices", "completion", "choices: List should have at least 1 item"),
        ("empty-text", "completion", "text is empty"),
        ("garbled-bytes", "completion", "garbled (invalid or control"),
        ("garbled-signs", "completion", "garbled (one sign over and over)"),
        ("no-finish-reason", "completion", "finish_reason is None"),
        ("hangs", "completion", "no complete answer within 0.5 s"),
        ("drips", "completion", "no complete answer within 0.5 s"),
        ("wrong-text", "greedy-text", "2 of 2 greedy texts differ"),
        ("stream-without-done", "stream", "ended without [DONE]"),
        ("stream-other-text", "stream", "is not the unstreamed one '124'"),
        ("stream-without-usage", "stream", "reports no usage"),
        ("stream-without-finish", "stream", "finish_reason is None"),
        ("stream-text-after-finish", "stream", "text after the finish reason"),
        ("stream-event-after-done", "stream", "an event after [DONE]"),
        ("stream-breaks-off", "stream", "connection failed"),
        ("stream-error-event", "stream", "reports an error"),
    ],
)
def test_the_right_probe_fails_first(
    fault: Fault, name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relforge.serving.probes._DEATH_GRACE_S", 0.01)
    monkeypatch.setattr("relforge.serving.probes._ALIVE_GRACE_S", 0.01)
    results = probe(fault, tmp_path)
    failed = [result.name for result in results.values() if result.verdict == "fail"]
    assert failed[0] == name
    assert says in results[name].reason


def test_a_wrong_name_has_its_cause(tmp_path: Path) -> None:
    cause = probe("wrong-model", tmp_path)["models"].cause
    assert cause is not None
    assert (cause.id, cause.field) == ("wrong-served-name", "serve.served_name")


def test_a_server_that_the_first_request_kills_is_called_so(tmp_path: Path) -> None:
    line = "RuntimeError: Boolean value of Tensor with more than one value is ambiguous"
    results = probe("dies-on-first-request", tmp_path, log=f"INFO all well\n{line}\n")
    assert results["ready"].verdict == "pass"
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
    assert "not ready within 0.5 s" in results["ready"].reason
    assert "HTTP 503" in results["ready"].reason
    assert results["completion"].verdict == "not-run"


def test_cancel_ends_the_probes(tmp_path: Path) -> None:
    cancel = CancelToken()
    cancel.cancel("Ctrl-C")
    with FakeServer() as server, OpenAIClient(server.base_url, "tiny") as client:
        target = Target(client, None, SMOKE, REFERENCE)
        with pytest.raises(Cancelled):
            run_probes(target, cancel=cancel)


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
        alive, *rest = run_probes(Target(client, process, SMOKE, REFERENCE))
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
