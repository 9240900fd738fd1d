"""Options that take several values after one flag, as FlagScale's tools do."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def spread(words: Sequence[str], flags: Collection[str]) -> list[str]:
    """``--backend vllm FlagScale`` as ``--backend vllm --backend FlagScale``, for these flags."""
    result: list[str] = []
    flag: str | None = None
    taken = 0
    for number, word in enumerate(words):
        if word == "--":
            return [*result, *words[number:]]
        if word.startswith("-"):
            flag, taken = (word, 0) if word in flags else (None, 0)
            result.append(word)
            continue
        if flag is not None and taken:
            result.append(flag)
        taken += 1
        result.append(word)
    return result
