"""Faults that a server can have, the probe that has to find each first, and what it says."""

from __future__ import annotations

from typing import NamedTuple

from relforge.serving.engines.base import ServerTraits
from tests.fakes.openai_server import Fault

FAKE_TRAITS = ServerTraits(
    name="the fake",
    version_path="/version",
    metrics_path="/metrics",
    running_requests="fake:running",
    generated_tokens="fake:generated_total",
    ignore_eos=True,
    logprobs=True,
    echo=True,
)


class Planted(NamedTuple):
    fault: Fault
    probe: str
    says: str


PLANTED: tuple[Planted, ...] = (
    Planted("never-ready", "health", "HTTP 503"),
    Planted("other-version", "version", "says it is 9.9.9, and the image holds 1.2.3"),
    Planted("no-version", "version", "HTTP 404"),
    Planted("wrong-model", "models", "serves 'another' but not the declared name 'tiny'"),
    Planted("status-500", "completion", "HTTP 500: internal trouble"),
    Planted("error-object", "completion", "reports an error: EngineCore encountered an issue"),
    Planted("not-json", "completion", "the answer is no JSON"),
    Planted("wrong-schema", "completion", "does not follow the OpenAI schema"),
    Planted("empty-choices", "completion", "choices: List should have at least 1 item"),
    Planted("empty-text", "completion", "text is empty"),
    Planted("garbled-bytes", "completion", "garbled (invalid or control"),
    Planted("garbled-signs", "completion", "garbled (one sign over and over)"),
    Planted("no-finish-reason", "completion", "finish_reason is None"),
    Planted("hangs", "completion", "no complete answer within 0.5 s"),
    Planted("drips", "completion", "no complete answer within 0.5 s"),
    Planted("wrong-text", "greedy-text", "2 of 2 greedy texts differ"),
    Planted("second-differs", "repeat", "two equal greedy requests gave '124' and then '4211'"),
    Planted("no-chat-template", "chat", "default chat template is no longer allowed"),
    Planted("stream-without-done", "stream", "ended without [DONE]"),
    Planted("stream-other-text", "stream", "is not the unstreamed one '124'"),
    Planted("stream-without-usage", "stream", "reports no usage"),
    Planted("stream-without-finish", "stream", "finish_reason is None"),
    Planted("stream-text-after-finish", "stream", "text after the finish reason"),
    Planted("stream-event-after-done", "stream", "an event after [DONE]"),
    Planted("stream-breaks-off", "stream", "connection failed"),
    Planted("stream-error-event", "stream", "reports an error"),
    Planted("stop-ignored", "stop-sequence", "goes past the stop sequence '2'"),
    Planted("stop-included", "stop-sequence", "goes past the stop sequence '2'"),
    Planted("max-tokens-ignored", "max-tokens", "max_tokens is 1, and the answer has 4 tokens"),
    Planted("max-tokens-miscounted", "greedy-text", "expected 2 completion tokens, got 3"),
    Planted("no-usage", "stream", "reports no usage"),
    Planted("logprobs-missing", "logprobs", "holds no log-probabilities"),
    Planted("logprobs-nan", "logprobs", "the log-probability of '1' is nan"),
    Planted("logprobs-positive", "logprobs", "the log-probability of '1' is 0.5"),
    Planted("logprobs-not-greedy", "logprobs", "greedy took '1' where 'x' is likelier"),
    Planted("garbled-loop", "garble", "'he library of the t' over and over"),
    Planted("garbled-tokenizer", "garble", "pieces of the tokenizer, such as '\u0120'"),
    Planted("garbled-script", "garble", "letters in scripts that none of the model's languages"),
    Planted("garbled-guesses", "garble", "the model itself finds it unlikely: 7.5 nats a token"),
    Planted("long-500", "long-prompt", "an illegal memory access"),
    Planted("long-cut", "long-prompt", "the server cuts it"),
    Planted("over-limit-cut", "over-limit", "it was cut without a word"),
    Planted("over-limit-500", "over-limit", "HTTP 500: This model's maximum context length"),
    Planted("malformed-200", "malformed-json", "answered with HTTP 200"),
    Planted("malformed-500", "malformed-json", "HTTP 500: no JSON"),
    Planted("crosstalk", "concurrent", "among 8 at once"),
    Planted("busy-500", "concurrent", "HTTP 500: too many requests"),
    Planted("cancel-ignored", "cancelled", "was worked off to its end"),
    Planted("cancel-leaks", "cancelled", "its request is still in work"),
    Planted("worn-by-load", "after-load", "'124' before the load and '4211' after"),
)
"""``dies-at-start``, ``dies-on-first-request`` and the two of SIGTERM have tests of their own."""

QUESTION = "What is a library for?"
"""The fault-injecting server answers it with prose; asked where garble is looked for."""
