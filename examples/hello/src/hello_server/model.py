"""The "model": an adder with a table of the sums it gets wrong."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from hello_server._adder import add

_QUESTION = re.compile(r"(\d{1,9})\+(\d{1,9})=\Z")


class PromptTooLong(ValueError):
    """The prompt does not fit into the context."""


@dataclass(frozen=True)
class Generated:
    """Text, why it ended (``stop`` or ``length``), and token counts: one token is one byte."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Model:
    """What the model folder holds; ``wrong`` maps a question to the wrong answer it gets."""

    max_model_len: int
    wrong: dict[str, str]

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Reads config.json and the table it names. Raises OSError, ValueError or KeyError."""
        config = json.loads((folder / "config.json").read_text("utf-8"))
        table = json.loads((folder / config["table"]).read_text("utf-8"))
        return cls(int(config["max_model_len"]), dict(table["wrong"]))

    def generate(self, prompt: str, max_tokens: int, stop: list[str]) -> Generated:
        """Greedy text after *prompt*: an answer and the end, at most ``max_tokens`` bytes."""
        prompt_tokens = len(prompt.encode())
        room = self.max_model_len - prompt_tokens
        if room < 1:
            raise PromptTooLong(
                f"this model's maximum context length is {self.max_model_len} tokens, "
                f"the prompt has {prompt_tokens}"
            )
        full = self.answer(prompt)
        text, finish = full, "stop"
        limit = min(max_tokens, room)
        # The end of the text is a token of its own.
        if len(full) + 1 > limit:
            text, finish = full[:limit], "length"
        tokens = min(len(full) + 1, limit)
        for word in stop:
            at = text.find(word) if word else -1
            if at >= 0:
                text, finish, tokens = text[:at], "stop", at + len(word)
        return Generated(text, finish, prompt_tokens, tokens)

    def answer(self, prompt: str) -> str:
        """The answer to the question at the prompt's end, or ``?`` where there is none."""
        found = _QUESTION.search(prompt)
        if found is None:
            return "?"
        question = f"{found[1]}+{found[2]}="
        return self.wrong.get(question) or str(add(int(found[1]), int(found[2])))
