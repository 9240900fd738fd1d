#!/usr/bin/env python3
"""Writes the model folder of hello, its held-out questions and its reference.

    make_model.py [DIR]        default: this file's folder

makes model/config.json, model/table.json, heldout.jsonl and reference.json. Everything is derived
from hashes, so the files are the same everywhere. The reference is computed here in plain Python,
apart from the server and its C++ part; its format is relforge.evaluation/1 with the greedy texts
that a smoke test compares.
"""

# ruff: noqa: T201 (a program: its result goes to stdout)
from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

TASK = "hello_addition"
SALT = "hello/1"
QUESTIONS = 500
WRONG_ONE_IN = 16
MAX_MODEL_LEN = 256
MAX_TOKENS = 8


def rank(text: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{SALT}:{text}".encode()).digest()[:8], "big")


def questions() -> list[tuple[int, int]]:
    """500 of the 8,100 two-digit pairs, in the order of a hash."""
    pairs = [(a, b) for a in range(10, 100) for b in range(10, 100)]
    return sorted(pairs, key=lambda pair: rank(f"{pair[0]}+{pair[1]}="))[:QUESTIONS]


def wrong_sums() -> dict[str, str]:
    """Of all pairs one in 16 gets a wrong answer: a ten too much, as a forgetful pupil would."""
    table = {}
    for a in range(10, 100):
        for b in range(10, 100):
            question = f"{a}+{b}="
            if rank("wrong:" + question) % WRONG_ONE_IN == 0:
                table[question] = str(a + b + 10)
    return table


def reference(wrong: dict[str, str], questions_file: bytes) -> dict[str, Any]:
    def text_of(question: str) -> str:
        a, b = question.rstrip("=").split("+")
        return wrong.get(question, str(int(a) + int(b)))

    rows: list[dict[str, Any]] = []
    for a, b in questions():
        question = f"{a}+{b}="
        answer, expected = text_of(question), str(a + b)
        rows.append(
            {
                "id": f"add-{a}-{b}",
                "question": question,
                "expected": expected,
                "answer": answer,
                "correct": answer == expected,
            }
        )
    right = [row["question"] for row in rows if row["correct"]]
    missed = [row["question"] for row in rows if not row["correct"]]
    correct = len(right)
    return {
        "format": "relforge.evaluation/1",
        "settings": {
            "task": TASK,
            "questions_sha256": hashlib.sha256(questions_file).hexdigest(),
            "n": len(rows),
            "shots": 0,
            "temperature": 0.0,
            "max_tokens": MAX_TOKENS,
            "stop": ["\n"],
            "prompt_template": "{{question}}",
            "tool": "plain Python (examples/hello/make_model.py)",
            "tool_version": "1",
        },
        "result": {
            "correct": correct,
            "n": len(rows),
            "accuracy": round(correct / len(rows), 6),
        },
        "greedy": [
            {
                "prompt": question,
                "max_tokens": MAX_TOKENS,
                "text": text_of(question),
                "finish_reason": "stop",
                "completion_tokens": len(text_of(question)) + 1,
            }
            for question in ["48+76=", *right[:3], *missed[:2]]
        ],
        "questions": rows,
    }


def as_json(value: dict[str, Any]) -> bytes:
    """One line for each item of a list or table, so that a change is a readable difference."""
    parts = []
    for key, item in value.items():
        if isinstance(item, list) and item:
            body = ",\n".join("    " + json.dumps(row) for row in item)
            parts.append(f"  {json.dumps(key)}: [\n{body}\n  ]")
        else:
            text = json.dumps(item, indent=2).replace("\n", "\n  ")
            parts.append(f"  {json.dumps(key)}: {text}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    (out / "model").mkdir(parents=True, exist_ok=True)
    wrong = wrong_sums()
    rows = [
        json.dumps({"id": f"add-{a}-{b}", "question": f"{a}+{b}=", "answer": str(a + b)})
        for a, b in questions()
    ]
    questions_file = ("\n".join(rows) + "\n").encode()
    found = reference(wrong, questions_file)
    config = {
        "architecture": "HelloAdder",
        "max_model_len": MAX_MODEL_LEN,
        "table": "table.json",
    }
    files = {
        "model/config.json": as_json(config),
        "model/table.json": as_json({"wrong": wrong}),
        "heldout.jsonl": questions_file,
        "reference.json": as_json(found),
    }
    for name, raw in files.items():
        (out / name).write_bytes(raw)
    hashes = {name: hashlib.sha256(raw).hexdigest() for name, raw in files.items()}
    print(json.dumps({"files": hashes, **found["result"]}, indent=2))


if __name__ == "__main__":
    main()
