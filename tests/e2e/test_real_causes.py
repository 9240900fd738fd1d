"""Faults planted in real launches of vLLM: each smoke report names the right cause.

A few of them run with the other tests, the rest with RELFORGE_LONG=1: each start costs 10 to 50 s.
Faults that need no vLLM are in tests/engine/test_start_causes.py.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from relforge.cancel import CancelToken
from relforge.engine.client import connect
from relforge.manifest.project import find_project
from relforge.manifest.release import Release
from relforge.manifest.smoke import Smoke
from relforge.serving.diagnosis.advice import Manifest, advised
from relforge.serving.model import LaunchSpec
from relforge.serving.report import Cause
from relforge.serving.smoke import run_smoke
from relforge.serving.spec import launch_spec
from tests.e2e.conftest import CHECKOUT, containers

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = pytest.mark.timeout(300)
slow = pytest.mark.skipif("RELFORGE_LONG" not in os.environ, reason="minutes: RELFORGE_LONG=1")
TINY = CHECKOUT / "examples" / "tiny-adder"
RELEASE = "tiny-adder-cpu_x86"
Change = Callable[[LaunchSpec], LaunchSpec]


class Launches:
    """Smoke tests of the real image with something wrong."""

    def __init__(self, image: str, engine: DockerClient, tmp_path: Path) -> None:
        self.image, self.engine, self.tmp_path = image, engine, tmp_path
        self.project = find_project(CHECKOUT)
        self.release = self.project.release(RELEASE)
        self.weights = tmp_path / "weights"
        shutil.copytree(TINY, self.weights)
        self.weights.chmod(0o755)

    def config(self, **changes: Any) -> None:
        """Alters the weights' config.json."""
        self.rewrite("config.json", **changes)

    def rewrite(self, name: str, **changes: Any) -> None:
        data = json.loads((self.weights / name).read_text())
        data.update(changes)
        kept = {key: value for key, value in data.items() if value is not None}
        (self.weights / name).write_text(json.dumps(kept))

    def cause(self, change: Change = lambda spec: spec, **serve: Any) -> Cause:
        """What the smoke report says of a launch with other values of ``serve``."""
        merged = {
            name: {**getattr(self.release.serve, name), **value}
            if name in ("args", "env", "ulimits")
            else value
            for name, value in serve.items()
        }
        self.release = Release.model_validate(
            {
                **self.release.model_dump(mode="json"),
                "serve": {**self.release.serve.model_dump(mode="json"), **merged},
            }
        )
        device = self.project.device("cpu_x86")
        spec = launch_spec(
            self.release, device, image=self.image, weights=self.weights, name="planted-cause"
        )
        report = run_smoke(
            change(spec), self.engine, reference=(), settings=Smoke(), run_id="planted-cause",
            log_path=self.tmp_path / "server.log", cancel=CancelToken(),
        )  # fmt: skip
        assert report.verdict == "fail", report.reason
        assert report.cause is not None, report.reason
        assert "planted-cause" not in containers()
        return report.cause

    def to_write(self, cause: Cause) -> str | None:
        """The line that the remedy asks for."""
        change = advised(cause, Manifest(self.release)).change
        return change.set if change else None


@pytest.fixture
def launches(record: dict[str, Any], tmp_path: Path) -> Iterator[Launches]:
    engine = connect()
    yield Launches(record["results"]["build"]["image_name"], engine, tmp_path)
    engine.close()


def test_shared_memory_that_is_too_small(launches: Launches) -> None:
    cause = launches.cause(shm_bytes=64 << 20)
    assert cause.id == "shm-too-small"
    assert cause.facts == {"needed": "160 MiB", "available": "64 MiB"}
    assert launches.to_write(cause) == "shm_bytes: 268435456"


def test_too_little_memory(launches: Launches) -> None:
    cause = launches.cause(memory_bytes=400 << 20)
    assert cause.id == "out-of-memory"
    assert launches.to_write(cause) == f"memory_bytes: {800 << 20}"


def test_a_folder_that_is_empty(launches: Launches) -> None:
    shutil.rmtree(launches.weights)
    launches.weights.mkdir()
    assert launches.cause().id == "weights-missing"


def test_weights_that_are_cut_short(launches: Launches) -> None:
    with (launches.weights / "model.safetensors").open("r+b") as weights:
        weights.truncate(100_000)
    assert launches.cause().id == "weights-damaged"


def test_an_option_that_the_server_does_not_know(launches: Launches) -> None:
    cause = launches.cause(args={"no-such-option": True})
    assert cause.id == "unknown-option"
    remedy = advised(cause, Manifest(launches.release)).remedy
    assert remedy.startswith("serve.args.no-such-option is true")
    assert remedy.endswith("remove it")


def test_a_context_longer_than_the_models(launches: Launches) -> None:
    cause = launches.cause(args={"max-model-len": 4096})
    assert cause.id == "context-too-long"
    assert launches.to_write(cause) == "max-model-len: 256"


def test_an_architecture_that_nobody_knows(launches: Launches) -> None:
    launches.config(architectures=["NoSuchForCausalLM"])
    assert launches.cause().id == "unknown-architecture"


