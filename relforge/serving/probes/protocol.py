"""Whether it keeps to the protocol: streams, stops, limits, log-probabilities, refusals."""

from __future__ import annotations

import math

from relforge.serving.client import ServerFault
from relforge.serving.probes.answers import sound
from relforge.serving.probes.model import ProbeFailed, ProbeNotRun, Target
from relforge.serving.replies import Answer

_ROUNDING_NATS = 1e-3


def stream(target: Target) -> str:
    target.requests_made = True
    got = target.client.stream(target.prompt, max_tokens=target.max_tokens)
    target.streamed = got
    if got.order_faults:
        raise ProbeFailed(f"the stream is out of order: {got.order_faults[0]}")
    if not got.done:
        raise ProbeFailed("the stream ended without [DONE]")
    sound(got.text, got.finish_reason)
    if got.usage is None:
        raise ProbeFailed("the stream reports no usage although stream_options asked for it")
    plain = target.completion
    if plain is None:
        raise ProbeFailed("there is no unstreamed completion to compare with: it failed")
    if target.settings.exact and got.text != plain.text:
        raise ProbeFailed(
            f"the streamed text {got.text!r} is not the unstreamed one {plain.text!r}"
        )
    if target.settings.exact and plain.usage and got.usage != plain.usage:
        raise ProbeFailed(
            f"the stream counts {got.usage.prompt_tokens}+{got.usage.completion_tokens} tokens, "
            f"the unstreamed answer {plain.usage.prompt_tokens}+{plain.usage.completion_tokens}"
        )
    return f"{got.pieces} pieces, {got.finish_reason}, [DONE]"


def stop_sequence(target: Target) -> str:
    """Stops at a part of the text that it is known to write."""
    known = _completed(target).text
    if len(known) < 2:
        raise ProbeNotRun(f"the answer {known!r} is too short to be stopped in its middle")
    middle = len(known) // 2
    # Only as long a stop as is needed to be in the text for the first time at that place.
    stop = next(
        (
            known[at : at + length]
            for length in range(1, 9)
            for at in range(max(1, middle), len(known) - length + 1)
            if known.find(known[at : at + length]) == at
        ),
        None,
    )
    if stop is None:
        raise ProbeNotRun(f"no part of {known!r} stands in it only once")
    got = target.client.completion(target.prompt, max_tokens=target.max_tokens, stop=[stop])
    if stop in got.text:
        raise ProbeFailed(f"the answer {got.text!r} goes past the stop sequence {stop!r}")
    wanted = known[: known.find(stop)]
    if target.settings.exact and got.text != wanted:
        raise ProbeFailed(f"with the stop {stop!r} {wanted!r} is expected, not {got.text!r}")
    if target.settings.exact and got.finish_reason != "stop":
        raise ProbeFailed(f"a stopped answer's finish_reason is {got.finish_reason!r}, not stop")
    return f"{known!r} stopped at {stop!r} is {got.text!r}"


def max_tokens(target: Target) -> str:
    known = _completed(target)
    got = target.client.completion(target.prompt, max_tokens=1)
    _counts(got.usage.completion_tokens if got.usage else None, 1)
    if target.settings.exact and not known.text.startswith(got.text):
        raise ProbeFailed(f"the first token {got.text!r} does not begin {known.text!r}")
    if got.finish_reason != "length":
        raise ProbeFailed(f"an answer cut at 1 token says finish_reason {got.finish_reason!r}")
    if not target.traits.ignore_eos:
        return "1 token when 1 is asked for"
    limit = 2 * target.max_tokens
    longer = target.client.completion(target.prompt, max_tokens=limit, ignore_eos=True)
    _counts(longer.usage.completion_tokens if longer.usage else None, limit)
    return f"1 and {limit} tokens when as many are asked for"


def _counts(counted: int | None, wanted: int) -> None:
    if counted is None:
        raise ProbeFailed("the answer reports no usage")
    if counted != wanted:
        raise ProbeFailed(f"max_tokens is {wanted}, and the answer has {counted} tokens")


def logprobs(target: Target) -> str:
    known = _completed(target)
    got = target.client.completion(target.prompt, max_tokens=target.max_tokens, logprobs=1)
    given = got.logprobs
    if given is None:
        if not target.traits.logprobs:
            raise ProbeNotRun(f"{target.traits.name} gives no log-probabilities")
        raise ProbeFailed("the answer holds no log-probabilities although logprobs asks for them")
    if not given.tokens or len(given.values) != len(given.tokens):
        raise ProbeFailed(f"{len(given.values)} log-probabilities for {len(given.tokens)} tokens")
    for token, value in zip(given.tokens, given.values, strict=True):
        if value is None or not math.isfinite(value) or value > _ROUNDING_NATS:
            raise ProbeFailed(f"the log-probability of {token!r} is {value}")
    if target.settings.exact and got.text != known.text:
        raise ProbeFailed(f"with logprobs the greedy text is {got.text!r}, without {known.text!r}")
    for token, likeliest in zip(given.tokens, given.likeliest, strict=False):
        if likeliest is not None and likeliest != token and target.settings.exact:
            raise ProbeFailed(f"greedy took {token!r} where {likeliest!r} is likelier")
    lowest = min(value for value in given.values if value is not None)
    return f"{len(given.tokens)} tokens, the least likely one at {lowest:.2f} nats"


def malformed_json(target: Target) -> str:
    body = b'{"model": "' + target.client.model.encode() + b'", "prompt": '
    try:
        target.client.post_raw("/v1/completions", body)
    except ServerFault as fault:
        if fault.status is not None and 400 <= fault.status < 500:
            return f"HTTP {fault.status} for half a JSON object"
        raise
    raise ProbeFailed("half a JSON object was answered with HTTP 200")


def _completed(target: Target) -> Answer:
    if target.completion is None:
        raise ProbeFailed("there is no completion to compare with: it failed")
    return target.completion
