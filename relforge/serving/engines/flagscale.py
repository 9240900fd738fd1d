"""FlagScale's server: two YAML files of its own, and ``flagscale serve NAME FILE``.

Read from FlagScale's flagscale/cli.py, runner/runner_serve.py, serve/run_inference_engine.py and
examples/deepseek_r1 at ae859257, and from run.py and the same files at da4935ec: the runner writes
a shell script, starts it in the background and ends; between nodes it starts Ray by ssh, in a
container that has the same name everywhere.
"""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from relforge.manifest.release import Release
from relforge.manifest.serve import FlagScale as Settings
from relforge.serving.engines.base import OnePort, ServerCommand, as_word, cannot, refuse_own
from relforge.serving.engines.flagscale_tree import copied
from relforge.serving.engines.vllm import OWN, TRAITS
from relforge.serving.place import Place

# As the first process of a container, sleep alone would not hear that it is told to end.
_WAITS = "trap 'exit 0' TERM INT; sleep infinity & wait"
_ROOT = "/tmp/flagscale"  # noqa: S108 (in the container, where any user may write)


class FlagScale(OnePort):
    """vLLM behind FlagScale's runner; ``serve.args`` are its ``engine_args``.

    Variables come with the container: FlagScale's own ``envs`` pass through two shells unquoted.
    """

    traits = TRAITS

    def command(self, release: Release, model_path: str, place: Place) -> ServerCommand:
        serve = release.serve
        settings = serve.flagscale or Settings()
        refuse_own(release, OWN)
        if serve.nodes > 1 and serve.data_parallel > 1:
            cannot(
                release,
                "data-parallel ranks on several nodes",
                "FlagScale's runner starts one Ray cluster for tensor and pipeline parallelism",
                "use engine 'vllm', or tensor_parallel and pipeline_parallel alone",
            )
        if place.rank:
            # FlagScale on the first node reaches this container with ssh and `docker exec`.
            return ServerCommand(argv=("/bin/sh", "-c", _WAITS))
        name = settings.name or release.model
        folder = f"{_ROOT}/{name}/conf"
        config = f"{folder}/config_{name}.yaml"
        output = f"{_ROOT}/{name}/outputs"
        files = {
            config: _yaml(_experiment(release, settings, name, folder, output, place)),
        }
        prepared: tuple[str, ...] = ()
        if settings.tree_config is not None:
            prepared = copied(release, settings.tree_config, name, folder)
        else:
            files[f"{folder}/serve/{name}.yaml"] = _yaml([_model(release, model_path)])
        if serve.nodes > 1:
            files[f"{folder}/hostfile.txt"] = "".join(
                f"{address} slots={place.accelerators} type={settings.resource}\n"
                for address in place.addresses
            )
        words = (*settings.before_start, ("flagscale", "serve", name, config))
        start = " && ".join((*prepared, *map(shlex.join, words)))
        script = _script(start, f"{output}/serve_logs")
        return ServerCommand(argv=("/bin/bash", "-c", script), files=files)


def _script(start: str, logs: str) -> str:
    """Starts the server, and shows its log until it ends.

    A server that ends by itself has failed. One that is told to end (SIGTERM, Ctrl-C) is passed the
    word, and waited for. What FlagScale's pid file names is a shell with a starter, which is the
    server's parent: both would die of the signal, and leave the server behind. Each is halted while
    its child is looked for, so that none starts one in that moment.
    """
    pid, log = f"{logs}/pids/host_0_localhost.pid", f"{logs}/host_0_localhost.output"
    return f"""\
stopping=
trap stopping=1 TERM INT
{start} && pid=$(cat {shlex.quote(pid)}) || exit 1
child() {{ kill -STOP "$1"; read -r first _ <"/proc/$1/task/$1/children"; echo "$first"; }}
stop() {{
  stopping=1
  starter=$(child "$pid")
  server=${{starter:+$(child "$starter")}}
  kill "${{server:-${{starter:-$pid}}}}"
  kill -CONT "$pid" ${{starter:+"$starter"}}
}}
trap stop TERM INT
test -z "$stopping" || stop
tail --pid="$pid" -n +1 -F {shlex.quote(log)} &
while kill -0 $! 2>/dev/null; do wait $!; done
test -n "$stopping"
"""


def _experiment(
    release: Release, settings: Settings, name: str, folder: str, output: str, place: Place
) -> dict[str, Any]:
    # Read from the experiment by ae859257, and from its runner by da4935ec.
    deploy = {"use_fs_serve": False}
    runner: dict[str, Any] = {"ssh_port": settings.ssh_port, "deploy": deploy}
    if release.serve.nodes > 1:
        runner = {"hostfile": f"{folder}/hostfile.txt", "docker": place.container, **runner}
    experiment: dict[str, Any] = {
        "exp_name": name,
        "exp_dir": output,
        "task": {"type": "serve"},
        "deploy": dict(deploy),
        "runner": runner,
    }
    if settings.before_start:
        for words in settings.before_start:
            if release.serve.nodes > 1 and any(shlex.quote(word) != word for word in words):
                cannot(
                    release,
                    f"serve.flagscale.before_start has {shlex.join(words)}",
                    "between nodes FlagScale puts it into quotes of its own, which end early",
                    "use words without spaces, quotes and other signs of the shell",
                )
        joined = " && ".join(shlex.join(words) for words in settings.before_start)
        experiment["cmds"] = {"before_start": _plain(release, "before_start", joined)}
    return {
        "defaults": ["_self_", {"serve": name}],
        "experiment": experiment,
        "action": "run",
        "hydra": {"run": {"dir": "${experiment.exp_dir}/hydra"}},
    }


def _model(release: Release, model_path: str) -> dict[str, Any]:
    serve = release.serve
    arguments: dict[str, Any] = {
        "model": model_path,
        "served_model_name": serve.served_name,
        "port": serve.port,
        "tensor_parallel_size": serve.tensor_parallel,
        "pipeline_parallel_size": serve.pipeline_parallel,
    }
    if serve.data_parallel > 1:
        arguments["data_parallel_size"] = serve.data_parallel
    for name, value in serve.args.items():
        key = name.replace("-", "_")
        if value is False:
            # FlagScale drops what is false, and vLLM's default may be true.
            key, value = f"no_{key}", True
        elif not isinstance(value, bool | int | float):
            # FlagScale takes mappings apart into options of their names; vLLM wants one JSON word.
            value = _plain(release, f"serve.args.{name}", as_word(value))
        arguments[key] = value
    return {"serve_id": "vllm_model", "engine": "vllm", "engine_args": arguments}


def _plain(release: Release, field: str, text: str) -> str:
    if "${" in text:
        cannot(
            release,
            f"{field} holds '${{'",
            "FlagScale's configuration (OmegaConf) replaces it",
            "use a value without it",
        )
    return text


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10**6)
