"""Greedy answers, and the reference that is measured with them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_adder.model import Config, forward
from tiny_adder.questions import held_out_rows
from tiny_adder.running import sha256_of, stop, torch_library
from tiny_adder.tokens import EOS, MAX_NEW_TOKENS, SPECIAL, decode, encode
from tiny_adder.weights import load


@dataclass(frozen=True)
class Completion:
    """What a greedy server returns for a prompt; `gap` is the smallest difference between the
    best and the second logit on the way, so what rounding would have to reach to change it."""

    text: str
    finish_reason: str
    tokens: int
    gap: float

    @property
    def answer(self) -> str:
        return self.text.split("\n")[0]


def greedy(params: dict[str, Any], config: Config, prompts: list[str]) -> list[Completion]:
    """Greedy completions of prompts that all have the same length."""
    torch = torch_library()
    done: list[Completion] = []
    for start in range(0, len(prompts), 256):
        ids = torch.tensor([encode(prompt) for prompt in prompts[start : start + 256]])
        length, gaps = ids.shape[1], []
        with torch.no_grad():
            for _ in range(MAX_NEW_TOKENS):
                best = forward(params, config, ids)[:, -1].topk(2)
                gaps.append((best.values[:, 0] - best.values[:, 1]).tolist())
                ids = torch.cat((ids, best.indices[:, :1]), 1)
        for row, generated in enumerate(ids[:, length:].tolist()):
            stopped = EOS in generated
            used = generated.index(EOS) + 1 if stopped else len(generated)
            gap = min(step[row] for step in gaps[:used])
            reason = "stop" if stopped else "length"
            done.append(Completion(decode(generated[:used]), reason, used, gap))
    return done


def accuracy(params: dict[str, Any], config: Config) -> dict[str, Any]:
    rows = held_out_rows()
    answers = greedy(params, config, [row["question"] for row in rows])
    correct = sum(a.answer == row["answer"] for a, row in zip(answers, rows, strict=True))
    return {"correct": correct, "n": len(rows), "accuracy": round(correct / len(rows), 4)}


def reference(folder: Path) -> dict[str, Any]:
    """The reference of the weights in a folder, as reference.json holds it."""
    params, config = load(folder), Config.read(folder)
    rows = held_out_rows()
    answers = greedy(params, config, [row["question"] for row in rows])
    questions = [
        {
            "id": row["id"],
            "question": row["question"],
            "expected": row["answer"],
            "answer": done.answer,
            "correct": done.answer == row["answer"],
        }
        for row, done in zip(rows, answers, strict=True)
    ]
    correct = sum(bool(question["correct"]) for question in questions)
    weights = folder / "model.safetensors"
    return {
        "format": "relforge.evaluation/1",
        "model": {
            "name": "tiny-adder",
            "file": weights.name,
            "sha256": sha256_of(weights),
            "bytes": weights.stat().st_size,
            "parameters": sum(math.prod(shape) for shape in config.shapes().values()),
            "device": "cpu",
            "dtype": "float32",
            "smallest_logit_gap": round(min(done.gap for done in answers), 4),
        },
        "settings": {
            "task": "tiny_adder_addition",
            "questions_sha256": sha256_of(folder / "heldout.jsonl"),
            "n": len(questions),
            "shots": 0,
            "temperature": 0.0,
            "max_tokens": MAX_NEW_TOKENS,
            "stop": [SPECIAL[EOS], "\n"],
            "prompt_template": "{{question}}",
            "tool": "plain PyTorch forward pass (scripts/train_tiny_adder.py)",
            "tool_version": f"torch {torch_library().__version__}",
        },
        "result": {
            "correct": correct,
            "n": len(questions),
            "accuracy": round(correct / len(questions), 6),
        },
        "greedy": _smoke_texts(params, config, rows, answers),
        "questions": questions,
    }


def _line(row: dict[str, str]) -> str:
    return f"{row['question']}{row['answer']}\n"


def _smoke_texts(
    params: dict[str, Any],
    config: Config,
    rows: list[dict[str, str]],
    answers: list[Completion],
) -> list[dict[str, Any]]:
    """Eight prompts whose texts hold against rounding (logit gap above 0.5 all the way): the
    example of the docs, three right answers, two wrong ones (arithmetic alone cannot give
    those), and two questions with solved lines above them."""
    held = list(zip(rows, answers, strict=True))
    clear = [(row, done) for row, done in held if done.gap > 0.5]
    right = [row for row, done in clear if done.answer == row["answer"]]
    wrong = [row for row, done in clear if done.answer != row["answer"]]
    if len(right) < 4:
        stop(
            f"the model answers only {len(right)} questions right and clearly, and the reference "
            "needs four of them: train it longer (--steps)"
        )
    above = "".join(_line(row) for row in right[3:13])
    prompts = ["48+76=", *(row["question"] for row in [*right[:3], *wrong[:2]])]
    prompts += [_line(right[3]) + right[0]["question"], above + right[1]["question"]]
    texts = []
    for prompt in prompts:
        done = greedy(params, config, [prompt])[0]
        texts.append(
            {
                "prompt": prompt,
                "max_tokens": MAX_NEW_TOKENS,
                "text": done.text,
                "finish_reason": done.finish_reason,
                "completion_tokens": done.tokens,
                "smallest_logit_gap": round(done.gap, 2),
            }
        )
    return texts


def write_reference(folder: Path) -> dict[str, Any]:
    """Write reference.json (one line per question and per greedy text); return its result."""
    found = reference(folder)
    parts = []
    for key, value in found.items():
        if isinstance(value, list):
            body = ",\n".join("    " + json.dumps(item) for item in value)
            parts.append(f'  "{key}": [\n{body}\n  ]')
        else:
            parts.append(f'  "{key}": ' + json.dumps(value, indent=2).replace("\n", "\n  "))
    (folder / "reference.json").write_text("{\n" + ",\n".join(parts) + "\n}\n", "utf-8")
    return {"sha256": found["model"]["sha256"], **found["result"]}
