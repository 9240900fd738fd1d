"""Servers of real vLLM that are healthy and wrong: each fault is found by the probe that should.

Starts that fail are in test_real_causes.py. A start costs 10 to 50 s: some run with
RELFORGE_LONG=1 only, and faults that do not disturb each other share one.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from relforge.cancel import CancelToken
from relforge.engine.client import connect
from relforge.engine.containers import Container
from relforge.manifest.project import find_project
from relforge.manifest.release import Release
from relforge.manifest.smoke import Smoke
from relforge.serving.expected import expected_of
from relforge.serving.model import LaunchSpec
from relforge.serving.probes import PROBES, Target, run_probes
from relforge.serving.reference import GreedyText, read_greedy_texts
from relforge.serving.report import ProbeResult, SmokeReport
from relforge.serving.smoke import run_smoke
from relforge.serving.spec import launch_spec
from relforge.serving.up import serve_context
from tests.e2e.conftest import CHECKOUT, containers

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = pytest.mark.timeout(300)
LONG = "RELFORGE_LONG" in os.environ
slow = pytest.mark.skipif(not LONG, reason="minutes: RELFORGE_LONG=1")
TINY = CHECKOUT / "examples" / "tiny-adder"
TEXTS = read_greedy_texts(TINY / "reference.json")


class Launches:
    """Launches of the real image, with weights of the test's own."""

    def __init__(self, image: str, engine: DockerClient, tmp_path: Path) -> None:
        self.image, self.engine, self.tmp_path = image, engine, tmp_path
        self.project = find_project(CHECKOUT)
        self.release = self.project.release("tiny-adder-cpu_x86")
        self.device = self.project.device("cpu_x86")
        self.weights = tmp_path / "weights"
        shutil.copytree(TINY, self.weights)
        self.weights.chmod(0o755)

    def spec(self, **serve: Any) -> LaunchSpec:
        """With other values of ``serve``."""
        known = self.release.serve.model_dump(mode="json")
        for name, value in serve.items():
            known[name] = {**known[name], **value} if isinstance(value, dict) else value
        release = Release.model_validate({**self.release.model_dump(mode="json"), "serve": known})
        return launch_spec(
            release, self.device, image=self.image, weights=self.weights, name="planted"
        )

    def smoke(
        self,
        spec: LaunchSpec | None = None,
        settings: Smoke | None = None,
        texts: tuple[GreedyText, ...] = TEXTS,
    ) -> SmokeReport:
        report = run_smoke(
            spec or self.spec(), self.engine, reference=texts, settings=settings or Smoke(),
            run_id="planted", log_path=self.tmp_path / "server.log", cancel=CancelToken(),
            expected=expected_of(
                self.release, self.device, languages=("en",), flaggems=True,
                python_packages={"vllm": "0.32.0+cpu"},
            ),
        )  # fmt: skip
        assert not [name for name in containers() if "planted" in name]
        return report

    def rewrite(self, name: str, change: Callable[[Any], Any]) -> None:
        path = self.weights / name
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    def tensors(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Alters the weights in place; numpy arrays by name."""
        from safetensors.numpy import load_file, save_file

        path = self.weights / "model.safetensors"
        found = load_file(path)
        change(found)
        save_file(found, path, metadata={"format": "pt"})
        path.chmod(0o644)  # the server is another user


@pytest.fixture
def launches(record: dict[str, Any], tmp_path: Path) -> Iterator[Launches]:
    engine = connect()
    yield Launches(record["results"]["build"]["image_name"], engine, tmp_path)
    engine.close()


def failed(report: SmokeReport) -> list[str]:
    return [probe.name for probe in report.probes if probe.verdict == "fail"]


def reason_of(report: SmokeReport, name: str) -> str:
    return next(probe.reason for probe in report.probes if probe.name == name)


@pytest.mark.timeout(1800)
def test_clean_runs_raise_no_alarm(launches: Launches) -> None:
    """Twenty of them in scripts/long, two here; each with other prompts and another load."""
    for seed in range(20 if LONG else 2):
        rng = random.Random(seed)
        texts = tuple(rng.sample(TEXTS, rng.randint(2, len(TEXTS))))
        settings = Smoke(concurrency=rng.choice((1, 4, 8, 16, 32)))
        report = launches.smoke(settings=settings, texts=texts)
        assert failed(report) == [], report.reason
        not_run = {probe.name for probe in report.probes if probe.verdict == "not-run"}
        # On a loaded machine all that the small context leaves is written before vLLM can notice.
        assert not_run - {"cancelled"} == {"flaggems", "device"}
        assert report.state.exit_code == 0
        assert report.server_version == "0.32.0"


def test_weights_that_are_slightly_off(launches: Launches) -> None:
    import numpy as np

    def shift(tensors: dict[str, Any]) -> None:
        rng = np.random.default_rng(0)
        for name, tensor in tensors.items():
            if tensor.ndim == 2:
                noise = rng.normal(0, 0.35 * tensor.std(), tensor.shape)
                tensors[name] = (tensor + noise).astype(tensor.dtype)

    launches.tensors(shift)
    report = launches.smoke()
    assert failed(report)[0] in ("completion", "greedy-text"), report.reason
    assert report.verdict == "fail"
    assert re.search(r"greedy texts differ|text is empty", report.reason)


def test_weights_that_are_no_numbers(launches: Launches) -> None:
    """Health is 200, and every answer is empty or one sign over and over."""

    def poison(tensors: dict[str, Any]) -> None:
        tensors["model.norm.weight"][:] = float("nan")

    launches.tensors(poison)
    report = launches.smoke()
    assert report.start_to_ready_s is not None, "the server said it was ready"
    assert failed(report)[0] == "completion", report.reason


def test_a_tokenizer_whose_digits_are_another_models(launches: Launches) -> None:
    def turn(tokenizer: Any) -> Any:
        vocabulary = tokenizer["model"]["vocab"]
        ids = [vocabulary[str(digit)] for digit in range(10)]
        for digit in range(10):
            vocabulary[str(digit)] = ids[(digit + 3) % 10]
        return tokenizer

    launches.rewrite("tokenizer.json", turn)
    report = launches.smoke()
    assert failed(report)[0] == "greedy-text", report.reason


def test_no_chat_template_and_no_log_probabilities(launches: Launches) -> None:
    def drop(config: Any) -> Any:
        return {key: value for key, value in config.items() if key != "chat_template"}

    for name in launches.weights.glob("chat_template*"):
        name.unlink()
    launches.rewrite("tokenizer_config.json", drop)
    report = launches.smoke(launches.spec(args={"max-logprobs": 0}))
    assert failed(report) == ["chat", "logprobs"], report.reason
    assert "chat template" in reason_of(report, "chat")
    assert "logprobs" in reason_of(report, "logprobs")


def test_a_request_for_log_probabilities_that_ends_the_server(launches: Launches) -> None:
    """torch.compile wants a C++ compiler, and the image has none: seen in a release of ours."""
    report = launches.smoke(launches.spec(env={"TORCHDYNAMO_DISABLE": "0"}))
    assert failed(report) == ["logprobs"], report.reason
    assert "the request killed the server" in report.reason
    assert "No working C++ compiler found" in (report.server_log.read_text())
    assert reason_of(report, "concurrent") == "the server did not survive probe 'logprobs'"


def test_an_engine_that_hangs_and_one_that_dies_while_health_is_200(
    launches: Launches, tmp_path: Path
) -> None:
    """The engine is a process beside the one that answers /health."""
    spec = launches.spec()
    with serve_context(
        spec, launches.engine, run_id="planted", log_path=tmp_path / "log", cancel=CancelToken()
    ) as served:
        served.client.timeout_s = 5
        target = Target(
            served.client, served.container, Smoke(), TEXTS, host=None, traits=spec.traits
        )
        engine = engine_pid(served.container)
        served.container.execute(["python3", "-c", f"import os; os.kill({engine}, 19)"])
        hung = asked(target, "health", "completion", "greedy-text", "stream")
        assert [one.verdict for one in hung] == ["pass", "fail", "fail", "not-run"]
        assert "no complete answer within 5 s" in hung[1].reason
        served.container.execute(["python3", "-c", f"import os; os.kill({engine}, 18)"])
        assert asked(target, "completion")[0].verdict == "pass", "it goes on where it was"
        served.container.execute(["python3", "-c", f"import os; os.kill({engine}, 9)"])
        dead = asked(target, "completion", "stream")
    assert [one.verdict for one in dead] == ["fail", "not-run"]
    assert "killed the server" in dead[0].reason or "EngineCore" in dead[0].reason
    assert not [name for name in containers() if "planted" in name]


def engine_pid(container: Container) -> int:
    program = (
        "import os, pathlib\n"
        "for p in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
        "    if b'EngineCore' in p.read_bytes() and p.parent.name != str(os.getpid()):\n"
        "        print('pid', p.parent.name)\n"
    )
    code, said = container.execute(["python3", "-c", program])
    assert code == 0, said
    found = re.findall(rb"pid (\d+)", said)
    assert len(found) == 1, said
    return int(found[0])


def asked(target: Target, *names: str) -> tuple[ProbeResult, ...]:
    return run_probes(target, [probe for probe in PROBES if probe.name in names])


@slow
def test_positions_that_are_turned_otherwise(launches: Launches) -> None:
    launches.rewrite("config.json", lambda config: {**config, "rope_theta": 100.0})
    report = launches.smoke()
    assert failed(report)[0] in ("completion", "greedy-text"), report.reason


@slow
def test_weights_of_another_size_of_step(launches: Launches) -> None:
    """As a wrong scale of quantised weights gives: the text goes round in circles, or is wrong."""

    def scale(tensors: dict[str, Any]) -> None:
        for name in tensors:
            if name.endswith("o_proj.weight"):
                tensors[name] = tensors[name] * 0.2

    launches.tensors(scale)
    report = launches.smoke()
    assert failed(report)[0] in ("completion", "greedy-text"), report.reason
