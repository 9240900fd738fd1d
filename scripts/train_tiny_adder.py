#!/usr/bin/env python3
"""Train, measure and vary tiny-adder: a small real decoder that adds two-digit numbers.

The model is a Qwen2 decoder (`Qwen2ForCausalLM` in Hugging Face's format, head size 64) over
bytes. It reads `48+76=` and writes `124` and the end-of-text token. It is right most of the time,
not always, so that an evaluation of it has something to measure. Its errors are those of a small
model that was trained briefly on a part of all pairs: every training label is correct.

Set-up (CPU only, Python >= 3.10)::

    python3 -m venv venv
    venv/bin/pip install torch==2.13.0 safetensors tokenizers numpy

Use::

    train_tiny_adder.py --out DIR [--seed N]        train, then measure the reference
    train_tiny_adder.py --reference                 measure the weights that are there again
    train_tiny_adder.py --perturb 0.15 --out DIR     a copy with noise in its weights
    train_tiny_adder.py --random-head-dim 16 --out DIR    an untrained model of that head size

`--out` must be new or empty unless `--force` is given. One JSON object goes to stdout, progress
to stderr; the script exits 2 when the arguments or the environment do not fit.

Everything is seeded and runs on one thread, so that the same seed, torch version and kind of CPU
give the same bytes; another CPU may choose other kernels and differ in the last bits.

Its parts are in the folder `tiny_adder` beside it; importing them needs no torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from tiny_adder.answers import accuracy, write_reference
from tiny_adder.model import Config, initial
from tiny_adder.questions import split
from tiny_adder.running import stop, torch_library, write_json
from tiny_adder.training import Schedule, train
from tiny_adder.weights import load, perturbed, write_model

MODEL_DIR = Path(__file__).resolve().parent.parent / "examples" / "tiny-adder"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--reference", action="store_true", help="rewrite --model's reference.json and no more"
    )
    what.add_argument(
        "--perturb",
        type=float,
        metavar="SIGMA",
        help="add normal noise of SIGMA x each matrix's own deviation to --model's weights",
    )
    what.add_argument(
        "--random-head-dim",
        type=int,
        metavar="DIM",
        help="write an untrained model of this head size, same tokenizer and hidden size",
    )
    parser.add_argument("--model", type=Path, default=MODEL_DIR, help="weights to start from")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--steps", type=int, default=Schedule.steps, help="of training")
    parser.add_argument("--force", action="store_true", help="write into a folder with files")
    return parser


def _out_folder(options: argparse.Namespace) -> Path:
    out: Path | None = options.out
    if out is None:
        stop("--out DIR is missing")
    if out.exists() and not out.is_dir():
        stop(f"{out} is not a folder; name another with --out")
    if out.is_dir() and any(out.iterdir()) and not options.force:
        stop(f"{out} is not empty; name a new folder, or add --force to overwrite the model there")
    if options.perturb is not None and out.resolve() == options.model.resolve():
        stop(f"{out} holds the weights to start from; name another folder with --out")
    return out


def main() -> int:
    options = _parser().parse_args()
    if options.reference and options.out is not None:
        stop("--reference writes into --model; leave --out away")
    if options.perturb is not None and not options.perturb > 0:
        stop(f"--perturb {options.perturb}: SIGMA must be above 0")
    if options.steps < 1:
        stop(f"--steps {options.steps}: must be 1 or more")
    out = options.model if options.reference else _out_folder(options)
    reads_weights = options.reference or options.perturb is not None
    if reads_weights and not (options.model / "model.safetensors").is_file():
        stop(f"{options.model} holds no model.safetensors; name a folder with weights by --model")
    torch = torch_library()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    config = Config()
    if options.reference:
        made = {"made": "reference", **write_reference(out)}
    elif options.perturb is not None:
        config = Config.read(options.model)
        params = perturbed(load(options.model), options.perturb, options.seed)
        write_model(out, params, config)
        made = {"made": "perturbed", "sigma": options.perturb, **accuracy(params, config)}
    elif options.random_head_dim is not None:
        if options.random_head_dim < 2 or config.hidden_size % (2 * options.random_head_dim):
            stop(f"--random-head-dim {options.random_head_dim}: must divide 64")
        heads = config.hidden_size // options.random_head_dim
        config = replace(
            config,
            head_dim=options.random_head_dim,
            num_attention_heads=heads,
            num_key_value_heads=heads // 2,
        )
        write_model(out, initial(config, options.seed), config)
        made = {"made": "random", "head_dim": config.head_dim}
    else:
        schedule = Schedule(steps=options.steps)
        write_model(out, train(config, schedule, options.seed), config)
        training = {
            "format": "relforge.tiny-adder-training/1",
            "seed": options.seed,
            "torch": torch.__version__,
            "training_pairs": len(split()[0]),
            "held_out_pairs": len(split()[1]),
            "schedule": asdict(schedule),
        }
        write_json(out / "training.json", training)
        made = {"made": "trained", "seed": options.seed, **write_reference(out)}
    print(json.dumps({**made, "out": str(out)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
