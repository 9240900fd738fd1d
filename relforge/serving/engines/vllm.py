"""vLLM's OpenAI server: ``vllm serve``."""

from __future__ import annotations

import shlex

from relforge.manifest.release import Release
from relforge.serving.engines.base import (
    OnePort,
    ServerCommand,
    ServerTraits,
    cannot,
    options,
    refuse_own,
)
from relforge.serving.place import Place

OWN = {
    "model": "serve.model_path",
    "host": "(always all interfaces of the container)",
    "port": "serve.port",
    "served-model-name": "serve.served_name",
    "tensor-parallel-size": "serve.tensor_parallel",
    "pipeline-parallel-size": "serve.pipeline_parallel",
    "data-parallel-size": "serve.data_parallel",
    "data-parallel-size-local": "serve.nodes",
    "data-parallel-start-rank": "serve.nodes",
    "data-parallel-address": "the address of the first node in the nodes file",
    "data-parallel-rpc-port": "serve.rendezvous_port",
    "headless": "serve.nodes",
    "distributed-executor-backend": "serve.nodes",
}


# vLLM, docs: usage/metrics.md, serving/openai_compatible_server.md; seen at 0.32.
TRAITS = ServerTraits(
    name="vLLM",
    version_path="/version",
    metrics_path="/metrics",
    running_requests="vllm:num_requests_running",
    generated_tokens="vllm:generation_tokens_total",
    ignore_eos=True,
    logprobs=True,
    echo=True,
)


class Vllm(OnePort):
    """``vllm serve PATH`` with the manifest's options behind relforge's own.

    Several nodes share the data-parallel ranks: the first answers requests, the others are
    headless (vLLM, docs/serving/data_parallel_deployment.md, "Internal Load Balancing"). Without
    data parallelism they share the ranks of one replica in a Ray cluster, which the first node
    starts and the others join (vLLM, docs/serving/parallelism_scaling.md, "Multi-node").
    """

    traits = TRAITS

    def command(self, release: Release, model_path: str, place: Place) -> ServerCommand:
        serve = release.serve
        refuse_own(release, OWN)
        over_ray = serve.nodes > 1 and serve.data_parallel == 1
        if over_ray and place.rank:
            first = f"{place.address_of(0)}:{serve.rendezvous_port}"
            return ServerCommand(argv=("ray", "start", f"--address={first}", "--block"))
        shared: tuple[str, ...] = ()
        if over_ray:
            shared = ("--distributed-executor-backend", "ray")
        elif serve.nodes > 1:
            shared = self._shared(release, place)
        argv = (
            "vllm",
            "serve",
            model_path,
            "--served-model-name",
            serve.served_name,
            "--host",
            "0.0.0.0",  # noqa: S104 (inside the container; published on loopback only)
            "--port",
            str(serve.port),
            *options(self._sizes(release)),
            *shared,
            *options(serve.args),
        )
        if over_ray:
            head = ("ray", "start", "--head", f"--port={serve.rendezvous_port}")
            return ServerCommand(
                argv=("/bin/sh", "-c", f"{shlex.join(head)} && exec {shlex.join(argv)}"),
                meets_here=True,
            )
        return ServerCommand(argv=argv, meets_here=serve.nodes > 1 and not place.rank)

    @staticmethod
    def _sizes(release: Release) -> dict[str, object]:
        serve = release.serve
        sizes = {
            "tensor-parallel-size": serve.tensor_parallel,
            "pipeline-parallel-size": serve.pipeline_parallel,
            "data-parallel-size": serve.data_parallel,
        }
        return {name: size for name, size in sizes.items() if size > 1}

    @staticmethod
    def _shared(release: Release, place: Place) -> tuple[str, ...]:
        serve = release.serve
        local, rest = divmod(serve.data_parallel, serve.nodes)
        if rest:
            cannot(
                release,
                f"{serve.nodes} nodes cannot share {serve.data_parallel} data-parallel ranks",
                "each node runs whole ranks; one rank does not span nodes here",
                f"make serve.data_parallel a multiple of {serve.nodes}",
            )
        words: dict[str, object] = {"data-parallel-size-local": local}
        if place.rank:
            words = {"headless": True, **words, "data-parallel-start-rank": place.rank * local}
        words["data-parallel-address"] = place.address_of(0)
        words["data-parallel-rpc-port"] = serve.rendezvous_port
        return tuple(options(words))
