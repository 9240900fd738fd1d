"""Rubbish in a model's answer, found without a reference.

A broken kernel, a wrong tokenizer or mangled weights leave marks that no working model does: bytes
that are no text, pieces of the tokenizer, one thing over and over, scripts that nobody asked for,
words without vowels, or a text that the model itself finds unlikely. Every rule is tuned to stay
silent on real prose, code, tables and numbers; what it misses, a recorded reference finds.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

_LONGEST_READ = 4000
_LAYOUT = frozenset(" \t\r\n-=_*#~.|+:·─━═│┃…")
_ONE_SIGN = re.compile(r"([^\w\s])\1{3,}")
_TOKENIZER = re.compile(r"[ĠĊ▁](?=\w)|<unk>|<pad>|<0x[0-9A-Fa-f]{2}>|<\|[a-z_]+\|>|\[(?:UNK|PAD)\]")
_MOJIBAKE = re.compile(r"Ã[\u00a0-\u00bf]|Â[\u00a0-\u00bf]|â€|ðŸ|ï¼|ã€|Ð[\u00b0-\u00bf]")
_WORD = re.compile(r"[^\W\d_]{3,}")
_VOWELS = frozenset("aeiouy")

_LEAST_LOOP_CHARS = 40
_LEAST_LOOPS = 4
_LEAST_COMPRESSED_BYTES = 160
_LEAST_DENSITY = 0.12
_LEAST_LETTERS = 48
_LEAST_LETTER_BITS = 2.2
_LEAST_TOKENS = 12
_MOST_SURPRISE_NATS = 3.0
_LEAST_WORDS = 15
_MOST_VOWELLESS = 0.4
_MOST_UNASKED = 0.3
_MOST_UNKNOWN = 0.1
_LEAST_FOREIGN_LETTERS = 4

# Latin is in code and names of every language, Greek in formulas.
_EVERYWHERE = frozenset({"LATIN", "GREEK"})
_SCRIPTS: dict[str, frozenset[str]] = {
    "zh": frozenset({"CJK"}),
    "ja": frozenset({"CJK", "HIRAGANA", "KATAKANA"}),
    "ko": frozenset({"HANGUL", "CJK"}),
    **dict.fromkeys(("ru", "uk", "bg", "sr", "kk"), frozenset({"CYRILLIC"})),
    **dict.fromkeys(("ar", "fa", "ur"), frozenset({"ARABIC"})),
    **dict.fromkeys(("hi", "mr", "ne"), frozenset({"DEVANAGARI"})),
    "he": frozenset({"HEBREW"}),
    "th": frozenset({"THAI"}),
}


def garble(
    text: str,
    *,
    languages: Sequence[str] = (),
    prompt: str = "",
    logprobs: Iterable[float | None] = (),
) -> str | None:
    """What is wrong with *text* as an answer to *prompt*, in a few words; None: nothing is found.

    ``languages`` are the model's (BCP 47 tags); without them scripts are not judged. ``logprobs``
    are the natural log-probabilities of the answer's tokens, where the server gives them.
    """
    text = text[:_LONGEST_READ]
    rules: tuple[Callable[[], str | None], ...] = (
        lambda: _invalid(text),
        lambda: _tokenizer(text),
        lambda: _repetition(text),
        lambda: _few_letters(text),
        lambda: _drift(text, prompt, languages),
        lambda: _no_words(text),
        lambda: _surprised(logprobs),
    )
    return next((found for rule in rules if (found := rule()) is not None), None)


def _invalid(text: str) -> str | None:
    kinds = Counter(unicodedata.category(sign) for sign in text if sign not in "\t\n\r\f")
    if "\ufffd" in text or kinds["Cc"] or kinds["Cs"]:
        return "invalid or control characters"
    unknown = kinds["Co"] + kinds["Cn"]  # newer emoji are unknown to an older Python
    if unknown >= 3 and unknown > len(text) / 20:
        return f"{unknown} characters that Unicode does not assign"
    return None


def _tokenizer(text: str) -> str | None:
    pieces = _TOKENIZER.findall(text)
    if len(pieces) >= 2:
        return f"pieces of the tokenizer, such as {pieces[0]!r}"
    if len(_MOJIBAKE.findall(text)) >= 2:
        return "UTF-8 that was read as another encoding"
    return None


def _repetition(text: str) -> str | None:
    bare = text.strip()
    if _ONE_SIGN.fullmatch(bare):
        return "one sign over and over"
    if (unit := _loop(bare)) is not None:
        return f"{unit[:40]!r} over and over"
    raw = bare.encode("utf-8", "replace")
    if len(raw) >= _LEAST_COMPRESSED_BYTES and not set(bare) <= _LAYOUT:
        density = (len(zlib.compress(raw, 9)) - 8) / len(raw)
        if density < _LEAST_DENSITY:
            return f"it repeats itself: it shrinks to {density:.0%}"
    return None


def _loop(text: str) -> str | None:
    """The unit that the end of the text repeats, when that is most of the text."""
    length = len(text)
    for period in range(1, length // _LEAST_LOOPS + 1):
        at = length - 1
        while at >= period and text[at] == text[at - period]:
            at -= 1
        covered = length - 1 - at + period
        unit = text[length - period :]
        if covered >= max(_LEAST_LOOP_CHARS, length / 2, _LEAST_LOOPS * period) and not (
            set(unit) <= _LAYOUT
        ):
            return unit
    return None


def _few_letters(text: str) -> str | None:
    """Shannon entropy of the letters; prose of an alphabet has about 4 bits."""
    letters = Counter(sign for sign in text.lower() if sign.isalpha())
    total = sum(letters.values())
    if total < _LEAST_LETTERS:
        return None
    bits = -sum(n / total * math.log2(n / total) for n in letters.values())
    if bits < _LEAST_LETTER_BITS:
        return f"{total} letters with {bits:.1f} bits each: hardly more than one of them"
    return None


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "?").split(" ")[0].split("-")[0]


def _scripts(text: str) -> Counter[str]:
    return Counter(_script(sign) for sign in text if sign.isalpha())


def _drift(text: str, prompt: str, languages: Sequence[str]) -> str | None:
    if not languages:
        return None
    found = _scripts(unicodedata.normalize("NFKC", text))
    total = sum(found.values())
    if total == 0:
        return None
    spoken = frozenset[str]().union(
        *(_SCRIPTS.get(tag.split("-")[0].lower(), frozenset()) for tag in languages)
    )
    known = _EVERYWHERE | spoken
    asked = _EVERYWHERE | set(_scripts(prompt))
    for limit, expected, what in (
        (_MOST_UNKNOWN, known, "none of the model's languages uses"),
        (_MOST_UNASKED, asked, "the question does not use"),
    ):
        foreign = {script: n for script, n in found.items() if script not in expected}
        count = sum(foreign.values())
        if count >= _LEAST_FOREIGN_LETTERS and count > limit * total:
            worst = max(foreign, key=foreign.__getitem__)
            return f"{count} of {total} letters in scripts that {what}, most {worst.title()}"
    return None


def _no_words(text: str) -> str | None:
    every = _WORD.findall(text.lower())
    words = [word for word in every if word.isascii()]
    if len(words) < 0.8 * len(every):
        return None  # names and options in prose of another script
    bare = sum(not _VOWELS & set(word) for word in words)
    if len(words) >= _LEAST_WORDS and bare > _MOST_VOWELLESS * len(words):
        return f"{bare} of {len(words)} words without a vowel"
    return None


def _surprised(logprobs: Iterable[float | None]) -> str | None:
    """Greedy text is what the model finds likeliest: 0.1 to 1 nat a token, when it works."""
    known = [value for value in logprobs if value is not None]
    if any(math.isnan(value) for value in known):
        return "log-probabilities that are no numbers"
    if len(known) < _LEAST_TOKENS:
        return None
    surprise = -sum(known) / len(known)
    if surprise > _MOST_SURPRISE_NATS:
        return f"the model itself finds it unlikely: {surprise:.1f} nats a token"
    return None
