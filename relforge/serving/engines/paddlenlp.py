"""PaddleNLP's image for static graphs, which is told everything through variables.

The variables are those of PaddleNLP's ``llm/server/docs/deploy_usage_tutorial.md`` (08d526c6).
"""

from __future__ import annotations

from relforge.manifest.release import Release
from relforge.manifest.serve import PaddleNLP as Settings
from relforge.serving.engines.base import ServerCommand, cannot
from relforge.serving.place import Place

# start_server puts the server into the background; what follows keeps the container.
_START = 'start_server "$@" && exec tail -f /dev/null'
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
