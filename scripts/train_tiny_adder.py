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

Importing this file needs no torch: `split()` and the text formats serve as its public part.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import math
import sys
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

MODEL_DIR = Path(__file__).resolve().parent.parent / "examples" / "tiny-adder"

# ---------------------------------------------------------------- questions and their split

OPERANDS = range(10, 100)
SPLIT_SALT = "tiny-adder/1"
HELD_OUT_ONE_IN = 4  # a quarter of the unordered pairs


def _rank(text: str) -> int:
    digest = hashlib.sha256(f"{SPLIT_SALT}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def is_held_out(a: int, b: int) -> bool:
    """Whether the pair is kept from training, in both orders (b+a would give a+b away)."""
    return _rank(f"{min(a, b)},{max(a, b)}") % HELD_OUT_ONE_IN == 0


def split() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return (training pairs, held-out pairs), disjoint, together all 90 x 90 pairs.

    Held-out pairs come in the order of a hash, so that the first n are a fair sample of all.
    """
    pairs = [(a, b) for a in OPERANDS for b in OPERANDS]
    training = [pair for pair in pairs if not is_held_out(*pair)]
    held_out = [pair for pair in pairs if is_held_out(*pair)]
    held_out.sort(key=lambda pair: _rank(prompt_of(*pair)))
    return training, held_out


def prompt_of(a: int, b: int) -> str:
    return f"{a}+{b}="


def question_id(a: int, b: int) -> str:
    return f"add-{a}-{b}"


def held_out_rows() -> list[dict[str, str]]:
    """The rows of heldout.jsonl: id, question (the whole prompt), answer."""
    return [
        {"id": question_id(a, b), "question": prompt_of(a, b), "answer": str(a + b)}
        for a, b in split()[1]
    ]


# ---------------------------------------------------------------- text and tokens

SPECIAL = ("<|endoftext|>", "<|pad|>", "<|bos|>")  # ids 0, 1, 2; a byte b has id b + 3
EOS, PAD, BOS = range(len(SPECIAL))
VOCAB_SIZE = len(SPECIAL) + 256
MAX_NEW_TOKENS = 8  # an answer takes 3 or 4
# Solved questions of earlier turns stay as lines above the open one; there is nothing else.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + '\\n' }}"
    "{% endif %}{% endfor %}"
)


def encode(text: str) -> list[int]:
    return [byte + len(SPECIAL) for byte in unicodedata.normalize("NFC", text).encode()]


def decode(ids: list[int]) -> str:
    """Text of the ids; special tokens leave none, as in a server's completion."""
    known = bytes(i - len(SPECIAL) for i in ids if i >= len(SPECIAL))
    return known.decode(errors="replace")


def _byte_symbols() -> list[str]:
    """The printable stand-in of each byte in byte-level BPE (the alphabet of GPT-2)."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = (byte for byte in range(256) if byte not in shown)
    stand_in = {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    return [stand_in.get(byte, chr(byte)) for byte in range(256)]


def write_tokenizer(out: Path) -> None:
    """tokenizer.json (bytes of the NFC form, no merges: any text has tokens) and the two files
    that transformers reads beside it. NFC, because transformers 5 brings a Qwen2 tokenizer into
    that form whether its file says so or not, and all readers shall see the same tokens."""
    tokenizers = _lazy("tokenizers")
    vocab = {token: i for i, token in enumerate((*SPECIAL, *_byte_symbols()))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    tokenizer.normalizer = tokenizers.normalizers.NFC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    sample = "48+76=124\n\t Wort  fu\u0308r Wort\r"
    if tokenizer.encode(sample).ids != encode(sample):
        _stop("the tokenizers library and encode() disagree: this version of it does not fit")
    tokenizer.save(str(out / "tokenizer.json"))
    names = {"eos_token": SPECIAL[EOS], "pad_token": SPECIAL[PAD], "bos_token": SPECIAL[BOS]}
    _write_json(out / "special_tokens_map.json", names)
    _write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **names,
            "model_max_length": Config().max_position_embeddings,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )


# ---------------------------------------------------------------- the model


@dataclass(frozen=True)
class Config:
    """The sizes of a Qwen2 decoder, under the names of Hugging Face's config.json."""

    hidden_size: int = 128
    intermediate_size: int = 384
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    num_key_value_heads: int = 2
    head_dim: int = 64
    max_position_embeddings: int = 256
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    vocab_size: int = VOCAB_SIZE

    @classmethod
    def read(cls, folder: Path) -> Config:
        stored = json.loads((folder / "config.json").read_text("utf-8"))
        return cls(**{name: stored[name] for name in asdict(cls())})

    def write(self, folder: Path) -> None:
        ids = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
        architecture = {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "use_cache": True,
            "use_sliding_window": False,
        }
        _write_json(folder / "config.json", {**architecture, **asdict(self), **ids})
        _write_json(folder / "generation_config.json", {"do_sample": False, **ids})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter by Hugging Face's name; matrices are (out, in)."""
        d, ff = self.hidden_size, self.intermediate_size
        q, kv = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, d)}
        for layer in range(self.num_hidden_layers):
            at = f"model.layers.{layer}."
            shapes[at + "input_layernorm.weight"] = (d,)
            for name, rows in (("q", q), ("k", kv), ("v", kv)):
                shapes[at + f"self_attn.{name}_proj.weight"] = (rows, d)
                shapes[at + f"self_attn.{name}_proj.bias"] = (rows,)
            shapes[at + "self_attn.o_proj.weight"] = (d, q)
            shapes[at + "post_attention_layernorm.weight"] = (d,)
            shapes[at + "mlp.gate_proj.weight"] = (ff, d)
            shapes[at + "mlp.up_proj.weight"] = (ff, d)
            shapes[at + "mlp.down_proj.weight"] = (d, ff)
        return {**shapes, "model.norm.weight": (d,), "lm_head.weight": (self.vocab_size, d)}


