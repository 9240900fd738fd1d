"""A client of an OpenAI-compatible server that says plainly what is wrong with an answer."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.serving.replies import Answer, GivenUp, Logprobs, Streamed, Usage
from relforge.serving.wire import (
    ChatBody,
    ChatLogprobsBody,
    CompletionBody,
    LogprobsBody,
    ModelBody,
    ModelsBody,
    StreamBody,
    UsageBody,
    VersionBody,
    sse_data,
)

if TYPE_CHECKING:
    import requests

FaultKind = Literal["unreachable", "timeout", "status", "not-json", "schema", "server-error"]
_CONNECT_TIMEOUT_S = 3.05
_SHOWN_CHARS = 300


class ServerFault(RelforgeError):
    """The server gave no answer, or one that is none. ``status`` is the HTTP status, if any."""

    def __init__(self, kind: FaultKind, what: str, *, where: str, status: int | None = None):
        super().__init__(what, code=ExitCode.GATE, where=where)
        self.kind: FaultKind = kind
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_fault, (self.kind, self.what, self.where, self.status)


def _rebuild_fault(kind: FaultKind, what: str, where: str, status: int | None) -> ServerFault:
    return ServerFault(kind, what, where=where, status=status)


_Body = TypeVar("_Body", bound=BaseModel)


class OpenAIClient:
    """Talks to one server. Every request has a limit on its whole time, not on silence alone."""

    def __init__(self, base_url: str, model: str, *, timeout_s: float = 60.0) -> None:
        import requests

        self.base_url = base_url.rstrip("/")
        self.model = model
        self.timeout_s = timeout_s
        self.busy_s = 0.0
        """Seconds in which a request was under way."""
        self._session = requests.Session()
        # A proxy from the environment has no business between us and a server on this host.
        self._session.trust_env = False

    def __enter__(self) -> OpenAIClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    def get(self, path: str, *, timeout_s: float | None = None) -> bytes:
        """The body of a 200 answer. Raises ServerFault."""
        return self._whole("GET", path, None, timeout_s)

    def models(self) -> tuple[ModelBody, ...]:
        """What /v1/models names. Raises ServerFault."""
        return tuple(self._parsed(ModelsBody, "/v1/models", self.get("/v1/models")).data)

    def version(self, path: str) -> str:
        """The version that the server says it has. Raises ServerFault."""
        return self._parsed(VersionBody, path, self.get(path)).version

    def metrics(self, path: str = "/metrics") -> dict[str, float]:
        """Prometheus samples by name, summed over their labels. Raises ServerFault."""
        from prometheus_client.parser import text_string_to_metric_families

        text = self.get(path).decode("utf-8", "replace")
        found: dict[str, float] = {}
        try:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    found[sample.name] = found.get(sample.name, 0.0) + sample.value
        except ValueError as error:
            raise ServerFault(
                "schema",
                f"the metrics are not Prometheus text: {error}",
                where=self.base_url + path,
            ) from error
        return found

    def post_raw(self, path: str, body: bytes) -> None:
        """Sends *body* as it is, as JSON. Raises ServerFault for every status but 200."""
        for _ in self._chunks("POST", path, body, None):
            pass

    def completion(self, prompt: str, *, max_tokens: int, **extra: object) -> Answer:
        """A greedy completion (temperature 0, overridable). Raises ServerFault."""
        path = "/v1/completions"
        payload = self._payload(max_tokens, extra) | {"prompt": prompt}
        started = time.monotonic()
        body = self._parsed(CompletionBody, path, self._whole("POST", path, payload))
        choice = body.choices[0]
        return Answer(
            text=choice.text,
            finish_reason=choice.finish_reason,
            usage=_usage(body.usage),
            seconds=time.monotonic() - started,
            logprobs=_logprobs(choice.logprobs),
        )

    def chat(self, prompt: str, *, max_tokens: int, **extra: object) -> Answer:
        """A greedy answer to one user message. Raises ServerFault."""
        path = "/v1/chat/completions"
        messages = [{"role": "user", "content": prompt}]
        payload = self._payload(max_tokens, extra) | {"messages": messages}
        started = time.monotonic()
        body = self._parsed(ChatBody, path, self._whole("POST", path, payload))
        choice = body.choices[0]
        return Answer(
            text=choice.message.text,
            finish_reason=choice.finish_reason,
            usage=_usage(body.usage),
            seconds=time.monotonic() - started,
            logprobs=_chat_logprobs(choice.logprobs),
        )

    def stream(self, prompt: str, *, max_tokens: int, **extra: object) -> Streamed:
        """A greedy completion, streamed, with usage asked for. Raises ServerFault."""
        path = "/v1/completions"
        payload = self._payload(max_tokens, extra) | {
            "prompt": prompt,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return self._collect(path, payload)

    def give_up(self, prompt: str, *, max_tokens: int, pieces: int, **extra: object) -> GivenUp:
        """Begins a streamed greedy completion and hangs up after some pieces. Raises ServerFault.

        Raises ServerFault too when the stream ends before.
        """
        path = "/v1/completions"
        payload = self._payload(max_tokens, extra) | {"prompt": prompt, "stream": True}
        got = 0
        chunks = self._chunks("POST", path, payload, None)
        try:
            for data in sse_data(chunks):
                if data == "[DONE]":
                    break
                event = self._parsed(StreamBody, path, data.encode())
                got += any(choice.text for choice in event.choices)
                if got >= pieces:
                    return GivenUp(pieces=got, max_tokens=max_tokens)
        finally:
            chunks.close()
        raise ServerFault(
            "schema",
            f"the stream ended after {got} pieces, before it could be given up",
            where=self.base_url + path,
        )

    def _collect(self, path: str, payload: Mapping[str, object]) -> Streamed:
        texts: list[str] = []
        faults: list[str] = []
        finish: str | None = None
        usage: Usage | None = None
        first: float | None = None
        done = False
        started = time.monotonic()
        for data in sse_data(self._chunks("POST", path, payload, None)):
            if done:
                faults.append(f"an event after [DONE]: {_shown(data)}")
            elif data == "[DONE]":
                done = True
            else:
                event = self._parsed(StreamBody, path, data.encode())
                usage = _usage(event.usage) or usage
                for choice in event.choices:
                    if choice.text and finish is not None:
                        faults.append(f"text after the finish reason: {choice.text!r}")
                    if choice.text:
                        first = first if first is not None else time.monotonic() - started
                        texts.append(choice.text)
                    finish = choice.finish_reason or finish
        return Streamed(
            text="".join(texts),
            pieces=len(texts),
            finish_reason=finish,
            usage=usage,
            seconds=time.monotonic() - started,
            first_token_s=first,
            done=done,
            order_faults=tuple(faults),
        )

    def _payload(self, max_tokens: int, extra: Mapping[str, object]) -> dict[str, object]:
        return {"model": self.model, "max_tokens": max_tokens, "temperature": 0, **extra}

    def _whole(
        self,
        method: str,
        path: str,
        payload: Mapping[str, object] | None,
        timeout_s: float | None = None,
    ) -> bytes:
        return b"".join(self._chunks(method, path, payload, timeout_s))

    def _chunks(
        self,
        method: str,
        path: str,
        payload: Mapping[str, object] | bytes | None,
        timeout_s: float | None,
    ) -> Generator[bytes, None, None]:
        """The body's bytes as they come; raises ServerFault for any status but 200.

        The connection is closed when the generator is.
        """
        import requests

        limit_s = self.timeout_s if timeout_s is None else timeout_s
        began = time.monotonic()
        deadline = began + limit_s
        url = self.base_url + path
        late = ServerFault("timeout", f"no complete answer within {limit_s:g} s", where=url)
        try:
            with self._session.request(
                method,
                url,
                json=payload if isinstance(payload, Mapping) else None,
                data=payload if isinstance(payload, bytes) else None,
                headers={"Content-Type": "application/json"} if payload is not None else None,
                stream=True,
                timeout=(min(_CONNECT_TIMEOUT_S, limit_s), limit_s),
            ) as response:
                if response.status_code != 200:
                    raise _bad_status(response, url)
                for chunk in response.iter_content(chunk_size=None):
                    if time.monotonic() > deadline:
                        raise late
                    yield chunk
        except requests.Timeout as error:
            raise late from error
        except requests.RequestException as error:
            # A read time-out in mid-body comes as a ConnectionError.
            if time.monotonic() > deadline:
                raise late from error
            raise ServerFault(
                "unreachable", f"the connection failed: {_reason(error)}", where=url
            ) from error
        finally:
            self.busy_s += time.monotonic() - began

    def _parsed(self, shape: type[_Body], path: str, body: bytes) -> _Body:
        url = self.base_url + path
        try:
            value: Any = json.loads(body)
        except ValueError as error:
            shown = _shown(body.decode("utf-8", "replace"))
            raise ServerFault("not-json", f"the answer is no JSON: {shown}", where=url) from error
        if isinstance(value, dict) and value.get("error") and "choices" not in value:
            raise ServerFault(
                "server-error", f"the server reports an error: {_message(value)}", where=url
            )
        try:
            return shape.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the whole answer"
            raise ServerFault(
                "schema",
                f"the answer does not follow the OpenAI schema: {place}: {first['msg']}; "
                f"got {_shown(json.dumps(value, ensure_ascii=False))}",
                where=url,
            ) from error


def _usage(body: UsageBody | None) -> Usage | None:
    if body is None:
        return None
    return Usage(prompt_tokens=body.prompt_tokens, completion_tokens=body.completion_tokens)


def _logprobs(body: LogprobsBody | None) -> Logprobs | None:
    if body is None:
        return None
    top = body.top_logprobs or []
    return Logprobs(
        tokens=tuple(body.tokens),
        values=tuple(body.token_logprobs),
        likeliest=tuple(max(one, key=one.__getitem__) if one else None for one in top),
    )


def _chat_logprobs(body: ChatLogprobsBody | None) -> Logprobs | None:
    if body is None or not body.content:
        return None
    return Logprobs(
        tokens=tuple(one.token for one in body.content),
        values=tuple(one.logprob for one in body.content),
    )


def _bad_status(response: requests.Response, url: str) -> ServerFault:
    text = response.content.decode("utf-8", "replace")
    try:
        text = _message(json.loads(text))
    except ValueError:
        text = _shown(text)
    return ServerFault(
        "status",
        f"HTTP {response.status_code}: {text or 'empty body'}",
        where=url,
        status=response.status_code,
    )


def _message(value: object) -> str:
    """The words of an OpenAI error object, however deep the server put them."""
    for key in ("error", "message", "detail"):
        if isinstance(value, Mapping) and value.get(key):
            value = value[key]
    return _shown(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _reason(error: Exception) -> str:
    # requests wraps urllib3's error, which wraps the one that says something.
    inner: BaseException = error
    while inner.args and isinstance(inner.args[-1], BaseException):
        inner = inner.args[-1]
    reason = getattr(inner, "reason", None)
    return _shown(str(reason or inner) or type(inner).__name__)


def _shown(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + " ..."
