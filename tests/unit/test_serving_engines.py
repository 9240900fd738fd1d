"""Engines beside vLLM: their commands, variables and files, and what they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.hosts import HostNode
from relforge.manifest.serve import TreeConfig
from relforge.serving.engines import flagscale
from relforge.serving.engines.flagscale_tree import copied
from relforge.serving.model import LaunchSpec
from relforge.serving.spec import launch_spec
from tests.unit.test_serving_spec import device, option, release

HOSTS = tuple(HostNode(name=f"n{i}", address=f"192.168.0.{i + 1}") for i in range(2))
TWO = {"nodes": 2, "network": "host", "tensor_parallel": 16}


def launch(engine: str, serve: dict[str, Any]) -> LaunchSpec:
    made = release(serve, engine=engine)
    hosts = HOSTS if made.serve.nodes == 2 else None
    return launch_spec(made, device(), image="i", weights=Path("/w"), hosts=hosts)


def refused(engine: str, serve: dict[str, Any], said: str) -> None:
    with pytest.raises(RelforgeError, match=said) as caught:
        launch(engine, serve)
    assert caught.value.code == ExitCode.USAGE
    assert caught.value.hint


# SGLang


def test_sglang_on_two_nodes() -> None:
    args = {"trust-remote-code": True, "torch-compile-max-bs": 256, "cuda-graph-bs": [1, 2]}
    first, second = launch("sglang", {**TWO, "rendezvous_port": 5000, "args": args}).nodes
    assert first.argv[:3] == ("python3", "-m", "sglang.launch_server")
    for rank, node in enumerate((first, second)):
        assert option(node.argv, "--model-path") == ["/models/tiny"]
        assert option(node.argv, "--tp-size") == ["16"]
        assert option(node.argv, "--nnodes") == ["2"]
        assert option(node.argv, "--node-rank") == [str(rank)]
        assert option(node.argv, "--dist-init-addr") == ["192.168.0.1:5000"]
        assert node.argv[-6:] == (
            "--trust-remote-code", "--torch-compile-max-bs", "256", "--cuda-graph-bs", "1", "2",
        )  # fmt: skip


def test_sglang_with_an_ipv6_address() -> None:
    hosts = (HostNode(name="a", address="fd00::1"), HostNode(name="b", address="fd00::2"))
    made = release(TWO, engine="sglang")
    node = launch_spec(made, device(), image="i", weights=Path("/w"), hosts=hosts).nodes[1]
    assert option(node.argv, "--dist-init-addr") == ["[fd00::1]:29550"]


def test_sglang_on_one_node_is_told_of_no_others() -> None:
    argv = launch("sglang", {"tensor_parallel": 4, "data_parallel": 2}).nodes[0].argv
    assert option(argv, "--dp-size") == ["2"]
    assert "--nnodes" not in argv
    assert "--dist-init-addr" not in argv


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        ({"args": {"enable-x": False}}, "serve.args.enable-x is false"),
        ({"args": {"tp": 8}}, "sets 'tp'"),
        ({"args": {"enable-dp-attention": True}}, "data-parallel attention"),
        ({**TWO, "tensor_parallel": 1, "data_parallel": 2}, "replicas on several nodes"),
    ],
)
def test_what_sglang_cannot_do(serve: dict[str, Any], said: str) -> None:
    refused("sglang", serve, said)


# PaddleNLP


def test_paddlenlp_with_a_graph_on_two_nodes() -> None:
    graph = "deepseek-ai/DeepSeek-R1-2nodes/weight_only_int8"
    serve = {
        **TWO,
        "port": 9965,
        "model_path": "/models",
        "paddlenlp": {"static_graph": graph},
        "env": {"BATCH_SIZE": "48"},
    }
    spec = launch("paddlenlp", serve)
    assert (spec.health_path, spec.health_port) == ("/v2/health/ready", 8110)
    for node in spec.nodes:
        assert node.env == {
            "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7",
            "MP_NUM": "16",
            "MP_NNODE": "2",
            "POD_0_IP": "192.168.0.1",
            "POD_IPS": "192.168.0.1,192.168.0.2",
            "MODEL_DIR": "/models",
            "SERVICE_HTTP_PORT": "9965",
            "HEALTH_HTTP_PORT": "8110",
            "model_name": graph,
            "BATCH_SIZE": "48",
        }
        assert node.argv[-1] == graph
        assert [(str(m.host), m.container, m.read_only) for m in node.mounts] == [
            ("/w", "/models", False)
        ], "the image downloads the graph into it"


def test_paddlenlp_with_a_graph_of_ones_own() -> None:
    (node,) = launch("paddlenlp", {"tensor_parallel": 8}).nodes
    assert "MP_NNODE" not in node.env
    assert "model_name" not in node.env
    assert node.mounts[0].read_only
    assert [port.container for port in node.ports] == [8000, 8110]


def test_paddlenlp_starts_the_server_with_the_graph_and_stays(tmp_path: Path) -> None:
    (node,) = launch("paddlenlp", {"paddlenlp": {"static_graph": "a/b"}}).nodes
    (tmp_path / "start_server").write_text('#!/bin/sh\necho "$# $1"\n')
    (tmp_path / "tail").write_text('#!/bin/sh\necho "tail $*"\n')
    for program in tmp_path.iterdir():
        program.chmod(0o755)
    done = subprocess.run(
        node.argv, capture_output=True, text=True, check=True, env={"PATH": f"{tmp_path}:/bin"}
    )
    assert done.stdout.splitlines() == ["1 a/b", "tail -f /dev/null"]


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        ({"args": {"max-seq-len": 1}}, "serve.args sets max-seq-len"),
        ({"pipeline_parallel": 2}, "pipeline or data parallelism"),
        ({"env": {"MP_NUM": "8"}}, "serve.env sets MP_NUM"),
        ({"env": {"PUSH_MODE_HTTP_PORT": "8"}}, "serve.env sets PUSH_MODE_HTTP_PORT"),
    ],
)
def test_what_paddlenlp_cannot_do(serve: dict[str, Any], said: str) -> None:
    refused("paddlenlp", serve, said)


# FlagScale


def files_of(argv: tuple[str, ...], root: Path) -> dict[str, str]:
    """The files that a container's command writes before it becomes the server's: it is run."""
    at = next(i for i, word in enumerate(argv) if word in ("/bin/bash", "sleep"))
    subprocess.run((*argv[:at], "true"), check=True)
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


QWEN = {
    "served_name": "deepseek-r1-distill-qwen-32b-flagos",
    "tensor_parallel": 8,
    "port": 9010,
    "flagscale": {
        "name": "deepseek_r1_distill_qwen_32b",
        "before_start": [["source", "/opt/conda/bin/activate", "inference"]],
    },
    "args": {
        "max-model-len": 32768,
        "gpu_memory_utilization": 0.9,
        "trust_remote_code": True,
        "enable_prefix_caching": False,
        "speculative_config": {"method": "mtp", "num_speculative_tokens": 3},
    },
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "it's here"
    monkeypatch.setattr(flagscale, "_ROOT", str(made))
    return made


def test_flagscales_two_files(root: Path) -> None:
    (node,) = launch("flagscale", QWEN).nodes
    name = "deepseek_r1_distill_qwen_32b"
    files = files_of(node.argv, root)
    assert set(files) == {f"{name}/conf/config_{name}.yaml", f"{name}/conf/serve/{name}.yaml"}
    assert yaml.safe_load(files[f"{name}/conf/config_{name}.yaml"]) == {
        "defaults": ["_self_", {"serve": name}],
        "experiment": {
            "exp_name": name,
            "exp_dir": f"{root}/{name}/outputs",
            "task": {"type": "serve"},
            "deploy": {"use_fs_serve": False},
            "runner": {"ssh_port": 22, "deploy": {"use_fs_serve": False}},
            "cmds": {"before_start": "source /opt/conda/bin/activate inference"},
        },
        "action": "run",
        "hydra": {"run": {"dir": "${experiment.exp_dir}/hydra"}},
    }
    assert yaml.safe_load(files[f"{name}/conf/serve/{name}.yaml"]) == [
        {
            "serve_id": "vllm_model",
            "engine": "vllm",
            "engine_args": {
                "model": "/models/tiny",
                "served_model_name": "deepseek-r1-distill-qwen-32b-flagos",
                "port": 9010,
                "tensor_parallel_size": 8,
                "pipeline_parallel_size": 1,
                "max_model_len": 32768,
                "gpu_memory_utilization": 0.9,
                "trust_remote_code": True,
                # FlagScale drops false, and takes mappings apart.
                "no_enable_prefix_caching": True,
                "speculative_config": '{"method":"mtp","num_speculative_tokens":3}',
            },
        }
    ]


FAKE = """\
#!/bin/sh
echo "flagscale $1 $2 $ACTIVE"
test -r "$3" || exit 9
out="$(dirname "$(dirname "$3")")/outputs/serve_logs"
mkdir -p "$out/pids"
sleep "${SLOW:-0}"
nohup bash -c "starter; sync" >>"$out/host_0_localhost.output" 2>&1 &
echo $! >"$out/pids/host_0_localhost.pid"
"""
STARTER = """\
#!/bin/sh
server
echo the starter saw it end
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A stand-in for FlagScale with the chain of processes that the real one makes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("flagscale", FAKE), ("starter", STARTER), ("sync", "#!/bin/sh\n")):
        write_program(folder / name, text)
    return folder


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_flagscales_container_shows_the_log_and_fails_with_the_server(
    root: Path, programs: Path, tmp_path: Path
) -> None:
    write_program(programs / "server", "#!/bin/sh\necho serving\nsleep 0.3\necho ended\n")
    active = tmp_path / "activate"
    active.write_text('export ACTIVE="$1"\n')
    serve = {**QWEN, "flagscale": {"name": "q", "before_start": [["source", str(active), "a b"]]}}
    (node,) = launch("flagscale", serve).nodes
    env = {"PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(
        node.argv, capture_output=True, text=True, check=False, env=env, timeout=60
    )
    assert done.stdout.splitlines() == [
        "flagscale serve q a b", "serving", "ended", "the starter saw it end",
    ], done.stderr  # fmt: skip
    assert done.returncode == 1, "a server that ends by itself has failed"


