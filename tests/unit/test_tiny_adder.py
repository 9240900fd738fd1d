"""The committed model tiny-adder: its weights, questions and reference results fit together.

None of this needs torch: it reads the files and the training script's split rule.
"""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_adder.model import Config
from tiny_adder.questions import held_out_rows, split
from tiny_adder.tokens import EOS, decode, encode

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples" / "tiny-adder"
SCRIPT = ROOT / "scripts" / "train_tiny_adder.py"


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return read("reference.json")


@pytest.fixture(scope="module")
def held_out() -> list[dict[str, str]]:
    lines = (MODEL / "heldout.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read(name: str) -> dict[str, Any]:
    value = json.loads((MODEL / name).read_text("utf-8"))
    assert isinstance(value, dict)
    return value


def sha256(name: str) -> str:
    return hashlib.sha256((MODEL / name).read_bytes()).hexdigest()


def operands(question: str) -> tuple[int, int]:
    a, b = question.removesuffix("=").split("+")
    return int(a), int(b)


def tensors() -> dict[str, dict[str, Any]]:
    """The header of model.safetensors: 8 bytes of length (little endian), then JSON."""
    data = (MODEL / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    ends = [entry["data_offsets"][1] for entry in header.values()]
    assert 8 + length + max(ends) == len(data)
    return dict(header)


def test_reference_was_measured_on_these_weights_and_questions(reference: dict[str, Any]) -> None:
    assert reference["model"]["sha256"] == sha256("model.safetensors")
    assert reference["model"]["bytes"] == (MODEL / "model.safetensors").stat().st_size
    assert reference["settings"]["questions_sha256"] == sha256("heldout.jsonl")
    assert reference["settings"]["temperature"] == 0
    assert reference["model"]["dtype"] == "float32"


def test_accuracy_follows_from_the_outcomes_and_is_in_range(reference: dict[str, Any]) -> None:
    questions, result = reference["questions"], reference["result"]
    correct = sum(question["correct"] for question in questions)
    assert (result["correct"], result["n"]) == (correct, len(questions))
    assert reference["settings"]["n"] == len(questions)
    assert result["accuracy"] == pytest.approx(correct / len(questions), abs=1e-6)
    assert 0.85 <= correct / len(questions) <= 0.99


def test_every_outcome_agrees_with_arithmetic(reference: dict[str, Any]) -> None:
    for row in reference["questions"]:
        a, b = operands(row["question"])
        assert row["expected"] == str(a + b)
        assert row["correct"] is (row["answer"] == row["expected"])


def test_reference_covers_exactly_the_held_out_questions(
    reference: dict[str, Any], held_out: list[dict[str, str]]
) -> None:
    ids = [row["id"] for row in held_out]
    assert len(ids) == len(set(ids)) >= 1500
    measured = [(row["id"], row["question"], row["expected"]) for row in reference["questions"]]
    assert measured == [(row["id"], row["question"], row["answer"]) for row in held_out]


def test_no_held_out_pair_was_trained_on_in_either_order(held_out: list[dict[str, str]]) -> None:
    training, kept = split()
    trained = set(training)
    assert len(training) + len(kept) == 90 * 90
    for row in held_out:
        a, b = operands(row["question"])
        assert (a, b) not in trained
        assert (b, a) not in trained
    assert held_out == held_out_rows()


def test_first_questions_are_a_fair_sample(reference: dict[str, Any]) -> None:
    """An evaluation that takes the first 500 must not meet easier questions than the rest."""
    questions, result = reference["questions"], reference["result"]
    first = sum(question["correct"] for question in questions[:500]) / 500
    assert first == pytest.approx(result["accuracy"], abs=0.03)


def test_weights_are_a_float32_decoder_of_head_size_64() -> None:
    config, found = read("config.json"), tensors()
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["hidden_size"] // config["num_attention_heads"] == config["head_dim"] == 64
    assert {entry["dtype"] for entry in found.values()} == {"F32"}
    rows = found["model.layers.0.self_attn.q_proj.weight"]["shape"][0]
    assert rows == config["num_attention_heads"] * 64
    shapes = {name: tuple(entry["shape"]) for name, entry in found.items()}
    assert shapes == Config.read(MODEL).shapes()


def test_tokenizer_has_the_ids_that_the_model_was_trained_with() -> None:
    vocab = read("tokenizer.json")["model"]["vocab"]
    config, special = read("config.json"), read("special_tokens_map.json")
    assert sorted(vocab.values()) == list(range(config["vocab_size"]))
    assert [vocab[symbol] for symbol in "48+76="] == encode("48+76=")
    for name in ("eos", "pad", "bos"):
        assert vocab[special[f"{name}_token"]] == config[f"{name}_token_id"]
        assert read("generation_config.json")[f"{name}_token_id"] == config[f"{name}_token_id"]
    text = "12+34=46\n für 数"
    assert decode([*encode(text), EOS]) == text


def test_greedy_texts_fit_the_outcomes(reference: dict[str, Any]) -> None:
    answers = {row["question"]: row["answer"] for row in reference["questions"]}
    texts = reference["greedy"]
    assert len(texts) == 8
    for row in texts:
        assert row["finish_reason"] == "stop"
        assert row["completion_tokens"] == len(row["text"]) + 1 <= row["max_tokens"]
        assert row["text"] == answers.get(row["prompt"], row["text"])
        assert row["smallest_logit_gap"] >= 0.5
    wrong = [
        row
        for row in texts
        if row["prompt"] in answers and int(row["text"]) != sum(operands(row["prompt"]))
    ]
    assert wrong, "texts that arithmetic alone would give do not show that the model answered"


def test_readme_quotes_the_reference(reference: dict[str, Any]) -> None:
    readme = (MODEL / "README.md").read_text("utf-8")
    result, model = reference["result"], reference["model"]
    share = f"{100 * result['correct'] / result['n']:.2f} %"
    assert f"{result['correct']:,} of {result['n']:,} ({share})" in readme
    assert f"{model['parameters']:,} parameters" in readme
    assert "license: apache-2.0" in readme


def test_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file()) < 6_000_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--out DIR is missing"),
        (["--out", str(MODEL)], "--force"),
        (["--perturb", "0", "--out", "new"], "above 0"),
        (["--perturb", "0.1", "--out", str(MODEL), "--force"], "weights to start from"),
        (["--reference", "--model", "nowhere"], "no model.safetensors"),
    ],
)
def test_script_refuses_before_it_writes(arguments: list[str], said: str, tmp_path: Path) -> None:
    before = sha256("model.safetensors")
    done = subprocess.run(
        [sys.executable, "-Es", str(SCRIPT), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
    assert sha256("model.safetensors") == before
