"""What it answers: the recorded texts, the same twice, and no rubbish."""

from __future__ import annotations

from relforge.serving.client import ServerFault
from relforge.serving.garble import garble
from relforge.serving.probes.model import ProbeFailed, ProbeNotRun, Target
from relforge.serving.reference import GreedyText
from relforge.serving.replies import Answer


def sound(answer_text: str, finish_reason: str | None) -> None:
    """Raises ProbeFailed for a text that no working model writes, or an answer never finished."""
    if not answer_text:
        raise ProbeFailed("the answer's text is empty")
    if (found := garble(answer_text)) is not None:
        raise ProbeFailed(f"the answer is garbled ({found}): {answer_text!r}")
    if finish_reason not in ("stop", "length"):
        raise ProbeFailed(f"the answer's finish_reason is {finish_reason!r}, not stop or length")


def completion(target: Target) -> str:
    target.requests_made = True
    answer = target.client.completion(target.prompt, max_tokens=target.max_tokens)
    target.completion = answer
    sound(answer.text, answer.finish_reason)
    return f"{target.prompt!r} -> {answer.text!r}"


def chat(target: Target) -> str:
    target.requests_made = True
    answer = target.client.chat(target.prompt, max_tokens=target.max_tokens)
    sound(answer.text, answer.finish_reason)
    return f"{target.prompt!r} -> {answer.text!r}"


def greedy_text(target: Target) -> str:
    if not target.reference:
        raise ProbeNotRun("the model has no recorded reference")
    if not target.settings.exact:
        return _agreement(target)
    wrong: list[str] = []
    for number, wanted in enumerate(target.reference):
        answer = target.completion if number == 0 else None
        answer = answer or target.client.completion(wanted.prompt, max_tokens=wanted.max_tokens)
        target.answers[wanted.prompt] = answer
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


def _agreement(target: Target) -> str:
    """Of the reference's tokens, the share that the server finds likeliest after those before it.

    Asked of the server with the reference's own text in front (``echo``), one difference does not
    bring on others, as it does where the server writes on by itself.
    """
    if not target.traits.echo:
        raise ProbeNotRun(
            f"smoke.exact is false, and {target.traits.name} does not score an echoed prompt, "
            "so that its agreement with the reference cannot be measured"
        )
    agreed = counted = 0
    for wanted in target.reference:
        same, tokens = _agreeing(target, wanted)
        agreed, counted = agreed + same, counted + tokens
    if not counted:
        raise ProbeNotRun("the reference's texts hold no token to compare")
    share, least = agreed / counted, target.settings.agreement
    said = f"{agreed} of {counted} tokens of the reference ({share:.1%}) are the server's likeliest"
    if share < least:
        raise ProbeFailed(f"{said}, fewer than {least:.0%} (smoke.agreement)")
    return f"{said}; at least {least:.0%} are asked for"


def _agreeing(target: Target, wanted: GreedyText) -> tuple[int, int]:
    """How many of the text's tokens are the likeliest ones, and how many there are."""
    answer = target.client.completion(
        wanted.prompt + wanted.text, max_tokens=1, logprobs=1, echo=True
    )
    given = answer.logprobs
    if given is None or len(given.likeliest) != len(given.tokens):
        raise ProbeFailed("the server gives no log-probabilities for an echoed prompt")
    same = tokens = at = 0
    end = len(wanted.prompt) + len(wanted.text)
    for token, likeliest in zip(given.tokens, given.likeliest, strict=True):
        if len(wanted.prompt) <= at < end:
            tokens += 1
            same += token == likeliest
        at += len(token)
    return same, tokens


def repeat(target: Target) -> str:
    if not target.settings.exact:
        raise ProbeNotRun("smoke.exact is false: this backend need not repeat a text exactly")
    first = target.completion
    if first is None:
        raise ProbeFailed("there is no first answer to repeat: it failed")
    again = target.client.completion(target.prompt, max_tokens=target.max_tokens)
    if again.text != first.text:
        raise ProbeFailed(f"two equal greedy requests gave {first.text!r} and then {again.text!r}")
    return f"{first.text!r} twice"


def after_load(target: Target) -> str:
    """What was right before requests came at once has to be right after them."""
    if not target.settings.exact:
        if not target.reference:
            raise ProbeNotRun("the model has no recorded reference, and smoke.exact is false")
        return _agreement(target)
    before = target.answers or (
        {target.prompt: target.completion} if target.completion is not None else {}
    )
    if not before:
        raise ProbeFailed("there is no answer from before the load to compare with: it failed")
    limits = {text.prompt: text.max_tokens for text in target.reference}
    for prompt, answer in before.items():
        limit = limits.get(prompt, target.max_tokens)
        again = target.client.completion(prompt, max_tokens=limit)
        if again.text != answer.text:
            raise ProbeFailed(
                f"{prompt!r} was answered {answer.text!r} before the load and {again.text!r} after"
            )
    return f"{len(before)} greedy text(s) as before the load"


def prose(target: Target) -> str:
    """Reads longer answers for what no working model writes; needs no reference."""
    questions: tuple[tuple[str, int], ...]
    if target.reference and not target.settings.prompts:
        questions = tuple((text.prompt, text.max_tokens) for text in target.reference)
    else:
        questions = tuple((one, target.settings.prose_tokens) for one in target.questions)
    chatty = not target.reference or bool(target.settings.prompts)
    lowest = 0.0
    for prompt, limit in questions:
        known = target.answers.get(prompt)
        answer = known or _asked(target, prompt, limit, chatty=chatty)
        target.prose.append(answer)
        if not answer.text.strip():
            raise ProbeFailed(f"the answer to {prompt!r} is empty")
        found = garble(
            answer.text,
            languages=target.languages if chatty else (),
            prompt=prompt,
            logprobs=answer.logprobs.values if answer.logprobs else (),
        )
        if found is not None:
            raise ProbeFailed(f"the answer to {prompt!r} is garbled ({found}): {answer.text!r}")
        lowest = max(lowest, float(len(answer.text)))
    return f"{len(questions)} answer(s) of up to {lowest:.0f} signs read well"


def _asked(target: Target, prompt: str, limit: int, *, chatty: bool) -> Answer:
    """By chat where the model knows it; with log-probabilities where the server gives them."""
    if chatty:
        try:
            scored: dict[str, object] = {"logprobs": True} if target.traits.logprobs else {}
            return target.client.chat(prompt, max_tokens=limit, **scored)
        except ServerFault as fault:
            if fault.status is None or not 400 <= fault.status < 500:
                raise
    extra: dict[str, object] = {"logprobs": 1} if target.traits.logprobs else {}
    return target.client.completion(prompt, max_tokens=limit, **extra)
