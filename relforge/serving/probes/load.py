"""Whether it holds: the longest prompt, one too long, many requests at once, one given up."""

from __future__ import annotations

import time

from relforge.serving.client import OpenAIClient, ServerFault
from relforge.serving.probes.model import ProbeFailed, ProbeNotRun, Target
from relforge.serving.replies import Answer

_FULL_ENOUGH = 0.9
"""Of the context: a prompt of text can only be made about as long as wanted."""
_NEARLY = 0.96
_TOO_LONG = 1.25
_POLL_S = 0.02
_FREED_WITHIN_S = 10.0
_TELLING_S = 2.0
"""A loaded server may take so long to notice that a client is gone."""
_GIVE_UPS = 3
_FIRST_PIECES = 3
_LEAST_TO_GIVE_UP = 32


def long_prompt(target: Target) -> str:
    limit = _context(target)
    wanted = limit - 1
    if target.settings.long_prompt_tokens is not None:
        wanted = min(wanted, target.settings.long_prompt_tokens)
    filler = _Filler(target, limit)
    try:
        answer = filler.ask(wanted)
    except ServerFault as fault:
        if fault.status is None or not 400 <= fault.status < 500:
            raise
        # Where pieces of text merge into other tokens, there can be a few more than counted.
        answer = filler.ask(int(_NEARLY * wanted))
    used = answer.usage.prompt_tokens if answer.usage else 0
    if answer.finish_reason not in ("stop", "length"):
        raise ProbeFailed(
            f"the answer to {used} tokens has the finish_reason {answer.finish_reason!r}"
        )
    if "\ufffd" in answer.text:
        raise ProbeFailed(f"the answer to {used} tokens is garbled: {answer.text!r}")
    if used < _FULL_ENOUGH * wanted:
        raise ProbeFailed(
            f"a prompt made for {wanted} tokens counts as {used}: the server cuts it, or counts "
            "wrongly"
        )
    return f"a prompt of {used} tokens, of {limit} in the context"


def over_limit(target: Target) -> str:
    limit = _context(target)
    text = _Filler(target, limit).of(int(limit * _TOO_LONG) + 16)
    try:
        answer = target.client.completion(text, max_tokens=1)
    except ServerFault as fault:
        if fault.status is not None and 400 <= fault.status < 500:
            return f"HTTP {fault.status} for more than {limit} tokens"
        raise
    used = answer.usage.prompt_tokens if answer.usage else "no"
    raise ProbeFailed(
        f"a prompt longer than the context of {limit} tokens was answered, with {used} tokens "
        "counted: it was cut without a word"
    )


def _context(target: Target) -> int:
    if target.max_model_len is None:
        raise ProbeNotRun(f"{target.traits.name} does not say how long its context is")
    return target.max_model_len


