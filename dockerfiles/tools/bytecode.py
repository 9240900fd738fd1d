"""Compiles Python files ahead, so that a server started by another user need not do it each time.

``bytecode.py imported MODULE...`` imports the modules and compiles every file that this loads from
the environment; the rest stays source, for most of it is never used.
``bytecode.py tree ROOT SKIP...`` compiles everything below a folder laid out from ``/``, except
folders of the skipped names.

The bytecode is marked as unchecked: files in an image do not change, and no time enters it.
"""

from __future__ import annotations

import importlib
import os
import py_compile
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path


def compile_one(source: str, shown: str) -> str | None:
    """Compiles one file; returns a message for one that is not valid Python."""
    try:
        py_compile.compile(
            source,
            dfile=shown,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    except py_compile.PyCompileError as error:
        return f"not compiled ahead: {shown}: {error.exc_value}"
    return None


def imported(modules: list[str]) -> list[tuple[str, str]]:
    """Files of the environment that importing *modules* loads."""
    sys.dont_write_bytecode = True
    for name in modules:
        importlib.import_module(name)
    files = {getattr(m, "__file__", None) or "" for m in list(sys.modules.values())}
    return [(f, f) for f in sorted(files) if f.endswith(".py") and f.startswith(sys.prefix)]


def below(root: Path, skipped: set[str]) -> list[tuple[str, str]]:
    """Python files of a folder, with the paths that they will have in the image."""
    return [
        (str(path), f"/{path.relative_to(root)}")
        for path in sorted(root.rglob("*.py"))
        if not skipped.intersection(path.relative_to(root).parts[:-1])
    ]


def main() -> None:
    mode, *words = sys.argv[1:]
    files = imported(words) if mode == "imported" else below(Path(words[0]), set(words[1:]))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        messages = pool.map(compile_one, *zip(*files, strict=True), chunksize=32) if files else ()
        for message in filter(None, messages):
            print(message)
    print(f"{len(files)} files compiled ahead")


if __name__ == "__main__":
    main()
