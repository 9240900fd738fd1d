"""What is asked of a served model, in order; each probe has its own verdict, reason and time.

A server may be healthy and still write rubbish, or die of its first request: so every answer is
read, and after a failure the container is looked at before anything else is said.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from relforge.cancel import CancelToken
from relforge.errors import RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.release import Smoke
from relforge.serving.client import Answer, OpenAIClient, ServerFault, Streamed
from relforge.serving.diagnosis import Cause, diagnose, last_words
from relforge.serving.reference import GreedyText
from relforge.serving.wait import NotReady, ServerProcess
from relforge.stage import Verdict

# A server whose engine died of a request takes a while to end itself: vLLM 0.32 about 5 s.
_DEATH_GRACE_S = 8.0
_ALIVE_GRACE_S = 0.3
_DEFAULT_PROMPT = "Hello"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ONE_SIGN = re.compile(r"([^\w\s])\1{3,}")


class ProbeResult(Frozen):
    """One probe's outcome. ``seconds`` is wall time."""

    name: str
    verdict: Verdict
    reason: str
    seconds: float
    cause: Cause | None = None


class ProbeFailed(Exception):
    """The server did not do what the probe asks; the text says what it did instead."""


class ProbeNotRun(Exception):
    """The probe does not apply; the text says why."""


@dataclass
class Target:
    """One server under probe, and what earlier probes learnt from it."""

    client: OpenAIClient
    process: ServerProcess | None
    settings: Smoke
    reference: tuple[GreedyText, ...] = ()
    wait: Callable[[], float] | None = None
    """Waits until the server is ready and returns the seconds it took; None: it is ready."""
    start_to_ready_s: float | None = None
    completion: Answer | None = None
    streamed: Streamed | None = None
    requests_made: bool = field(default=False)

    @property
    def prompt(self) -> str:
        return self.reference[0].prompt if self.reference else _DEFAULT_PROMPT

    @property
    def max_tokens(self) -> int:
        return self.reference[0].max_tokens if self.reference else self.settings.max_tokens


@dataclass(frozen=True)
class Probe:
    """``check`` returns what it saw, or raises ProbeFailed, ProbeNotRun or ServerFault."""

    name: str
    check: Callable[[Target], str]
    vital: bool = False
    """Nothing after it makes sense when it fails."""


def run_probes(
    target: Target,
    probes: tuple[Probe, ...] | None = None,
    *,
    cancel: CancelToken | None = None,
) -> tuple[ProbeResult, ...]:
    """Runs the probes in order. A dead server makes the rest ``not-run``, other failures do not.

    Raises Cancelled when the token is set.
    """
    cancel = cancel or CancelToken()
    results: list[ProbeResult] = []
    over: str | None = None
    for probe in PROBES if probes is None else probes:
        cancel.check()
        if over is not None:
            results.append(ProbeResult(name=probe.name, verdict="not-run", reason=over, seconds=0))
            continue
        result = _run(probe, target)
        cancel.check()  # a server that we ended did not fail
        results.append(result)
        if result.verdict == "fail" and (probe.vital or _is_dead(target)):
            over = (
                f"the server did not survive probe {probe.name!r}"
                if _is_dead(target)
                else (f"probe {probe.name!r} failed")
            )
    return tuple(results)


def _run(probe: Probe, target: Target) -> ProbeResult:
    started = time.monotonic()
    first_request = not target.requests_made
    cause: Cause | None = None
    verdict: Verdict
    try:
        verdict, reason = "pass", probe.check(target)
    except ProbeNotRun as absent:
        verdict, reason = "not-run", str(absent)
    except NotReady as late:
        verdict, cause = "fail", late.cause
        reason = f"{late.what}: {late.cause.explanation if late.cause else late.why}"
    except (ProbeFailed, ServerFault) as failed:
        said = failed.what if isinstance(failed, RelforgeError) else str(failed)
        verdict = "fail"
        grace_s = _DEATH_GRACE_S if isinstance(failed, ServerFault) else _ALIVE_GRACE_S
        reason, cause = _explained(target, said, grace_s, first_request=first_request)
    return ProbeResult(
        name=probe.name,
        verdict=verdict,
        reason=reason,
        seconds=time.monotonic() - started,
        cause=cause,
    )


def _explained(
    target: Target, said: str, grace_s: float, *, first_request: bool
) -> tuple[str, Cause | None]:
    """The failure in words: whether the server died of it, and why if that is known."""
    process = target.process
    if process is None:
        return said, diagnose("", None, said)
    process.exited.wait(grace_s)
    state, log = process.state(), process.log_text()
    cause = diagnose(log, state, said)
    if not process.exited.is_set():
        return (f"{said}: {cause.explanation}" if cause else said), cause
    which = "the first request" if first_request and target.requests_made else "the request"
    killed = (
        f"{which} killed the server, which {state.shown()}"
        if target.requests_made
        else (f"the server {state.shown()}")
    )
    return f"{killed}: {cause.explanation if cause else state.error or last_words(log)}", cause