class _Filler:
    """Text of about as many tokens as wanted, made of the prompt's own words.

    How many tokens a piece of text has is learnt from the server's own counts, so that no
    tokenizer is needed.
    """

    def __init__(self, target: Target, limit: int) -> None:
        self._client = target.client
        unit, tokens = target.prompt, max(1, _tokens_of_prompt(target))
        if 20 * tokens > limit:  # in steps of that, the context could not be filled
            unit = unit[: max(1, len(unit) * limit // (25 * tokens))]
        self._unit = unit + "\n"
        one, three = self._count(1), self._count(3)
        self._per_unit = (three - one) / 2
        self._rest = one - self._per_unit
        if self._per_unit <= 0:
            raise ProbeFailed(
                f"three times the text counts {three} prompt tokens, once {one}: the server's "
                "usage is wrong"
            )

    def of(self, tokens: int) -> str:
        """Of at most as many tokens; at least one unit."""
        return self._unit * max(1, int((tokens - self._rest) / self._per_unit))

    def ask(self, tokens: int) -> Answer:
        return self._client.completion(self.of(tokens), max_tokens=1)

    def _count(self, times: int) -> int:
        answer = self._client.completion(self._unit * times, max_tokens=1)
        if answer.usage is None:
            raise ProbeFailed("the answer reports no usage")
        return answer.usage.prompt_tokens


def concurrent(target: Target) -> str:
    """Each of the requests has to be answered as if it were alone."""
    from concurrent.futures import ThreadPoolExecutor

    alone = dict(target.answers)
    if not alone and target.completion is not None:
        alone = {target.prompt: target.completion}
    if not alone:
        raise ProbeFailed("there is no answer of a request alone to compare with: it failed")
    limits = {text.prompt: text.max_tokens for text in target.reference}
    count = target.settings.concurrency
    prompts = [list(alone)[number % len(alone)] for number in range(count)]
    client = target.client
    began = time.monotonic()

    def ask(prompt: str) -> Answer:
        with OpenAIClient(client.base_url, client.model, timeout_s=client.timeout_s) as own:
            return own.completion(prompt, max_tokens=limits.get(prompt, target.max_tokens))

    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(ask, prompts))
    seconds = time.monotonic() - began
    client.busy_s += seconds
    for prompt, answer in zip(prompts, answers, strict=True):
        if not answer.text:
            raise ProbeFailed(f"among {count} at once {prompt!r} got an empty answer")
        if target.settings.exact and answer.text != alone[prompt].text:
            raise ProbeFailed(
                f"alone {prompt!r} is answered {alone[prompt].text!r}, among {count} at once "
                f"{answer.text!r}"
            )
    return f"{count} at once in {seconds:.2f} s, each answered as alone"


def cancelled(target: Target) -> str:
    """A request whose client is gone must not go on: it keeps a place from others."""
    traits = target.traits
    if traits.metrics_path is None or not traits.ignore_eos:
        raise ProbeNotRun(f"{traits.name} does not tell how many requests are in work")
    room = (target.max_model_len or 0) - _tokens_of_prompt(target) - 1
    if room < _LEAST_TO_GIVE_UP:
        raise ProbeNotRun(f"the context leaves {max(room, 0)} tokens: too few to give up in time")
    limit = min(room, 4096)
    for _ in range(_GIVE_UPS):
        written, seconds = _give_up(target, limit)
        if written < limit:
            return f"given up after {written:.0f} of {limit} tokens, its place was free at once"
    if seconds < _TELLING_S:
        raise ProbeNotRun(
            f"a request of all {limit} tokens that the context leaves ends {seconds:.2f} s after "
            "its client hung up: too soon to tell whether the server noticed"
        )
    raise ProbeFailed(
        f"a request whose client hung up was worked off to its end, all {limit} tokens, which took "
        f"{seconds:.1f} s more"
    )


def _give_up(target: Target, limit: int) -> tuple[float, float]:
    """Hangs up on a request: the tokens that were written of it, and the seconds that it went on.

    Raises ProbeFailed when its place does not get free.
    """
    traits = target.traits
    before = _idle(target)
    target.client.give_up(target.prompt, max_tokens=limit, pieces=_FIRST_PIECES, ignore_eos=True)
    began = time.monotonic()
    while True:
        now = _metrics(target)
        seconds = time.monotonic() - began
        written = now[traits.generated_tokens] - before[traits.generated_tokens]
        if now[traits.running_requests] == 0:
            return written, seconds
        if seconds > _FREED_WITHIN_S:
            raise ProbeFailed(
                f"{seconds:.0f} s after the client hung up its request is still in work, "
                f"{written:.0f} tokens on"
            )
        time.sleep(_POLL_S)


def _idle(target: Target) -> dict[str, float]:
    """The metrics once no request of earlier probes is counted as in work any more."""
    deadline = time.monotonic() + 1.0
    while True:
        found = _metrics(target)
        if found[target.traits.running_requests] == 0 or time.monotonic() > deadline:
            return found
        time.sleep(_POLL_S)


def _metrics(target: Target) -> dict[str, float]:
    traits = target.traits
    assert traits.metrics_path is not None
    try:
        found = target.client.metrics(traits.metrics_path)
    except ServerFault as fault:
        if traits.metrics_optional and fault.status == 404:
            raise ProbeNotRun(f"{traits.name} was started without metrics") from fault
        raise
    for name in (traits.running_requests, traits.generated_tokens):
        if name not in found:
            raise ProbeFailed(f"the server's metrics hold no {name}")
    return found


def _tokens_of_prompt(target: Target) -> int:
    usage = target.completion.usage if target.completion else None
    return usage.prompt_tokens if usage else len(target.prompt)
