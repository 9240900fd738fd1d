"""Training: pairs in batches, on one thread."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tiny_adder.model import Config, forward, initial
from tiny_adder.questions import prompt_of, split
from tiny_adder.running import say, torch_library
from tiny_adder.tokens import EOS, PAD, encode


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
    torch = torch_library()
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
    torch = torch_library()
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
            say(f"step {step}/{schedule.steps}  loss {loss.item():.4f}  {seconds:.0f} s")
        if step == schedule.steps:
            break
    return {name: value.detach() for name, value in params.items()}