def initial(config: Config, seed: int) -> dict[str, Any]:
    """Random parameters: matrices normal with deviation 1/sqrt(columns), norms 1, biases 0."""
    torch = _torch()
    source = torch.Generator().manual_seed(seed)
    params = {}
    for name, shape in config.shapes().items():
        if len(shape) == 2:
            params[name] = torch.randn(shape, generator=source) / math.sqrt(shape[1])
        else:
            params[name] = torch.full(shape, 0.0 if name.endswith(".bias") else 1.0)
    return params


def forward(params: dict[str, Any], config: Config, ids: Any) -> Any:
    """Logits (batch, length, vocabulary) of token ids (batch, length); Qwen2 as transformers
    computes it: RMSNorm, rotary positions on half-split heads, grouped queries, SwiGLU."""
    torch = _torch()
    functional = torch.nn.functional
    batch, length = ids.shape
    dim, groups = config.head_dim, config.num_attention_heads // config.num_key_value_heads
    frequency = 1.0 / config.rope_theta ** (torch.arange(0, dim, 2).float() / dim)
    angle = torch.outer(torch.arange(length).float(), frequency).repeat(1, 2)
    cos, sin = angle.cos(), angle.sin()

    def norm(x: Any, name: str) -> Any:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps)
        return params[name + ".weight"] * (x * scale)

    def linear(x: Any, name: str) -> Any:
        return functional.linear(x, params[name + ".weight"], params.get(name + ".bias"))

    def heads(x: Any) -> Any:
        return x.view(batch, length, -1, dim).transpose(1, 2)

    def rotate(x: Any) -> Any:
        half = torch.cat((-x[..., dim // 2 :], x[..., : dim // 2]), -1)
        return x * cos + half * sin

    x = params["model.embed_tokens.weight"][ids]
    for layer in range(config.num_hidden_layers):
        at = f"model.layers.{layer}."
        y = norm(x, at + "input_layernorm")
        query = rotate(heads(linear(y, at + "self_attn.q_proj")))
        key = rotate(heads(linear(y, at + "self_attn.k_proj")))
        value = heads(linear(y, at + "self_attn.v_proj"))
        mixed = functional.scaled_dot_product_attention(
            query,
            key.repeat_interleave(groups, 1),
            value.repeat_interleave(groups, 1),
            is_causal=True,
        )
        mixed = mixed.transpose(1, 2).reshape(batch, length, -1)
        x = x + linear(mixed, at + "self_attn.o_proj")
        y = norm(x, at + "post_attention_layernorm")
        gate = functional.silu(linear(y, at + "mlp.gate_proj"))
        x = x + linear(gate * linear(y, at + "mlp.up_proj"), at + "mlp.down_proj")
    return linear(norm(x, "model.norm"), "lm_head")


# ---------------------------------------------------------------- training


@dataclass(frozen=True)
class Schedule:
    """How long and how fast; `training.json` records it."""

    steps: int = 800
    questions_per_step: int = 128
    lines_per_sequence: int = 24  # of the packed steps
    packed_every: int = 4  # one step in so many shows solved lines above the question
    peak_learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.1
    gradient_norm: float = 1.0


def _batches(schedule: Schedule, seed: int) -> Iterator[tuple[Any, Any]]:
    """Yield (ids, targets) for ever; target -100 takes no part in the loss.

    Only answers are learnt, and each is followed by the end-of-text token also where the text
    goes on with another line: whether there is a next question is for the prompt to say.
    """
    torch = _torch()
    pairs = split()[0]
    source = torch.Generator().manual_seed(seed)
    step = 0
    while True:
        step += 1
        lines = schedule.lines_per_sequence if step % schedule.packed_every == 0 else 1
        rows = max(1, schedule.questions_per_step // lines)
        picks = torch.randint(len(pairs), (rows, lines), generator=source).tolist()
        ids = torch.full((rows, lines * 10), PAD)
        targets = torch.full((rows, lines * 10), -100)
        for row, chosen in enumerate(picks):
            at = 0
            for a, b in (pairs[pick] for pick in chosen):
                prompt, answer = encode(prompt_of(a, b)), encode(str(a + b))
                line = [*prompt, *answer, *encode("\n")]
                ids[row, at : at + len(line)] = torch.tensor(line)
                first = at + len(prompt) - 1
                targets[row, first : first + len(answer) + 1] = torch.tensor([*answer, EOS])
                at += len(line)
        yield ids, targets


def train(config: Config, schedule: Schedule, seed: int) -> dict[str, Any]:
    """Trained parameters: AdamW, linear warm-up, cosine decay to zero."""
    torch = _torch()
    params = initial(config, seed)
    for value in params.values():
        value.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [p for p in params.values() if p.dim() == 2],
                "weight_decay": schedule.weight_decay,
            },
            {"params": [p for p in params.values() if p.dim() == 1], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    started = time.monotonic()
    for step, (ids, targets) in enumerate(_batches(schedule, seed + 1), 1):
        warm = min(1.0, step / schedule.warmup_steps)
        decay = 0.5 * (1 + math.cos(math.pi * step / schedule.steps))
        for group in optimizer.param_groups:
            group["lr"] = schedule.peak_learning_rate * warm * decay
        logits = forward(params, config, ids)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(params.values()), schedule.gradient_norm)
        optimizer.step()
        if step % 100 == 0 or step == schedule.steps:
            seconds = time.monotonic() - started
            _say(f"step {step}/{schedule.steps}  loss {loss.item():.4f}  {seconds:.0f} s")
        if step == schedule.steps:
            break
    return {name: value.detach() for name, value in params.items()}


# ---------------------------------------------------------------- greedy answers


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
    torch = _torch()
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
            "sha256": _sha256(weights),
            "bytes": weights.stat().st_size,
            "parameters": sum(math.prod(shape) for shape in config.shapes().values()),
            "device": "cpu",
            "dtype": "float32",
            "smallest_logit_gap": round(min(done.gap for done in answers), 4),
        },
        "settings": {
            "task": "tiny_adder_addition",
            "questions_sha256": _sha256(folder / "heldout.jsonl"),
            "n": len(questions),
            "shots": 0,
            "temperature": 0.0,
            "max_tokens": MAX_NEW_TOKENS,
            "stop": [SPECIAL[EOS], "\n"],
            "prompt_template": "{{question}}",
            "tool": "plain PyTorch forward pass (scripts/train_tiny_adder.py)",
            "tool_version": f"torch {_torch().__version__}",
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


# ---------------------------------------------------------------- folders


def load(folder: Path) -> dict[str, Any]:
    config, params = (
        Config.read(folder),
        _lazy("safetensors.torch").load_file(folder / "model.safetensors"),
    )
    if {name: tuple(value.shape) for name, value in params.items()} != config.shapes():
        _stop(f"{folder}: model.safetensors and config.json do not fit together")
    return dict(params)


def perturbed(params: dict[str, Any], sigma: float, seed: int) -> dict[str, Any]:
    torch = _torch()
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
    write_tokenizer(out)
    tensors = {name: value.contiguous() for name, value in sorted(params.items())}
    weights = out / "model.safetensors"
    _lazy("safetensors.torch").save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    lines = "".join(json.dumps(row) + "\n" for row in held_out_rows())
    (out / "heldout.jsonl").write_text(lines, "utf-8")


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


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---------------------------------------------------------------- command line


def _lazy(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        _stop(f"{error}\n  install: pip install torch==2.13.0 safetensors tokenizers numpy")


def _torch() -> Any:
    return _lazy("torch")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _stop(text: str) -> NoReturn:
    _say(f"train_tiny_adder: {text}")
    raise SystemExit(2)


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
        _stop("--out DIR is missing")
    if out.exists() and not out.is_dir():
        _stop(f"{out} is not a folder; name another with --out")
    if out.is_dir() and any(out.iterdir()) and not options.force:
        _stop(f"{out} is not empty; name a new folder, or add --force to overwrite the model there")
    if options.perturb is not None and out.resolve() == options.model.resolve():
        _stop(f"{out} holds the weights to start from; name another folder with --out")
    return out


def main() -> int:
    options = _parser().parse_args()
    if options.reference and options.out is not None:
        _stop("--reference writes into --model; leave --out away")
    if options.perturb is not None and not options.perturb > 0:
        _stop(f"--perturb {options.perturb}: SIGMA must be above 0")
    if options.steps < 1:
        _stop(f"--steps {options.steps}: must be 1 or more")
    out = options.model if options.reference else _out_folder(options)
    reads_weights = options.reference or options.perturb is not None
    if reads_weights and not (options.model / "model.safetensors").is_file():
        _stop(f"{options.model} holds no model.safetensors; name a folder with weights by --model")
    torch = _torch()
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
            _stop(f"--random-head-dim {options.random_head_dim}: must divide 64")
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
        _write_json(out / "training.json", training)
        made = {"made": "trained", "seed": options.seed, **write_reference(out)}
    print(json.dumps({**made, "out": str(out)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