def _is_dead(target: Target) -> bool:
    return target.process is not None and target.process.exited.is_set()


def _alive(target: Target) -> str:
    if target.process is None:
        raise ProbeNotRun("no container of ours: only the URL is known")
    state = target.process.state()
    if not state.running:
        raise ProbeFailed(
            f"the container {state.shown()}" + (f": {state.error}" * bool(state.error))
        )
    return "the container runs"


def _ready(target: Target) -> str:
    if target.wait is None:
        raise ProbeNotRun("the server was ready before")
    target.start_to_ready_s = target.wait()
    return f"ready after {target.start_to_ready_s:.1f} s"


def _models(target: Target) -> str:
    names = target.client.models()
    if target.client.model not in names:
        raise ProbeFailed(
            f"the server serves {', '.join(map(repr, names)) or 'no model'} but not the declared "
            f"name {target.client.model!r}"
        )
    return f"names {target.client.model!r}"


def _completion(target: Target) -> str:
    target.requests_made = True
    answer = target.client.completion(target.prompt, max_tokens=target.max_tokens)
    target.completion = answer
    _sound(answer.text, answer.finish_reason)
    return f"{target.prompt!r} -> {answer.text!r}"


def _greedy(target: Target) -> str:
    if not target.reference:
        raise ProbeNotRun("the model has no recorded reference")
    if not target.settings.exact:
        raise ProbeNotRun("smoke.exact is false: this backend need not repeat the texts exactly")
    wrong: list[str] = []
    for number, wanted in enumerate(target.reference):
        answer = target.completion if number == 0 else None
        answer = answer or target.client.completion(wanted.prompt, max_tokens=wanted.max_tokens)
        difference = _difference(wanted, answer)
        if difference:
            wrong.append(f"{wanted.prompt!r}: {difference}")
    if wrong:
        raise ProbeFailed(
            f"{len(wrong)} of {len(target.reference)} greedy texts differ from the recorded "
            f"reference, first {wrong[0]}"
        )
    return f"{len(target.reference)} of {len(target.reference)} greedy texts equal the reference"


def _difference(wanted: GreedyText, got: Answer) -> str | None:
    if got.text != wanted.text:
        return f"expected {wanted.text!r}, got {got.text!r}"
    if wanted.finish_reason and got.finish_reason != wanted.finish_reason:
        return f"expected finish_reason {wanted.finish_reason!r}, got {got.finish_reason!r}"
    if wanted.completion_tokens and got.usage:
        counted = got.usage.completion_tokens
        if counted != wanted.completion_tokens:
            return f"expected {wanted.completion_tokens} completion tokens, got {counted}"
    return None


def _chat(target: Target) -> str:
    target.requests_made = True
    answer = target.client.chat(target.prompt, max_tokens=target.max_tokens)
    _sound(answer.text, answer.finish_reason)
    return f"{target.prompt!r} -> {answer.text!r}"


def _stream(target: Target) -> str:
    target.requests_made = True
    got = target.client.stream(target.prompt, max_tokens=target.max_tokens)
    target.streamed = got
    if got.order_faults:
        raise ProbeFailed(f"the stream is out of order: {got.order_faults[0]}")
    if not got.done:
        raise ProbeFailed("the stream ended without [DONE]")
    _sound(got.text, got.finish_reason)
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


def _sound(text: str, finish_reason: str | None) -> None:
    """Raises ProbeFailed for a text that no working model writes, or an answer never finished."""
    if not text:
        raise ProbeFailed("the answer's text is empty")
    if "\ufffd" in text or _CONTROL.search(text):
        raise ProbeFailed(f"the answer is garbled (invalid or control characters): {text!r}")
    if _ONE_SIGN.fullmatch(text.strip()):
        raise ProbeFailed(f"the answer is garbled (one sign over and over): {text!r}")
    if finish_reason not in ("stop", "length"):
        raise ProbeFailed(f"the answer's finish_reason is {finish_reason!r}, not stop or length")


PROBES: tuple[Probe, ...] = (
    Probe("container-alive", _alive, vital=True),
    Probe("ready", _ready, vital=True),
    Probe("models", _models),
    Probe("completion", _completion),
    Probe("greedy-text", _greedy),
    Probe("chat", _chat),
    Probe("stream", _stream),
)