def test_a_hub_that_cannot_be_reached(launches: Launches) -> None:
    def from_the_hub(spec: LaunchSpec) -> LaunchSpec:
        (node,) = spec.nodes
        argv = tuple("acme/no-such-model" if w == "/models/tiny-adder" else w for w in node.argv)
        return spec.model_copy(update={"nodes": (node.model_copy(update={"argv": argv}),)})

    assert launches.cause(from_the_hub).id == "hub-unreachable"


def test_another_name_than_the_servers(launches: Launches) -> None:
    cause = launches.cause(lambda spec: spec.model_copy(update={"served_name": "other"}))
    assert cause.id == "wrong-served-name"


# The rest


@slow
def test_weights_that_are_missing(launches: Launches) -> None:
    (launches.weights / "model.safetensors").unlink()
    assert launches.cause().id == "weights-missing"


@slow
def test_weights_that_cannot_be_read(launches: Launches) -> None:
    (launches.weights / "model.safetensors").chmod(0o600)
    cause = launches.cause()
    assert cause.id == "weights-missing", "what safetensors says of it"
    assert "may not be read" in cause.explanation


@slow
def test_a_kv_cache_that_is_too_small(launches: Launches) -> None:
    launches.config(max_position_embeddings=4_000_000)
    launches.rewrite("tokenizer_config.json", model_max_length=4_000_000)
    cause = launches.cause(args={"max-model-len": 4_000_000})
    assert cause.id == "kv-cache-too-small"
    assert cause.facts["length"] == "4000000"


@slow
def test_a_kv_cache_that_the_host_cannot_hold(launches: Launches) -> None:
    cause = launches.cause(env={"VLLM_CPU_KVCACHE_SPACE": "4000"})
    assert cause.id == "kv-cache-too-large"


@slow
def test_heads_that_cannot_be_shared(launches: Launches) -> None:
    cause = launches.cause(tensor_parallel=3)
    assert cause.id == "heads-not-divisible"
    assert launches.to_write(cause) == "tensor_parallel: 2"


@slow
def test_a_model_type_that_nobody_knows(launches: Launches) -> None:
    launches.config(model_type="nosuch")
    assert launches.cause().id == "unknown-model-type"


@slow
def test_weights_with_code_of_their_own(launches: Launches) -> None:
    launches.config(model_type="nosuch", auto_map={"AutoConfig": "configuration_nosuch.NoSuch"})
    (launches.weights / "configuration_nosuch.py").write_text("NoSuch = None\n")
    cause = launches.cause()
    assert cause.id == "remote-code-needed"
    assert launches.to_write(cause) == "trust-remote-code: true"


@slow
def test_a_quantization_that_nobody_knows(launches: Launches) -> None:
    launches.config(quantization_config={"quant_method": "nosuch", "bits": 4})
    assert launches.cause().id == "unknown-quantization"


@slow
def test_a_number_format_without_its_quantization(launches: Launches) -> None:
    launches.config(
        quantization_config={
            "quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True,
        }
    )  # fmt: skip
    cause = launches.cause()
    assert cause.id == "quantization-dtype"
    assert launches.to_write(cause) == "dtype: float16"


@slow
def test_weights_of_another_shape(launches: Launches) -> None:
    launches.config(hidden_size=192)
    assert launches.cause().id == "weights-do-not-fit"


@slow
def test_a_configuration_that_is_cut_short(launches: Launches) -> None:
    (launches.weights / "config.json").write_text('{"model_type":')
    assert launches.cause().id == "config-unreadable"


@slow
def test_a_tokenizer_that_is_cut_short(launches: Launches) -> None:
    (launches.weights / "tokenizer.json").write_text('{"version":')
    assert launches.cause().id == "tokenizer-unloadable"


@slow
def test_a_tokenizer_without_a_chat_template(launches: Launches) -> None:
    launches.rewrite("tokenizer_config.json", chat_template=None)
    assert launches.cause().id == "no-chat-template"


@slow
def test_a_value_that_an_option_does_not_take(launches: Launches) -> None:
    cause = launches.cause(args={"max-num-seqs": "many"})
    assert cause.id == "invalid-option-value"
    assert cause.facts["option"] == "--max-num-seqs"


@slow
def test_a_port_that_is_taken_in_the_container(launches: Launches) -> None:
    def beside_another(spec: LaunchSpec) -> LaunchSpec:
        (node,) = spec.nodes
        script = '/opt/venv/bin/python -m http.server 8000 & sleep 2; exec "$@"'
        argv = ("/bin/sh", "-c", script, "sh", *node.argv)
        return spec.model_copy(update={"nodes": (node.model_copy(update={"argv": argv}),)})

    cause = launches.cause(beside_another)
    assert cause.id == "port-taken"
    assert launches.to_write(cause) == "port: 8001"


@slow
def test_too_few_open_files(launches: Launches) -> None:
    cause = launches.cause(ulimits={"nofile": 64})
    assert cause.id == "too-many-open-files"
    assert launches.to_write(cause) == "nofile: 1048576"


@slow
def test_an_image_without_a_compiler(launches: Launches) -> None:
    cause = launches.cause(args={"enforce-eager": False}, env={"TORCHDYNAMO_DISABLE": "0"})
    assert cause.id == "no-compiler"
    assert launches.to_write(cause) == "enforce-eager: true"
