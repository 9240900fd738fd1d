"""vLLM's OpenAI server: ``vllm serve``."""

from __future__ import annotations

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.release import Release
from relforge.serving.engines.base import options

_OWN = {
    "model": "serve.model_path",
    "host": "(always all interfaces of the container)",
    "port": "serve.port",
    "served-model-name": "serve.served_name",
    "tensor-parallel-size": "serve.tensor_parallel",
    "pipeline-parallel-size": "serve.pipeline_parallel",
    "data-parallel-size": "serve.data_parallel",
}


class Vllm:
    """``vllm serve PATH`` with the manifest's options behind relforge's own."""

    health_path = "/health"

    def argv(self, release: Release, model_path: str) -> tuple[str, ...]:
        serve = release.serve
        for name in serve.args:
            if name.replace("_", "-") in _OWN:
                raise RelforgeError(
                    f"serve.args sets {name!r}, which relforge sets itself",
                    code=ExitCode.USAGE,
                    where=f"release {release.name}",
                    hint=f"use {_OWN[name.replace('_', '-')]} instead",
                )
        parallel = {
            "tensor-parallel-size": serve.tensor_parallel,
            "pipeline-parallel-size": serve.pipeline_parallel,
            "data-parallel-size": serve.data_parallel,
        }
        return (
            "vllm",
            "serve",
            model_path,
            "--served-model-name",
            serve.served_name,
            "--host",
            "0.0.0.0",  # noqa: S104 (inside the container; published on loopback only)
            "--port",
            str(serve.port),
            *options({name: size for name, size in parallel.items() if size > 1}),
            *options(serve.args),
        )
