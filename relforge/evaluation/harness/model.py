"""The served model as lm-eval sees it: lm-eval's own client, that keeps answers and is strict.

lm-eval's client takes an error object for an empty answer and knows nothing of reasons to finish;
here whatever is no answer ends the evaluation. Runs in the child process alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from relforge.evaluation.answers import Answer, AnswerLog, request_key

_ABORTED = ("abort", "error", "content_filter")
_TOKENIZE_AT_MOST = 200_000


class ServerFaultError(Exception):
    """The server answered with something that is no answer."""


class UnsupportedError(Exception):
    """The server cannot be asked in this way at all."""


class Text(str):
    """An answer that knows why it ended."""

    finish: str | None = None


class _Hook:
    """What lm-eval's client calls with each answer as it comes."""

    def __init__(self, log: AnswerLog) -> None:
        self._log = log

    def add_partial(self, method: str, request: Sequence[Any], result: Any) -> None:
        self._log.add(request_key(method, request), Answer(result, getattr(result, "finish", None)))


def model(
    *,
    url: str,
    chat: bool,
    name: str,
    concurrency: int,
    timeout_s: float,
    seed: int,
    log: AnswerLog,
    tokenize: bool,
) -> Any:
    """lm-eval's client for an endpoint. ``tokenize``: log-likelihoods will be asked for."""
    registry = importlib.import_module("lm_eval.api.registry")
    importlib.import_module("lm_eval.models.openai_completions")
    base = registry.get_model("local-chat-completions" if chat else "local-completions")
    made = _strict(base, chat)(
        model=name,
        base_url=url,
        tokenizer_backend=None,
        num_concurrent=concurrency,
        timeout=timeout_s,
        max_retries=3,
        seed=seed,
        batch_size=1,
    )
    made.cache_hook = _Hook(log)
    made.log = log
    if tokenize:
        if chat:
            raise UnsupportedError(
                "a chat endpoint gives no log-likelihoods of a prompt: ask with completions"
            )
        made.use_server_tokens()
    return made


def _strict(base: Any, chat: bool) -> Any:
    class Strict(base):  # type: ignore[misc]
        log: AnswerLog

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
            ask = super().generate_until
            return self._answered(
                "generate_until",
                requests,
                lambda left: ask(left, disable_tqdm=disable_tqdm),
                text_of,
            )

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
            ask = super().loglikelihood
            return self._answered(
                "loglikelihood",
                requests,
                lambda left: ask(left, disable_tqdm=disable_tqdm),
                lambda answer: (float(answer.value[0]), bool(answer.value[1])),
            )

        def _answered(
            self,
            method: str,
            requests: list[Any],
            ask: Callable[[list[Any]], list[Any]],
            read: Callable[[Answer], Any],
        ) -> list[Any]:
            kept = [self.log.take(request_key(method, one.args)) for one in requests]
            left = [one for one, answer in zip(requests, kept, strict=True) if answer is None]
            new = iter(ask(left) if left else ())
            return [next(new) if answer is None else read(answer) for answer in kept]

        def parse_generations(self, outputs: Any, **_: Any) -> list[Text]:
            texts = []
            for out in outputs if isinstance(outputs, list) else [outputs]:
                finish = finish_of(out, chat)
                (text,) = super().parse_generations([out])
                texts.append(text_of(Answer(text or "", finish)))
            return texts

        def parse_logprobs(self, outputs: Any, **words: Any) -> Any:
            for out in outputs if isinstance(outputs, list) else [outputs]:
                _refuse_errors(out)
            try:
                return super().parse_logprobs(outputs, **words)
            except (KeyError, TypeError, AssertionError) as error:
                raise ServerFaultError(f"log-likelihoods of another form: {error!r}") from error

        # ------------------------------------------------ tokens as the server makes them

        def use_server_tokens(self) -> None:
            self._tokens: dict[str, list[int]] = {}
            self._tokenizer_url = self.base_url.removesuffix("/v1/completions") + "/tokenize"
            self.tokenizer, self.tokenizer_backend = self, "server"
            self.tokenized_requests = True
            self._probe()

        def tok_encode(self, string: str, **_: Any) -> Any:
            if getattr(self, "_tokenizer_url", None) is None:
                return super().tok_encode(string)
            found = self._tokens.get(string)
            if found is None:
                if len(self._tokens) > _TOKENIZE_AT_MOST:
                    self._tokens.clear()
                found = self._tokens[string] = self._tokenize(string)
            return list(found)

        @property
        def eot_token_id(self) -> Any:
            raise UnsupportedError("a task with an empty context cannot be asked of a server")

        prefix_token_id = eot_token_id

        def _tokenize(self, text: str) -> list[int]:
            requests = importlib.import_module("requests")
            asked = {"model": self.model, "prompt": text, "add_special_tokens": False}
            answer = requests.post(self._tokenizer_url, json=asked, timeout=self.timeout)
            tokens = answer.json().get("tokens") if answer.ok else None
            if not isinstance(tokens, list):
                raise UnsupportedError(
                    f"the server gives no tokens at {self._tokenizer_url} (status "
                    f"{answer.status_code}), which log-likelihoods need"
                )
            return tokens

        def _probe(self) -> None:
            """Raises UnsupportedError where prompts come back without log-probabilities."""
            requests = importlib.import_module("requests")
            tokens = self._tokenize("1 2 3")
            payload = self._create_payload([tokens], generate=False, seed=self._seed)
            answer = requests.post(self.base_url, json=payload, timeout=self.timeout)
            try:
                (choice,) = answer.json()["choices"]
                given = choice["logprobs"]["token_logprobs"]
                tops = choice["logprobs"]["top_logprobs"]
                fits = len(given) == len(tops) == len(tokens) + 1
            except (ValueError, KeyError, TypeError):
                fits = False
            if not fits:
                raise UnsupportedError(
                    "the server gives no log-probabilities of a prompt (echo and logprobs of "
                    f"/v1/completions; status {answer.status_code}): {answer.text[:300]}"
                )

    return Strict


def text_of(answer: Answer) -> Text:
    """An answer as lm-eval takes it."""
    made = Text(answer.value)
    made.finish = answer.finish
    return made


def _refuse_errors(out: Any) -> Any:
    """The one choice of an answer. Raises ServerFaultError for what is none."""
    if not isinstance(out, dict) or "error" in out or out.get("object") == "error":
        raise ServerFaultError(f"an error in place of an answer: {str(out)[:300]}")
    choices = out.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise ServerFaultError(f"an answer without its one choice: {str(out)[:300]}")
    return choices[0]


def finish_of(out: Any, chat: bool) -> str | None:
    """Why an answer ended, where it says so. Raises ServerFaultError for what is no answer.

    An empty text is an answer. So is the ``null`` of a chat whose tokens all went into thinking.
    """
    choice = _refuse_errors(out)
    finish = choice.get("finish_reason")
    if finish in _ABORTED:
        raise ServerFaultError(f"an answer that ended with {finish!r}: {str(out)[:300]}")
    message = choice.get("message") if chat else choice
    said = "content" if chat else "text"
    if not isinstance(message, dict) or not isinstance(message.get(said), str | None):
        raise ServerFaultError(f"an answer without a text: {str(out)[:300]}")
    if not chat and message.get(said) is None:
        raise ServerFaultError(f"an answer without a text: {str(out)[:300]}")
    return finish if isinstance(finish, str) else None
