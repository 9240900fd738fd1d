"""The questions: texts of random tokens that the decoder reads and continues."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from relforge.coverage.probe.decoder import Decoder, Shape, SmallDecoder
from relforge.tuning.asking import BOTH, FRESH, SEARCH, Asked
from relforge.tuning.bare import lazy

PROMPT_TOKENS = 64
DECODE_STEPS = 4
POSITIONS = PROMPT_TOKENS + DECODE_STEPS
LEVELS = 3
_TEXTS = 4
"""Of each half, at level 0; each further level asks twice as many."""


def numbers(asked: Asked) -> Iterator[tuple[int, int]]:
    """The texts of a set of questions: half and number."""
    for part in (SEARCH, FRESH) if asked.part == BOTH else (asked.part,):
        for number in range(_TEXTS * 2**asked.level):
            yield part, number


def small_decoder(*, seed: int, attention: str, dtype: Any, device: Any) -> SmallDecoder:
    """The decoder of the operator coverage; all texts have the same shapes."""
    return SmallDecoder(
        Shape(), seed=seed, length=POSITIONS, attention=attention, dtype=dtype, device=device
    )


class Texts:
    """Native torch's texts and which of its tokens are right, made when first asked for."""

    def __init__(self, decoder: Decoder, exact: Decoder, seed: int, device: Any) -> None:
        self.decoder, self.exact, self.seed, self.device = decoder, exact, seed, device
        self.vocabulary = int(decoder.about["shape"]["vocabulary"])
        self.known: dict[tuple[int, int], tuple[Any, Any, list[bool]]] = {}

    def prompt(self, part: int, number: int) -> Any:
        torch = lazy("torch")
        source = torch.Generator().manual_seed(self.seed + 1_000_003 * (part + 1) + number)
        made = torch.randint(self.vocabulary, (1, PROMPT_TOKENS), generator=source)
        return made.to(self.device)

    def of(self, part: int, number: int) -> tuple[Any, Any, list[bool]]:
        """The whole text, shape (1, POSITIONS), the best tokens in float32, and whether native
        torch's best tokens are those; one for each position. Only while FlagGems is off."""
        if (part, number) not in self.known:
            torch = lazy("torch")
            prompt = self.prompt(part, number)
            logits, text = [], prompt
            self.decoder.start()
            logits.append(self.decoder.step(prompt, 0))
            for _ in range(DECODE_STEPS):
                token = logits[-1][-1:].argmax(-1, keepdim=True)
                text = torch.cat((text, token), 1)
                logits.append(self.decoder.step(token, text.shape[1] - 1))
            native = torch.cat(logits).argmax(-1)
            right = self.read(self.exact, text)
            self.known[part, number] = text, right, (native == right).tolist()
        return self.known[part, number]

    def read(self, decoder: Decoder, text: Any) -> Any:
        """The best next tokens, shape (POSITIONS,), of a decoder that reads *text* in steps."""
        torch = lazy("torch")
        decoder.start()
        logits = [decoder.step(text[:, :PROMPT_TOKENS], 0)]
        for place in range(PROMPT_TOKENS, text.shape[1]):
            logits.append(decoder.step(text[:, place : place + 1], place))
        return torch.cat(logits).argmax(-1)
