"""What all parts of the script share: libraries when they are needed, words, files."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any, NoReturn


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lazy(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        stop(f"{error}\n  install: pip install torch==2.13.0 safetensors tokenizers numpy")


def torch_library() -> Any:
    return lazy("torch")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def stop(text: str) -> NoReturn:
    say(f"train_tiny_adder: {text}")
    raise SystemExit(2)
