"""The questions, and which of them are kept from training."""

from __future__ import annotations

import hashlib

OPERANDS = range(10, 100)
SPLIT_SALT = "tiny-adder/1"
HELD_OUT_ONE_IN = 4  # a quarter of the unordered pairs


def _rank(text: str) -> int:
    digest = hashlib.sha256(f"{SPLIT_SALT}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def is_held_out(a: int, b: int) -> bool:
    """Whether the pair is kept from training, in both orders (b+a would give a+b away)."""
    return _rank(f"{min(a, b)},{max(a, b)}") % HELD_OUT_ONE_IN == 0


def split() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return (training pairs, held-out pairs), disjoint, together all 90 x 90 pairs.

    Held-out pairs come in the order of a hash, so that the first n are a fair sample of all.
    """
    pairs = [(a, b) for a in OPERANDS for b in OPERANDS]
    training = [pair for pair in pairs if not is_held_out(*pair)]
    held_out = [pair for pair in pairs if is_held_out(*pair)]
    held_out.sort(key=lambda pair: _rank(prompt_of(*pair)))
    return training, held_out


def prompt_of(a: int, b: int) -> str:
    return f"{a}+{b}="


def question_id(a: int, b: int) -> str:
    return f"add-{a}-{b}"


def held_out_rows() -> list[dict[str, str]]:
    """The rows of heldout.jsonl: id, question (the whole prompt), answer."""
    return [
        {"id": question_id(a, b), "question": prompt_of(a, b), "answer": str(a + b)}
        for a, b in split()[1]
    ]
