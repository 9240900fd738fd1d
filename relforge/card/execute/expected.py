"""What a card says that a command prints, and whether it did."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

ANYTHING = ("...", "…")
"""In expected output: whatever stands there."""
_SHOWN_CHARACTERS = 400


@dataclass(frozen=True)
class Expected:
    """``text`` as the card has it; ``line``: where.

    ``span``: it is quoted in a sentence, so that the output may have more lines than this.
    """

    text: str
    line: int
    is_json: bool = False
    span: bool = False
    contains: bool = False


def difference(expected: Expected, printed: str) -> str | None:
    """Why what was printed is not what the card says; None when it is."""
    if expected.is_json:
        return _json_difference(expected, printed)
    wanted = _trimmed(expected.text)
    # What a model wrote is the answer; the rest of the object has times and ids.
    answer = answer_text(printed)
    got = _trimmed(printed if answer is None else answer)
    if expected.contains:
        same = wanted in got
    elif any(line.strip() in ANYTHING for line in wanted.split("\n")):
        same = _with_gaps(wanted).fullmatch(got) is not None
    else:
        same = wanted == got
        if not same and answer is None and expected.span:
            same = wanted in [line.strip() for line in got.split("\n")]
    if same:
        return None
    where = "the text of the answer" if answer is not None else "the output"
    return f"{where} is {shortened(got)!r}, the card says {shortened(wanted)!r}"


def answer_text(printed: str) -> str | None:
    """The text that a model wrote, of a completion or chat answer (OpenAI's API), streamed or not.

    None when it is no such answer.
    """
    whole = loaded(printed)
    if isinstance(whole, dict):
        return _choice_text(whole)
    pieces = [
        loaded(line.partition("data:")[2])
        for line in printed.splitlines()
        if line.startswith("data:") and line.partition("data:")[2].strip() != "[DONE]"
    ]
    texts = [_choice_text(piece) for piece in pieces if isinstance(piece, dict)]
    known = [text for text in texts if text is not None]
    return "".join(known) if known else None


def refusal(printed: str) -> str | None:
    """What the server complained of, when the output is an error object of OpenAI's API."""
    whole = loaded(printed)
    if not isinstance(whole, dict):
        return None
    error = whole.get("error")
    if isinstance(error, dict):
        return str(error.get("message") or error)
    if isinstance(error, str) and error:
        return error
    if whole.get("object") == "error" or isinstance(whole.get("detail"), (str, list)):
        return str(whole.get("message") or whole.get("detail"))
    return None


def loaded(printed: str) -> Any:
    """The JSON value that was printed: all of it, or else its last line that is an object."""
    try:
        return json.loads(printed)
    except ValueError:
        pass
    for line in reversed(printed.splitlines()):
        if line.strip().startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                continue
    return None


def subset_difference(wanted: Any, got: Any, at: str = "$") -> str | None:
    """Where *got* lacks something of *wanted* (a path as in JSONPath), or None.

    An object may have more members; a list has as many. ``"..."`` stands for any value, and at the
    end of a list for any more.
    """
    if wanted in ANYTHING:
        return None
    if isinstance(wanted, dict):
        if not isinstance(got, dict):
            return f"{at} is {_short(got)}, no object"
        for key, value in wanted.items():
            if key in ANYTHING:
                continue
            if key not in got:
                return f"{at} has no {key!r}"
            found = subset_difference(value, got[key], f"{at}.{key}")
            if found:
                return found
        return None
    if isinstance(wanted, list):
        return _list_difference(wanted, got, at)
    same = isinstance(wanted, bool) is isinstance(got, bool)
    if same and wanted == got:
        return None
    return f"{at} is {_short(got)}, the card says {_short(wanted)}"


def shortened(text: str) -> str:
    """Long output, cut in the middle."""
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    half = _SHOWN_CHARACTERS // 2
    return f"{text[:half]} […] {text[-half:]}"


def _list_difference(wanted: list[Any], got: Any, at: str) -> str | None:
    if not isinstance(got, list):
        return f"{at} is {_short(got)}, no list"
    more = bool(wanted) and wanted[-1] in ANYTHING
    if more:
        wanted = wanted[:-1]
    if len(got) < len(wanted) or (len(got) > len(wanted) and not more):
        return f"{at} has {len(got)} items, the card says {len(wanted)}"
    for index, (one, other) in enumerate(zip(wanted, got, strict=False)):
        found = subset_difference(one, other, f"{at}[{index}]")
        if found:
            return found
    return None


def _json_difference(expected: Expected, printed: str) -> str | None:
    try:
        wanted = json.loads(expected.text)
    except ValueError as error:
        return f"what the card expects (line {expected.line}) is no JSON: {error}"
    got = loaded(printed)
    if got is None:
        return f"the output is no JSON: {shortened(_trimmed(printed))!r}"
    return subset_difference(wanted, got)


def _choice_text(answer: dict[str, Any]) -> str | None:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    choice = choices[0]
    if isinstance(choice.get("text"), str):
        return str(choice["text"])
    for part in ("message", "delta"):
        if isinstance(choice.get(part), dict):
            content = choice[part].get("content")
            return content if isinstance(content, str) else ""
    return None


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").split("\n")).strip()


def _with_gaps(wanted: str) -> re.Pattern[str]:
    lines = [
        r"(?:.*\n)*?.*" if line.strip() in ANYTHING else re.escape(line)
        for line in wanted.split("\n")
    ]
    return re.compile(r"\n".join(lines))


def _short(value: Any) -> str:
    return shortened(json.dumps(value, ensure_ascii=False))
