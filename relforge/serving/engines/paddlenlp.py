"""PaddleNLP's image for static graphs, which is told everything through variables.

The variables are those of PaddleNLP's ``llm/server/docs/deploy_usage_tutorial.md`` (08d526c6).
"""

from __future__ import annotations

from collections.abc import Iterator

from relforge.manifest.release import Release
from relforge.manifest.serve import LOCAL_MOUNTS, PaddleLocal, ServeMount
from relforge.manifest.serve import PaddleNLP as Settings
from relforge.serving.engines.base import PLAIN, ServerCommand, cannot
from relforge.serving.place import Place

# start_server puts the server into the background; what follows keeps the container.
_START = 'start_server "$@" || exit; trap "exit 0" TERM INT; tail -f /dev/null & wait'
_OWN = {
    "CUDA_VISIBLE_DEVICES": "serve.tensor_parallel and serve.nodes",
    "MP_NUM": "serve.tensor_parallel",
    "MP_NNODE": "serve.nodes",
    "POD_0_IP": "the nodes file",
    "POD_IPS": "the nodes file",
    "MODEL_DIR": "serve.model_path",
    "model_name": "serve.paddlenlp.static_graph",
    "SERVICE_HTTP_PORT": "serve.port",
    "HEALTH_HTTP_PORT": "serve.paddlenlp.health_port",
    # The image prefers these, its older names, to the two before.
    "PUSH_MODE_HTTP_PORT": "serve.port",
    "HTTP_PORT": "serve.paddlenlp.health_port",
}


class PaddleNLP:
    """``start_server`` with the name of a pre-built graph, or with the graph that is mounted."""

    health_path = "/v2/health/ready"
    traits = PLAIN

    def health_port(self, release: Release) -> int:
        return (release.serve.paddlenlp or Settings()).health_port

    def command(self, release: Release, model_path: str, place: Place) -> ServerCommand:
        serve = release.serve
        graph = (serve.paddlenlp or Settings()).static_graph
        self._check(release)
        env = {
            "CUDA_VISIBLE_DEVICES": place.indices,
            "MP_NUM": str(serve.tensor_parallel),
            "MODEL_DIR": model_path,
            "SERVICE_HTTP_PORT": str(serve.port),
            "HEALTH_HTTP_PORT": str(self.health_port(release)),
        }
        if serve.nodes > 1:
            env |= {
                "MP_NNODE": str(serve.nodes),
                "POD_0_IP": place.address_of(0),
                "POD_IPS": ",".join(place.addresses),
            }
        if graph is not None:
            env["model_name"] = graph
        return ServerCommand(
            argv=("/bin/bash", "-exc", _START, "start", *((graph,) if graph else ())),
            env=env,
            writes_weights=graph is not None,
        )

    def local(self, release: Release, step: str, place: Place) -> ServerCommand:
        """Inference without a server: ``dynamic``, ``export`` or ``static``, on every node alike.

        The scripts are the site's mount ``paddlenlp``, the exported graph its mount ``exported``.
        """
        settings = (release.serve.paddlenlp or Settings()).local
        if settings is None:
            cannot(
                release,
                f"inference without a server ({step})",
                "the release says nothing of it",
                "add serve.paddlenlp.local",
            )
        checkout, exported = LOCAL_MOUNTS
        words = list(_local_words(settings, step, _EXPORTED))
        if place.accelerators > 1:
            launch = ["python", "-m", "paddle.distributed.launch", "--gpus", place.indices]
            if len(place.hosts) > 1:
                launch += ["--ips", ",".join(place.addresses)]
        else:
            launch = ["python"]
        return ServerCommand(
            argv=(*launch, *words),
            env=dict(_local_env(settings, step, place)),
            mounts=(
                ServeMount(name=checkout, container=_CHECKOUT),
                ServeMount(name=exported, container=_EXPORTED, read_only=step != "export"),
            )[: 1 if step == "dynamic" else 2],
            answers=False,
        )

    @staticmethod
    def _check(release: Release) -> None:
        serve = release.serve
        if serve.args:
            cannot(
                release,
                f"serve.args sets {', '.join(serve.args)}",
                "the image takes variables and no options",
                "put the variable into serve.env, such as MAX_SEQ_LEN or BATCH_SIZE",
            )
        if serve.pipeline_parallel > 1 or serve.data_parallel > 1:
            cannot(
                release,
                "pipeline or data parallelism",
                "the image shares a graph in one way only (MP_NUM)",
                "say it with serve.tensor_parallel",
            )
        for name in serve.env:
            if name in _OWN:
                cannot(
                    release,
                    f"serve.env sets {name}",
                    "relforge sets it itself",
                    f"use {_OWN[name]} instead",
                )


_CHECKOUT = "/PaddleNLP"
_EXPORTED = "/exported"


def _local_words(settings: PaddleLocal, step: str, exported: str) -> Iterator[str]:
    """Options of ``predictor.py`` and ``export_model.py`` (PaddleNLP, llm/predict)."""
    script = "export_model.py" if step == "export" else "predictor.py"
    yield f"{_CHECKOUT}/{settings.scripts}/{script}"
    yield from ("--model_name_or_path", exported if step == "static" else settings.model)
    if step == "export":
        yield from ("--output_path", exported)
    yield from ("--dtype", settings.dtype)
    if step != "export":
        yield from ("--mode", step)
    yield from ("--inference_model", "1", "--append_attn", str(int(settings.append_attention)))
    if settings.total_max_length is not None:
        yield from ("--total_max_length", str(settings.total_max_length))
    # A static graph of one accelerator knows how it was quantized.
    if step != "static" or settings.mla_tensor_cores is not None:
        yield from ("--quant_type", settings.quantization)
    if step != "export" and settings.max_length is not None:
        yield from ("--max_length", str(settings.max_length))
    if settings.mla_matrix_absorption:
        yield from ("--mla_use_matrix_absorption", "1")
    if settings.weight_block_size is not None:
        yield "--weight_block_size"
        yield from (str(size) for size in settings.weight_block_size)


def _local_env(settings: PaddleLocal, step: str, place: Place) -> Iterator[tuple[str, str]]:
    if place.accelerators > 1:
        yield "CUDA_VISIBLE_DEVICES", place.indices
    if step == "export" or settings.mla_tensor_cores is None:
        return
    yield "FLAGS_mla_use_tensorcore", str(int(settings.mla_tensor_cores))
    if settings.total_max_length is not None:
        yield "FLAGS_cascade_attention_max_partition_size", str(settings.total_max_length)
