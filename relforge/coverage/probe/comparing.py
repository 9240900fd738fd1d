"""FlagGems against native torch: every operator on the same inputs, and the model end to end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from relforge.coverage.probe import lazy

_Sample = tuple[Any, Any, Any]
"""An operator with positional and named arguments."""


def is_tensor(value: Any) -> bool:
    return isinstance(value, lazy("torch").Tensor)


def copies(sample: _Sample) -> _Sample:
    """The same call on inputs of its own; strides, and tensors that share memory, stay so."""
    torch = lazy("torch")
    memory: dict[int, Any] = {}

    def copied(value: Any) -> Any:
        if is_tensor(value):
            storage = value.untyped_storage()
            if storage.data_ptr() not in memory:
                memory[storage.data_ptr()] = storage.clone()
            fresh = torch.empty(0, dtype=value.dtype, device=value.device)
            own = memory[storage.data_ptr()]
            return fresh.set_(own, value.storage_offset(), value.size(), value.stride())
        if isinstance(value, (list, tuple)):
            return type(value)(copied(part) for part in value)
        return value

    func, args, kwargs = sample
    return func, copied(args), {name: copied(value) for name, value in kwargs.items()}


def outcome(sample: _Sample) -> tuple[list[Any], str | None]:
    """The tensors that a call gives; those that it was given when it only writes into them."""
    func, args, kwargs = sample
    try:
        given = func(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - an operator that fails is a finding
        return [], f"{type(error).__name__}: {error}"
    return _tensors(given) or _tensors([args, kwargs]), None


def _tensors(value: Any) -> list[Any]:
    if is_tensor(value):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in _tensors(part)]
    return []


def difference(
    call: str, native: tuple[list[Any], str | None], gems: tuple[list[Any], str | None]
) -> dict[str, Any]:
    """A row of the evidence: how far FlagGems' result of a call is from torch's.

    The relative error is the largest absolute one over torch's largest value: element by element
    it says nothing where sums cancel out.
    """
    row: dict[str, Any] = {
        "call": call, "elements": 0, "equal_elements": 0, "max_abs_error": None,
        "relative_error": None, "non_finite_mismatches": 0, "error": None,
    }  # fmt: skip
    if native[1] or gems[1]:
        who = "native torch" if native[1] else "FlagGems"
        return {**row, "error": f"{who}: {native[1] or gems[1]}"}
    if len(native[0]) != len(gems[0]):
        return {**row, "error": f"{len(native[0])} results natively, {len(gems[0])} with FlagGems"}
    largest = error = 0.0
    for left, right in zip(native[0], gems[0], strict=True):
        if left.shape != right.shape or left.dtype != right.dtype:
            what = f"{left.dtype} {tuple(left.shape)} and {right.dtype} {tuple(right.shape)}"
            return {**row, "error": f"the results differ in kind: {what}"}
        a, b = left.double().flatten(), right.double().flatten()
        row["elements"] += a.numel()
        row["equal_elements"] += int(((a == b) | (a.isnan() & b.isnan())).sum())
        row["non_finite_mismatches"] += int(
            ((a.isfinite() != b.isfinite()) | ((a != b) & ~a.isfinite() & ~a.isnan())).sum()
        )
        both = a.isfinite() & b.isfinite()
        if both.any():
            error = max(error, float((a - b)[both].abs().max()))
            largest = max(largest, float(a[both].abs().max()))
    row["max_abs_error"] = rounded(error)
    row["relative_error"] = rounded(error / largest) if largest else (0.0 if not error else None)
    return row


def rounded(value: float) -> float:
    """Four significant digits: more would say nothing."""
    return float(f"{value:.3e}") if math.isfinite(value) else value


def compared(
    samples: Mapping[str, _Sample],
    with_gems: Callable[[Callable[[], Any]], Any],
    native: Callable[[Callable[[], Any]], Any],
) -> list[dict[str, Any]]:
    """One row per call, in the order of their names.

    ``with_gems`` and ``native`` run work with FlagGems enabled and surely disabled.
    """
    calls = sorted(samples)
    ours = [copies(samples[call]) for call in calls]
    theirs = [copies(samples[call]) for call in calls]
    expected = native(lambda: [outcome(sample) for sample in theirs])
    found = with_gems(lambda: [outcome(sample) for sample in ours])
    return [
        difference(call, left, right)
        for call, left, right in zip(calls, expected, found, strict=True)
    ]


def agreement(
    native: tuple[Sequence[Any], Sequence[Any]],
    gems: tuple[Sequence[Any], Sequence[Any]],
    forced: Sequence[Any],
    wide: Sequence[Any],
) -> dict[str, Any]:
    """Greedy texts token by token, and the best token of every position on the same text.

    ``native``, ``gems``: tokens and logits of a greedy run each. ``forced`` and ``wide``: logits
    with FlagGems, and natively in float32, when the model reads native torch's text. float32 says
    how often rounding alone changes the best token.
    """
    torch = lazy("torch")
    pairs = list(zip(native[0], gems[0], strict=True))
    equal = [bool((left == right).all()) for left, right in pairs]
    a, b, c = (torch.cat(list(part)).double() for part in (native[1], forced, wide))
    best = [part.argmax(-1) for part in (a, b, c)]
    return {
        "greedy_tokens": len(equal),
        "equal_tokens": sum(equal),
        "first_difference": equal.index(False) if not all(equal) else None,
        "positions": len(a),
        "equal_best": int((best[0] == best[1]).sum()),
        "max_abs_logit_error": rounded(float((a - b).abs().max())),
        "max_abs_logit": rounded(float(a.abs().max())),
        "against_float32": {
            "native_equal_best": int((best[0] == best[2]).sum()),
            "flag_gems_equal_best": int((best[1] == best[2]).sum()),
            "native_max_abs_logit_error": rounded(float((a - c).abs().max())),
            "flag_gems_max_abs_logit_error": rounded(float((b - c).abs().max())),
        },
    }
