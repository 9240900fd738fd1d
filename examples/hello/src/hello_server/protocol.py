"""OpenAI request bodies in, response bodies out: plain data, no sockets."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hello_server.model import Generated, Model, PromptTooLong

_numbers = itertools.count(1)


class BadRequest(Exception):
    """The request cannot be answered; ``status`` is the HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status

    def body(self) -> dict[str, Any]:
        kind = "NotFoundError" if self.status == 404 else "BadRequestError"
        return {"error": {"message": str(self), "type": kind, "param": None, "code": self.status}}


@dataclass(frozen=True)
class Request:
    """A checked completion or chat request."""

    chat: bool
    prompts: tuple[str, ...]
    max_tokens: int
    stop: list[str]
    stream: bool
    include_usage: bool


def parse(body: Any, *, chat: bool, served_name: str) -> Request:
    """Raises BadRequest for what this server does not know or cannot do."""
    if not isinstance(body, dict):
        raise BadRequest("the request body must be a JSON object")
    if body.get("model", served_name) != served_name:
        raise BadRequest(f"The model `{body['model']}` does not exist.", 404)
    for name, default in (("n", 1), ("best_of", 1), ("echo", False)):
        if body.get(name) not in (None, default):
            raise BadRequest(f"{name} other than {default} is not supported")
    key = "max_completion_tokens" if chat and "max_completion_tokens" in body else "max_tokens"
    max_tokens = body.get(key)
    max_tokens = 16 if max_tokens is None else max_tokens
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1:
        raise BadRequest(f"{key} must be a positive integer")
    stop = body.get("stop") or []
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or not all(isinstance(word, str) for word in stop):
        raise BadRequest("stop must be a string or a list of strings")
    prompts = (_chat_prompt(body.get("messages")),) if chat else _prompts(body.get("prompt"))
    options = body.get("stream_options") or {}
    return Request(
        chat=chat,
        prompts=prompts,
        max_tokens=max_tokens,
        stop=stop,
        stream=bool(body.get("stream")),
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
    )


def _prompts(value: Any) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(p, str) for p in found):
        raise BadRequest("prompt must be a string or a non-empty list of strings")
    return tuple(found)


def _chat_prompt(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a non-empty list")
    contents = [m.get("content") if isinstance(m, dict) else None for m in messages]
    if not all(isinstance(content, str) for content in contents):
        raise BadRequest("each message needs a role and a text as content")
    return "\n".join(contents)


class Reply:
    """The answers to one request, as one body or as a stream of bodies."""

    def __init__(self, model: Model, request: Request, served_name: str) -> None:
        self.request = request
        try:
            self.answers: list[Generated] = [
                model.generate(prompt, request.max_tokens, request.stop)
                for prompt in request.prompts
            ]
        except PromptTooLong as error:
            raise BadRequest(str(error)) from error
        prefix, kind = (
            ("chatcmpl", "chat.completion") if request.chat else ("cmpl", "text_completion")
        )
        self._kind = kind
        self._head = {
            "id": f"{prefix}-{next(_numbers)}",
            "created": int(time.time()),
            "model": served_name,
        }

    def whole(self) -> dict[str, Any]:
        choices = [
            self._choice(index, answer.finish_reason, message=answer.text)
            for index, answer in enumerate(self.answers)
        ]
        return {**self._head, "object": self._kind, "choices": choices, "usage": self._usage()}

    def events(self) -> Iterator[dict[str, Any]]:
        """The same answers piece by piece; the caller ends the stream with [DONE]."""
        kind = "chat.completion.chunk" if self.request.chat else self._kind
        usage = {"usage": None} if self.request.include_usage else {}
        for index, answer in enumerate(self.answers):
            for at, sign in enumerate(answer.text):
                last = at == len(answer.text) - 1
                finish = answer.finish_reason if last else None
                choice = self._choice(index, finish, delta=sign, first=at == 0)
                yield {**self._head, "object": kind, "choices": [choice], **usage}
            if not answer.text:
                choice = self._choice(index, answer.finish_reason, delta="", first=True)
                yield {**self._head, "object": kind, "choices": [choice], **usage}
        if self.request.include_usage:
            yield {**self._head, "object": kind, "choices": [], "usage": self._usage()}

    def _choice(
        self,
        index: int,
        finish: str | None,
        *,
        message: str | None = None,
        delta: str | None = None,
        first: bool = False,
    ) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "logprobs": None, "finish_reason": finish}
        text = message if message is not None else delta
        if not self.request.chat:
            choice["text"] = text
        elif message is not None:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["delta"] = {"role": "assistant", "content": text} if first else {"content": text}
        return choice

    def _usage(self) -> dict[str, int]:
        prompt = sum(answer.prompt_tokens for answer in self.answers)
        completion = sum(answer.completion_tokens for answer in self.answers)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
