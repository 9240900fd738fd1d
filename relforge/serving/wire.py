"""The OpenAI bodies that a client reads, as far as it reads them, and server-sent events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import BaseModel, Field


class UsageBody(BaseModel):
    prompt_tokens: int
    completion_tokens: int = 0


class LogprobsBody(BaseModel):
    """Of a completion: one entry for each token, prompt included where it was echoed."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None = None


class ChoiceBody(BaseModel):
    text: str
    finish_reason: str | None = None
    logprobs: LogprobsBody | None = None


class CompletionBody(BaseModel):
    choices: list[ChoiceBody] = Field(min_length=1)
    usage: UsageBody | None = None


class MessageBody(BaseModel):
    content: str | None
    reasoning_content: str | None = None
    """What a reasoning model writes first; its answer may not have begun when the tokens end."""

    @property
    def text(self) -> str:
        return self.content or self.reasoning_content or ""


class ChatTokenBody(BaseModel):
    token: str
    logprob: float


class ChatLogprobsBody(BaseModel):
    content: list[ChatTokenBody] | None = None


class ChatChoiceBody(BaseModel):
    message: MessageBody
    finish_reason: str | None = None
    logprobs: ChatLogprobsBody | None = None


class ChatBody(BaseModel):
    choices: list[ChatChoiceBody] = Field(min_length=1)
    usage: UsageBody | None = None


class StreamBody(BaseModel):
    choices: list[ChoiceBody]
    usage: UsageBody | None = None


class ModelBody(BaseModel):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None
    """Tokens of prompt and answer together; vLLM and SGLang tell it."""


class ModelsBody(BaseModel):
    data: list[ModelBody]


class VersionBody(BaseModel):
    version: str


def sse_data(chunks: Iterable[bytes]) -> Iterator[str]:
    """The data of each server-sent event (HTML standard, 9.2.6), split anywhere into chunks.

    Comments and other fields are left out; an event that the end of the stream cuts off counts,
    so that its loss cannot hide an error.
    """
    rest = b""
    data: list[str] = []
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8", "replace")
            if not line and data:
                yield "\n".join(data)
                data = []
            elif line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
    if rest.startswith(b"data:"):
        data.append(rest[5:].strip().decode("utf-8", "replace"))
    if data:
        yield "\n".join(data)
