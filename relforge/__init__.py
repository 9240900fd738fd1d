"""relforge builds, tests and publishes LLM inference images for many kinds of accelerators."""

from __future__ import annotations

PROJECT = "https://github.com/flagos-ai/relforge"
"""Where the program comes from."""


def __getattr__(name: str) -> str:
    # Reading the installed version costs milliseconds that `relforge --help` should not pay.
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("relforge")
        except PackageNotFoundError:
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
