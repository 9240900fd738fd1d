"""The model: a Qwen2 decoder in plain PyTorch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tiny_adder.running import torch_library, write_json
from tiny_adder.tokens import BOS, EOS, PAD, VOCAB_SIZE


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
        write_json(folder / "config.json", {**architecture, **asdict(self), **ids})
        write_json(folder / "generation_config.json", {"do_sample": False, **ids})

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
    torch = torch_library()
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
    torch = torch_library()
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
