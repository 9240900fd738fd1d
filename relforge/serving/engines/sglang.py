"""SGLang's OpenAI server: ``python3 -m sglang.launch_server``."""

from __future__ import annotations

from collections.abc import Iterator

from relforge.manifest.release import Release
from relforge.serving.engines.base import (
    OnePort,
    ServerCommand,
    ServerTraits,
    as_word,
    cannot,
    refuse_own,
)
from relforge.serving.place import Place

_OWN = {
    "model-path": "serve.model_path",
    "model": "serve.model_path",
    "host": "(always all interfaces of the container)",
    "port": "serve.port",
    "served-model-name": "serve.served_name",
    **dict.fromkeys(("tensor-parallel-size", "tp-size", "tp"), "serve.tensor_parallel"),
    **dict.fromkeys(("pipeline-parallel-size", "pp-size", "pp"), "serve.pipeline_parallel"),
    **dict.fromkeys(("data-parallel-size", "dp-size", "dp"), "serve.data_parallel"),
    "nnodes": "serve.nodes",
    "node-rank": "serve.nodes",
    **dict.fromkeys(("dist-init-addr", "nccl-init-addr"), "serve.rendezvous_port"),
}


# SGLang, docs: references/production_metrics.md (--enable-metrics), backend/sampling_params.md.
TRAITS = ServerTraits(
    name="SGLang",
    metrics_path="/metrics",
    metrics_optional=True,
    running_requests="sglang:num_running_reqs",
    generated_tokens="sglang:generation_tokens_total",
    ignore_eos=True,
    logprobs=True,
)


class Sglang(OnePort):
    """Options as of SGLang 0.4.3 (``sglang/srt/server_args.py``).

    Tensor- and pipeline-parallel ranks are shared between nodes; each node starts the same command
    with its own rank, and the first answers requests.
    """

    traits = TRAITS

    def command(self, release: Release, model_path: str, place: Place) -> ServerCommand:
        serve = release.serve
        refuse_own(release, _OWN)
        if serve.nodes > 1 and serve.data_parallel > 1:
            cannot(
                release,
                "data-parallel replicas on several nodes",
                "SGLang refuses --dp-size above 1 with --nnodes above 1",
                "set serve.data_parallel to 1, or start a release of one node on each",
            )
        if serve.args.get("enable-dp-attention") or serve.args.get("enable_dp_attention"):
            cannot(
                release,
                "data-parallel attention",
                "its ranks share accelerators with the tensor-parallel ones, and serve counts one "
                "accelerator for each",
                "leave enable-dp-attention out",
            )
        words = [
            *("--model-path", model_path),
            *("--served-model-name", serve.served_name),
            *("--host", "0.0.0.0"),  # noqa: S104 (as for vLLM)
            *("--port", str(serve.port)),
            *("--tp-size", str(serve.tensor_parallel)),
        ]
        if serve.pipeline_parallel > 1:
            words += ["--pp-size", str(serve.pipeline_parallel)]
        if serve.data_parallel > 1:
            words += ["--dp-size", str(serve.data_parallel)]
        if serve.nodes > 1:
            first = place.address_of(0)
            first = f"[{first}]" if ":" in first else first
            words += ["--nnodes", str(serve.nodes), "--node-rank", str(place.rank)]
            words += ["--dist-init-addr", f"{first}:{serve.rendezvous_port}"]
        return ServerCommand(
            argv=("python3", "-m", "sglang.launch_server", *words, *_options(release)),
            meets_here=serve.nodes > 1 and not place.rank,
        )


def _options(release: Release) -> Iterator[str]:
    """Flags are bare or absent, lists are several words (argparse's ``nargs``)."""
    for name, value in release.serve.args.items():
        if value is False:
            cannot(
                release,
                f"serve.args.{name} is false",
                "SGLang's flags have no opposite form",
                "leave the option out",
            )
        yield f"--{name}"
        if isinstance(value, list):
            yield from (as_word(part) for part in value)
        elif value is not True:
            yield as_word(value)
