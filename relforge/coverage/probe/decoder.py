"""The models that the probe runs: a small one made from a seed, or that of a folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from relforge.coverage.probe import lazy


class Decoder(Protocol):
    """A model that reads tokens, shape (1, n), at a position and keeps what it has read."""

    @property
    def about(self) -> dict[str, Any]: ...

    def start(self) -> None: ...

    def step(self, tokens: Any, position: int) -> Any:
        """Logits, shape (n, vocabulary)."""

    def widen(self) -> None:
        """Computes in float32 from now on, with the weights rounded as they are."""


@dataclass(frozen=True)
class Shape:
    """The small decoder's sizes."""

    layers: int = 4
    hidden: int = 512
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 64
    intermediate: int = 1408
    vocabulary: int = 2048
    rope_theta: float = 10_000.0
    eps: float = 1e-6


class SmallDecoder:
    """Qwen2's decoder, computed as transformers does, with weights made from a seed.

    The cache has a fixed length, so that all steps have the same shapes: Triton tunes per shape.
    """

    def __init__(
        self, shape: Shape, *, seed: int, length: int, attention: str, dtype: Any, device: Any
    ) -> None:
        torch = lazy("torch")
        self.shape, self.attention, self.dtype, self.device = shape, attention, dtype, device
        source = torch.Generator().manual_seed(seed)

        def matrix(rows: int, columns: int, scale: float) -> Any:
            return (torch.randn(rows, columns, generator=source) * scale).to(device, dtype)

        queries, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        sizes = {
            "q": (queries, shape.hidden), "k": (kv, shape.hidden), "v": (kv, shape.hidden),
            "o": (shape.hidden, queries), "gate": (shape.intermediate, shape.hidden),
            "up": (shape.intermediate, shape.hidden), "down": (shape.hidden, shape.intermediate),
        }  # fmt: skip
        self.embedding = matrix(shape.vocabulary, shape.hidden, 1.0)
        self.head = matrix(shape.vocabulary, shape.hidden, shape.hidden**-0.5)
        self.norm = torch.ones(shape.hidden, device=device, dtype=dtype)
        self.layers = [
            {name: matrix(*size, size[1] ** -0.5) for name, size in sizes.items()}
            | {f"{name}.bias": matrix(1, sizes[name][0], 0.1)[0] for name in ("q", "k", "v")}
            for _ in range(shape.layers)
        ]
        exponent = torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
        self.frequency = (1.0 / shape.rope_theta**exponent).to(device)
        self.positions = torch.arange(length, device=device)
        self.caches: list[tuple[Any, Any]] = []

    @property
    def about(self) -> dict[str, Any]:
        tensors = [self.embedding, self.head, self.norm]
        tensors += [weight for layer in self.layers for weight in layer.values()]
        return {
            "name": "small decoder of Qwen2's shape, random weights",
            "parameters": sum(tensor.numel() for tensor in tensors),
            "shape": asdict(self.shape),
        }

    def widen(self) -> None:
        self.dtype = lazy("torch").float32
        self.embedding, self.head, self.norm = (
            tensor.float() for tensor in (self.embedding, self.head, self.norm)
        )
        self.layers = [{n: weight.float() for n, weight in layer.items()} for layer in self.layers]

    def start(self) -> None:
        torch = lazy("torch")
        size = (1, self.shape.kv_heads, len(self.positions), self.shape.head_dim)
        made = {"dtype": self.dtype, "device": self.device}
        self.caches = [(torch.zeros(size, **made), torch.zeros(size, **made)) for _ in self.layers]

    def step(self, tokens: Any, position: int) -> Any:
        torch = lazy("torch")
        functional = torch.nn.functional
        at = self.positions[position : position + tokens.shape[1]]
        angle = at[:, None].float() * self.frequency[None, :]
        angle = torch.cat((angle, angle), -1)
        turn = (angle.cos().to(self.dtype), angle.sin().to(self.dtype))
        allowed = self.positions[None, :] <= at[:, None]
        x = functional.embedding(tokens, self.embedding)
        for layer, cache in zip(self.layers, self.caches, strict=True):
            x = x + self._attend(layer, self._normed(x), cache, at, turn, allowed)
            h = self._normed(x)
            gate = functional.silu(functional.linear(h, layer["gate"]))
            x = x + functional.linear(gate * functional.linear(h, layer["up"]), layer["down"])
        return functional.linear(self._normed(x), self.head)[0]

    def _normed(self, x: Any) -> Any:
        wide = x.float()
        wide = wide * (wide.pow(2).mean(-1, keepdim=True) + self.shape.eps).rsqrt()
        return self.norm * wide.to(self.dtype)

    def _attend(
        self, layer: Any, x: Any, cache: tuple[Any, Any], at: Any, turn: Any, allowed: Any
    ) -> Any:
        torch = lazy("torch")
        shape, functional = self.shape, torch.nn.functional

        def heads(name: str) -> Any:
            y = functional.linear(x, layer[name], layer[f"{name}.bias"])
            return y.view(1, x.shape[1], -1, shape.head_dim).transpose(1, 2)

        def turned(y: Any) -> Any:
            half = shape.head_dim // 2
            return y * turn[0] + torch.cat((-y[..., half:], y[..., :half]), -1) * turn[1]

        q = turned(heads("q"))
        for stored, new in zip(cache, (turned(heads("k")), heads("v")), strict=True):
            stored.index_copy_(2, at, new)
        k, v = (
            stored[:, :, None]
            .expand(-1, -1, shape.heads // shape.kv_heads, -1, -1)
            .reshape(1, shape.heads, -1, shape.head_dim)
            for stored in cache
        )
        if self.attention == "sdpa":
            y = functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        else:
            scores = torch.matmul(q, k.transpose(2, 3)) * shape.head_dim**-0.5
            scores = scores.masked_fill(~allowed, torch.finfo(self.dtype).min)
            y = torch.matmul(scores.float().softmax(-1).to(self.dtype), v)
        return functional.linear(y.transpose(1, 2).reshape(1, x.shape[1], -1), layer["o"])


class FolderDecoder:
    """The model of a local folder, through transformers."""

    def __init__(self, folder: Path, *, attention: str, dtype: Any, device: Any) -> None:
        transformers = lazy("transformers")
        self.name = folder.resolve().name
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=dtype, attn_implementation=attention
        )
        self.model.to(device).eval()
        self.past: Any = None

    @property
    def about(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "parameters": sum(tensor.numel() for tensor in self.model.parameters()),
            "shape": {"vocabulary": int(self.model.config.vocab_size)},
        }

    def widen(self) -> None:
        self.model.float()

    def start(self) -> None:
        self.past = None

    def step(self, tokens: Any, position: int) -> Any:  # noqa: ARG002 - its cache knows
        done = self.model(input_ids=tokens, past_key_values=self.past, use_cache=True)
        self.past = done.past_key_values
        return done.logits[0]


def generate(decoder: Decoder, prompt: Any, count: int, follow: Any = None) -> tuple[Any, Any]:
    """Greedy tokens, lists of (1, 1) and of logits. ``follow``: tokens to read instead of those."""
    decoder.start()
    logits = [decoder.step(prompt, 0)]
    tokens = [logits[-1][-1:].argmax(-1, keepdim=True)]
    while len(tokens) < count:
        read = tokens[-1] if follow is None else follow[len(tokens) - 1]
        logits.append(decoder.step(read, prompt.shape[1] + len(tokens) - 1))
        tokens.append(logits[-1][-1:].argmax(-1, keepdim=True))
    return tokens, logits
