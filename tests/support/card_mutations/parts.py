"""Parts of clean cards that mutations look for."""

from __future__ import annotations

import re
from collections.abc import Callable

MUTATIONS = ()

Change = Callable[[str], str | None]
RESULTS = re.compile(
    r"^\|[^\n]*(?:Task|Metrics|Benchmark|任务)[^\n]*\n\|[-| :]+\n(?:\|[^\n]*\n)+", re.M
)
"""The table of results."""
SERVES = re.compile(r"docker run[\s\S]*(?:vllm serve|launch\.py)")
"""A card that starts a model server in a container."""
OF_A_MODEL = re.compile(r"\Abase_model:|^base_model:", re.M)


def where(pattern: str | re.Pattern[str], change: Change) -> Change:
    """*change*, in cards that match."""
    found = re.compile(pattern, re.M) if isinstance(pattern, str) else pattern
    return lambda text: change(text) if found.search(text) else None


def unless(pattern: str, change: Change) -> Change:
    """*change*, in cards that do not match."""
    return lambda text: None if re.search(pattern, text, re.M | re.I) else change(text)


def both(*changes: Change) -> Change:
    """One change after the other; None when one of them finds no place."""

    def change(text: str) -> str | None:
        done: str | None = text
        for step in changes:
            done = step(done) if done is not None else None
        return done

    return change


def without_column(header: str) -> Change:
    """Takes columns out of the results."""

    def change(text: str) -> str | None:
        table = RESULTS.search(text)
        if table is None:
            return None
        rows = [row.strip("| ").split("|") for row in table[0].rstrip("\n").split("\n")]
        kept = [i for i, cell in enumerate(rows[0]) if not re.search(header, cell, re.I)]
        if len(kept) == len(rows[0]):
            return None
        lines = ["| " + " | ".join(row[i].strip() for i in kept) + " |" for row in rows]
        return text[: table.start()] + "\n".join(lines) + "\n" + text[table.end() :]

    return change


def with_column(header: str, cell: str) -> Change:
    """Adds a column to the results."""

    def change(text: str) -> str | None:
        table = RESULTS.search(text)
        if table is None:
            return None
        first, rule, *rows = table[0].rstrip("\n").split("\n")
        lines = [f"{first} {header} |", f"{rule}---|", *(f"{row} {cell} |" for row in rows)]
        return text[: table.start()] + "\n".join(lines) + "\n" + text[table.end() :]

    return change


def without_paragraphs(pattern: str) -> Change:
    """Takes out paragraphs of running text that match; always finds a place."""

    def change(text: str) -> str | None:
        pieces = re.split(r"(```[\s\S]*?```)", text)
        for index in range(0, len(pieces), 2):
            blocks = pieces[index].split("\n\n")
            kept = [b for b in blocks if b.lstrip()[:1] in "|#" or not re.search(pattern, b, re.I)]
            pieces[index] = "\n\n".join(kept)
        return "".join(pieces)

    return change


def to_docker_run(options: str) -> Change:
    """Adds options to the first start of a container."""
    return lambda text: (
        text.replace("docker run -d", f"docker run -d {options}", 1)
        if "docker run -d" in text
        else None
    )


def block(language: str, code: str) -> str:
    """A fenced block."""
    return f"```{language}\n{code}\n```\n"
