"""Recorded greedy texts: what a deterministic server must answer, word for word."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen


class GreedyText(Frozen):
    """One prompt and the text that greedy decoding gives for it, at most ``max_tokens`` long."""

    prompt: str
    max_tokens: int
    text: str
    finish_reason: str | None = None
    completion_tokens: int | None = None


class _Row(BaseModel):
    prompt: str
    max_tokens: int = Field(ge=1)
    text: str
    finish_reason: str | None = None
    completion_tokens: int | None = None


class _File(BaseModel):
    greedy: list[_Row] = Field(min_length=1)


def read_greedy_texts(path: Path) -> tuple[GreedyText, ...]:
    """The ``greedy`` list of a reference evidence file (JSON; its other fields are not read).

    Raises RelforgeError (USAGE) when the file is missing or has no such list.
    """
    try:
        found = _File.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise _bad(path, "the file does not exist") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _bad(path, f"{place}: {first['msg']}") from error
    except ValueError as error:
        raise _bad(path, str(error)) from error
    return tuple(GreedyText(**row.model_dump()) for row in found.greedy)


def _bad(path: Path, why: str) -> RelforgeError:
    return RelforgeError(
        "the reference file holds no greedy texts that smoke could compare with",
        code=ExitCode.USAGE,
        where=str(path),
        why=why,
        hint="record the reference again, or correct 'reference' in the model manifest",
    )
