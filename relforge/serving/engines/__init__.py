"""Serving engines: one small module each, all behind ``ServingEngine``."""

from __future__ import annotations

from relforge.errors import ExitCode, RelforgeError
from relforge.serving.engines import command, flagscale, paddlenlp, sglang, vllm
from relforge.serving.engines.base import ServingEngine

_ENGINES: dict[str, ServingEngine] = {
    "vllm": vllm.Vllm(),
    "flagscale": flagscale.FlagScale(),
    "sglang": sglang.Sglang(),
    "paddlenlp": paddlenlp.PaddleNLP(),
    "command": command.Command(),
}


def engine_of(name: str) -> ServingEngine:
    """The engine of that name. Raises RelforgeError (USAGE) for one that is not built."""
    found = _ENGINES.get(name)
    if found is None:
        raise RelforgeError(
            f"the serving engine {name!r} is not supported",
            code=ExitCode.USAGE,
            why=f"known are {', '.join(sorted(_ENGINES))}",
            hint="set 'engine' in the release manifest to one of them",
        )
    return found


__all__ = ["ServingEngine", "engine_of"]
