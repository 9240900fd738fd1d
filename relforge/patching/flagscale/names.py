"""How FlagScale names things: devices, backends, tasks, entries; and how relforge reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.project import normalised

PATCH = ".patch"
SEALED = ".patch.encrypted"
ROOT_BACKEND = "FlagScale"
TREE_NAME = "FlagScale"
TASKS = ("train", "inference", "post_train")
HETERO = "tools/patch/hetero.txt"
HISTORY = "hardware/patch_history.yaml"

# The spellings that FlagScale's tools take, by what they make of them.
_BACKENDS = {
    "megatron": "Megatron-LM",
    "megatron-lm": "Megatron-LM",
    "energon": "Megatron-Energon",
    "megatron-energon": "Megatron-Energon",
    "fs": ROOT_BACKEND,
    "flagscale": ROOT_BACKEND,
    "vllm": "vllm",
    "sglang": "sglang",
    "llama.cpp": "llama.cpp",
    "llama_cpp": "llama.cpp",
    "omniinfer": "omniinfer",
    "omni_infer": "omniinfer",
    "verl": "verl",
}
_LEGACY_DEVICE = re.compile(r"\w+_\w+", re.ASCII)
_CURRENT_DEVICE = re.compile(r"[A-Z][^_/\s]*_[^_/\s]+")


def backends(words: Iterable[str]) -> tuple[str, ...]:
    """Backends by their own names, in the order given. Raises RelforgeError (USAGE)."""
    result: list[str] = []
    for word in words:
        name = _BACKENDS.get(word.casefold())
        if name is None:
            raise RelforgeError(
                f"{word!r} is no backend of FlagScale",
                code=ExitCode.USAGE,
                why=f"known: {', '.join(dict.fromkeys(_BACKENDS.values()))}",
                hint="correct --backend",
            )
        if name in result:
            raise RelforgeError(f"--backend names {name} twice", code=ExitCode.USAGE)
        result.append(name)
    return tuple(result)


def tasks(words: Iterable[str]) -> tuple[str, ...]:
    """The tasks, each once. Raises RelforgeError (USAGE)."""
    result = tuple(dict.fromkeys(words))
    for word in result:
        if word not in TASKS:
            raise RelforgeError(
                f"{word!r} is no task of FlagScale",
                code=ExitCode.USAGE,
                why=f"known: {', '.join(TASKS)}",
                hint="correct --task",
            )
    return result


def folder_of(backend: str) -> str:
    """Where in the tree a backend's patches apply; empty for FlagScale itself."""
    return "" if backend == ROOT_BACKEND else f"third_party/{backend}"


def extension_of(backend: str) -> str:
    """Where FlagScale keeps its own changes of a backend."""
    return f"flagscale/backends/{backend}"


def extensions_of(backend: str) -> tuple[str, ...]:
    """The same in every state of FlagScale; no state has more than one of them."""
    return (
        extension_of(backend),
        *(f"flagscale/{kind}/backends/{backend}" for kind in ("train", "inference")),
    )


def check_new_device(name: str, *, legacy: bool) -> None:
    """Raises RelforgeError (USAGE) for a name that FlagScale's own tools would refuse."""
    rule = _LEGACY_DEVICE if legacy else _CURRENT_DEVICE
    if rule.fullmatch(name):
        return
    example = "bi_V150" if legacy else "BI_V150"
    raise RelforgeError(
        f"{name!r} is no device name in this layout of FlagScale",
        code=ExitCode.USAGE,
        why="its tools take letters, digits and underscores, with at least one underscore inside"
        if legacy
        else "its tools take a vendor that begins with a capital, one underscore, and a product",
        hint=f"name it like {example}",
    )


def matching(asked: str, there: Iterable[str], *, where: str) -> str | None:
    """The folder that a device's name means: ``bi_V150`` = ``BI_V150`` = ``BI-V150``.

    The very spelling wins; None when there is none. Raises RelforgeError (SOURCE) for two that
    differ in spelling alone.
    """
    found = sorted(name for name in there if normalised(name) == normalised(asked))
    if asked in found:
        return asked
    if len(found) > 1:
        raise RelforgeError(
            f"device {asked!r} means more than one folder",
            code=ExitCode.SOURCE,
            where=where,
            why=f"there are {' and '.join(found)}",
            hint="spell it exactly as one of them",
        )
    return found[0] if found else None


def history_key(names: Sequence[str]) -> str:
    """How ``patch_history.yaml`` names a group of backends."""
    return "+".join(sorted(names))
