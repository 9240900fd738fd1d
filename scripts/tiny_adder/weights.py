"""Folders of weights: read, with noise, written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_adder.model import Config
from tiny_adder.questions import held_out_rows
from tiny_adder.running import lazy, stop, torch_library
from tiny_adder.tokens import write_tokenizer


def load(folder: Path) -> dict[str, Any]:
    config, params = (
        Config.read(folder),
        lazy("safetensors.torch").load_file(folder / "model.safetensors"),
    )
    if {name: tuple(value.shape) for name, value in params.items()} != config.shapes():
        stop(f"{folder}: model.safetensors and config.json do not fit together")
    return dict(params)


def perturbed(params: dict[str, Any], sigma: float, seed: int) -> dict[str, Any]:
    torch = torch_library()
    source = torch.Generator().manual_seed(seed)
    noisy = {}
    for name, value in sorted(params.items()):
        if value.dim() == 2:
            value = value + sigma * value.std() * torch.randn(value.shape, generator=source)
        noisy[name] = value
    return noisy


def write_model(out: Path, params: dict[str, Any], config: Config) -> None:
    """Write weights, configuration, tokenizer and questions; drop what other weights measured."""
    out.mkdir(parents=True, exist_ok=True)
    for stale in ("reference.json", "training.json"):
        (out / stale).unlink(missing_ok=True)
    config.write(out)
    write_tokenizer(out, Config().max_position_embeddings)
    tensors = {name: value.contiguous() for name, value in sorted(params.items())}
    weights = out / "model.safetensors"
    lazy("safetensors.torch").save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    lines = "".join(json.dumps(row) + "\n" for row in held_out_rows())
    (out / "heldout.jsonl").write_text(lines, "utf-8")
