"""Weights that got worse, the same everywhere: seeded noise on every matrix of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save


def perturb(weights: Path, *, noise: float, seed: int = 0) -> None:
    """Adds normal noise to each matrix of a safetensors file, ``noise`` times its own deviation."""
    random = np.random.default_rng(seed)
    tensors = load_file(weights)
    for name in sorted(tensors):
        tensor = tensors[name]
        if tensor.ndim == 2:
            drawn = random.standard_normal(tensor.shape, dtype=np.float32)
            tensors[name] = tensor + noise * tensor.std() * drawn
    # Into the file that is there: its owner and mode are what the server can read.
    weights.write_bytes(save(tensors, metadata={"format": "pt"}))
