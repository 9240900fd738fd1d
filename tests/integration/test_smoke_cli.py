"""``relforge smoke --url``: a server that runs is probed, and said to be what it is."""

from __future__ import annotations

import json

import pytest

from relforge.cli.dispatch import dispatch
from tests.fakes.openai_server import FakeServer


def test_a_server_that_runs_is_probed_without_knowing_more_than_its_address(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with FakeServer() as server:
        assert dispatch("smoke", ["--url", f"{server.base_url}/v1/", "--json"]) == 0
        assert len(server.requests) > 20
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["verdict"] == "pass"
    verdicts = {probe["name"]: probe["verdict"] for probe in report["probes"]}
    assert verdicts["concurrent"] == "pass"
    assert verdicts["greedy-text"] == "not-run", "no release says what it should answer"
    assert "pass: completion" in err


def test_a_release_says_what_the_server_should_be(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(model="tiny-adder") as server:
        words = ["--url", server.base_url, "--release", "tiny-adder-cpu_x86", "--json"]
        assert dispatch("smoke", words) == 6
    report = json.loads(capsys.readouterr().out)
    wrong = {p["name"]: p["reason"] for p in report["probes"] if p["verdict"] == "fail"}
    # The stand-in adds rightly, where the small model makes its own mistakes; and it is no vLLM.
    assert "greedy texts differ" in wrong["greedy-text"] or "cancelled" in wrong
    assert "the server's metrics hold no vllm:num_requests_running" in wrong["cancelled"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--url", "http://127.0.0.1:9"], 6, "the connection failed"),
        (["--url", "not-a-url"], 2, "is no URL of a server"),
        (["--url", "http://h", "--image", "i"], 2, "name two things to probe"),
        (["--weights", "/w"], 2, "--weights goes with --image"),
        (["--url", "http://h", "--all"], 2, "are of the pipeline"),
        (["--image", "i", "--served-name", "n"], 2, "--served-name goes with --url"),
    ],
)
def test_what_cannot_be_probed_is_refused(
    words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch("smoke", words) == code
    out, err = capsys.readouterr()
    assert says in err
    assert out == ""


def test_a_server_of_several_models_has_to_be_told_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from relforge.serving.client import OpenAIClient
    from relforge.serving.wire import ModelBody

    two = (ModelBody(id="a"), ModelBody(id="b"))
    monkeypatch.setattr(OpenAIClient, "models", lambda _self: two)
    assert dispatch("smoke", ["--url", "http://127.0.0.1:9"]) == 2
    err = capsys.readouterr().err
    assert "names 2 models" in err
    assert "say which with --served-name" in err
