"""What the client makes of good and of broken answers (real sockets, a fault-injecting server)."""

from __future__ import annotations

import pickle
import time

import pytest

from relforge.serving.client import OpenAIClient, ServerFault
from relforge.serving.wire import sse_data
from tests.fakes.openai_server import FakeServer, Fault


def test_answers_and_figures() -> None:
    with FakeServer() as server, OpenAIClient(server.base_url, "tiny") as client:
        assert [one.id for one in client.models()] == ["tiny"]
        answer = client.completion("48+76=", max_tokens=8, stop=["\n"])
        assert (answer.text, answer.finish_reason) == ("124", "stop")
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 4
        assert server.requests[-1]["temperature"] == 0
        assert server.requests[-1]["stop"] == ["\n"]
        assert client.chat("1+2=", max_tokens=8).text == "3"
        server._server.piece_s = 0.05
        streamed = client.stream("48+76=", max_tokens=8)
    assert streamed.text == "124"
    assert (streamed.pieces, streamed.done, streamed.finish_reason) == (3, True, "stop")
    assert streamed.first_token_s is not None
    assert streamed.first_token_s < 0.05 < 0.2 < streamed.seconds
    assert streamed.tokens_per_s == pytest.approx(4 / streamed.seconds)


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("status-500", "status", "HTTP 500: internal trouble"),
        ("error-object", "server-error", "EngineCore encountered an issue"),
        ("not-json", "not-json", "no JSON: <html>"),
        ("wrong-schema", "schema", "choices: Field required"),
        ("empty-choices", "schema", "at least 1 item"),
        ("dies-on-first-request", "unreachable", "connection failed"),
    ],
)
def test_broken_answers_are_named(fault: Fault, kind: str, says: str) -> None:
    with FakeServer(fault) as server, OpenAIClient(server.base_url, "tiny") as client:
        with pytest.raises(ServerFault, match=says) as caught:
            client.completion("1+1=", max_tokens=8)
        assert caught.value.kind == kind
        assert caught.value.where == server.base_url + "/v1/completions"


@pytest.mark.parametrize("fault", ["hangs", "drips"])
def test_a_request_ends_in_time_even_when_bytes_keep_coming(fault: Fault) -> None:
    with FakeServer(fault) as server, OpenAIClient(server.base_url, "t", timeout_s=0.4) as client:
        started = time.monotonic()
        with pytest.raises(ServerFault, match=r"no complete answer within 0\.4 s") as caught:
            client.completion("1+1=", max_tokens=8)
        assert caught.value.kind == "timeout"
        assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("fault", ["stream-breaks-off", "stream-error-event"])
def test_a_stream_that_breaks_is_a_fault(fault: Fault) -> None:
    with FakeServer(fault) as server, OpenAIClient(server.base_url, "tiny") as client:
        with pytest.raises(ServerFault) as caught:
            client.stream("48+76=", max_tokens=8)
        assert caught.value.kind in ("unreachable", "server-error")


def test_nothing_listens() -> None:
    with OpenAIClient("http://127.0.0.1:0", "tiny") as client:
        with pytest.raises(ServerFault) as caught:
            client.models()
        assert caught.value.kind == "unreachable"


def test_the_environments_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with FakeServer() as server, OpenAIClient(server.base_url, "tiny") as client:
        assert [one.id for one in client.models()] == ["tiny"]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_events_survive_any_cut(size: int) -> None:
    raw = 'data: {"t":"é"}\r\n\r\n: note\n\ndata:two\ndata: lines\nid: 4\n\ndata: [DONE]'.encode()
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    assert list(sse_data(pieces)) == ['{"t":"é"}', "two\nlines", "[DONE]"]


def test_a_fault_travels_between_processes() -> None:
    fault = ServerFault("status", "HTTP 500", where="http://x", status=500)
    copy = pickle.loads(pickle.dumps(fault))
    assert (copy.kind, copy.what, copy.where, copy.status) == (
        "status",
        "HTTP 500",
        "http://x",
        500,
    )