def test_flagscales_container_fails_when_it_starts_nothing(root: Path, programs: Path) -> None:
    write_program(programs / "flagscale", "#!/bin/sh\necho no such file\n")
    (node,) = launch("flagscale", {}).nodes
    env = {"PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(
        node.argv, capture_output=True, text=True, check=False, env=env, timeout=60
    )
    assert done.returncode == 1
    assert done.stdout == "no such file\n"


TOLD = """\
#!/bin/sh
trap 'echo told to end; sleep 0.2; echo ended; exit 0' TERM
echo $$ >"$0.pid"
echo serving
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize(
    ("seen", "slow"), [("serving", "0"), ("flagscale", "1")], ids=["served", "not yet started"]
)
def test_a_stop_of_flagscales_container_reaches_the_server_and_waits_for_it(
    root: Path, programs: Path, seen: str, slow: str
) -> None:
    write_program(programs / "server", TOLD)
    (node,) = launch("flagscale", {}).nodes
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "SLOW": slow}
    with subprocess.Popen(
        node.argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    ) as container:
        assert container.stdout is not None
        lines = iter(container.stdout)
        assert any(line.startswith(seen) for line in lines)
        container.terminate()
        rest = [line.strip() for line in lines]
        assert container.wait(60) == 0
    shell = root / "tiny" / "outputs" / "serve_logs" / "pids" / "host_0_localhost.pid"
    started = [
        file.read_text().strip() for file in (shell, programs / "server.pid") if file.exists()
    ]
    deadline = time.monotonic() + 10
    # Whoever inherits a process that ended takes a moment to notice.
    while running := [pid for pid in started if Path("/proc", pid).exists()]:
        assert time.monotonic() < deadline, f"something runs on: {running}"
        time.sleep(0.05)
    if seen == "serving":
        assert rest == ["told to end", "ended", "the starter saw it end"]
        assert len(started) == 2


def test_flagscale_on_two_nodes(root: Path) -> None:
    serve = {
        **TWO, "tensor_parallel": 8, "pipeline_parallel": 4,
        "flagscale": {"resource": "npu", "ssh_port": 2222},
    }  # fmt: skip
    first, second = launch("flagscale", serve).nodes
    files = files_of(first.argv, root)
    assert files["tiny/conf/hostfile.txt"] == (
        "192.168.0.1 slots=16 type=npu\n192.168.0.2 slots=16 type=npu\n"
    )
    runner = yaml.safe_load(files["tiny/conf/config_tiny.yaml"])["experiment"]["runner"]
    assert runner == {
        "hostfile": f"{root}/tiny/conf/hostfile.txt",
        "docker": second.name,
        "ssh_port": 2222,
        "deploy": {"use_fs_serve": False},
    }
    assert first.name == second.name, "FlagScale knows one name for all containers"
    shell, _, waits = second.argv
    assert shell == "/bin/sh"
    assert waits.endswith("sleep infinity & wait"), "it hears that it is told to end"


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        ({**TWO, "tensor_parallel": 1, "data_parallel": 2}, "data-parallel ranks on several"),
        ({"args": {"x": "${oc.env:HOME}"}}, "serve.args.x holds"),
        ({"args": {"port": 1}}, "sets 'port'"),
        ({**TWO, "flagscale": {"before_start": [["source", "a b"]]}}, "before_start has"),
    ],
)
def test_what_flagscale_cannot_do(serve: dict[str, Any], said: str) -> None:
    refused("flagscale", serve, said)


def test_flagscale_with_the_file_of_its_own_tree_changes_what_the_release_says(
    tmp_path: Path,
) -> None:
    tree = tmp_path / "tree"
    (tree / "serve").mkdir(parents=True)
    (tree / "serve" / "tiny.yaml").write_text(
        "- serve_id: vllm_model\n  engine: vllm\n  engine_args:\n"
        "    model: /elsewhere\n    tensor_parallel_size: 16\n    max_num_seqs: 256\n"
    )
    made = release({"args": {"max-num-seqs": 4}, "flagscale": {"name": "tiny"}}, engine="flagscale")
    steps = copied(made, TreeConfig(folder=str(tree), source="doc"), "tiny", str(tmp_path / "conf"))
    script = " && ".join(steps).replace("python3", sys.executable)
    subprocess.run(["bash", "-euc", script], check=True)
    (model,) = yaml.safe_load((tmp_path / "conf" / "serve" / "tiny.yaml").read_text())
    assert model["engine_args"] == {
        "model": f"/models/{made.model}",
        "tensor_parallel_size": 16,
        "max_num_seqs": 4,
        "port": made.serve.port,
        "served_model_name": made.serve.served_name,
    }
    assert model["engine"] == "vllm"


def test_flagscale_with_its_own_file_writes_none(root: Path) -> None:
    tree = {"folder": "/opt/conf", "source": "doc"}
    (node,) = launch("flagscale", {"flagscale": {"name": "tiny", "tree_config": tree}}).nodes
    assert "cp /opt/conf/serve/tiny.yaml" in node.argv[-1]
    assert not any("serve_id" in word for word in node.argv)
