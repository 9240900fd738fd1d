"""Benchmarks: only loads that were answered in full give figures, the figures are the tool's."""

from __future__ import annotations

import json
import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from relforge import hostcheck
from relforge.benching import machine
from relforge.benching.chart import svg
from relforge.benching.comparing import Candidate, Rules, compare_servers, metric_names
from relforge.benching.ladder import WARM_UP_SEED, run_ladder
from relforge.benching.load import LoadedServer
from relforge.benching.model import BenchReport
from relforge.benching.settings import changed
from relforge.benching.tool import NotMeasured, bench_argv, read_result
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.manifest.bench import Bench, BenchLevel
from relforge.manifest.project import builtin_root, find_project
from relforge.manifest.site import EngineSite, Site
from relforge.plan import Planning, subject
from relforge.stage import Resources, Skip
from relforge.stages.bench import Bench as BenchStage
from relforge.stages.preflight import Preflight, PreflightInputs
from tests.support import benching
from tests.support.benching import (
    BENCH,
    LEVELS,
    FakeContainer,
    figures,
    launch,
    loaded,
    release,
    report,
    result_file,
)

# ---------------------------------------------------------------- the tool's files


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: f"at-{level.concurrency}")
def test_the_figures_are_those_that_its_own_observations_give(level: BenchLevel) -> None:
    raw = json.loads(result_file(level))
    got = figures(level)
    gaps = [gap for one in raw["itls"] for gap in one]
    assert got.ttft.at(50) == pytest.approx(median(raw["ttfts"]) * 1000)
    assert got.itl.at(50) == pytest.approx(median(gaps) * 1000)
    assert got.e2el.at(50) == pytest.approx(median(raw["latencies"]) * 1000)
    assert (got.ttft.n, got.itl.n) == (level.prompts, len(gaps))
    assert got.request_per_s == pytest.approx(level.prompts / raw["duration"])
    tokens = level.prompts * BENCH.output_tokens
    assert got.output_tokens == tokens
    assert got.output_tokens_per_s == pytest.approx(tokens / raw["duration"])


def _failed(values: dict[str, Any]) -> None:
    values["completed"] -= 2
    values["failed"] = 2
    values["output_lens"][:2] = [0, 0]
    values["errors"][1] = "Traceback\nBad Request: this is too long"


def _failed_at_4(values: dict[str, Any]) -> None:
    if values["max_concurrency"] == 4:
        _failed(values)


def _set(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda values: values.update(changes)


def _without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda values: values.pop(name)


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (_failed, r"2 of \d+ requests failed at 4 at a time: Bad Request: this is too long"),
        (lambda v: v["output_lens"].__setitem__(3, 5), r"1 of \d+ answers .*shortest has 5"),
        (lambda v: v["output_lens"].pop(), "answers have another length"),
        (_set(num_prompts=63), "the result is of 63 prompts"),
        (_set(max_concurrency=8), "at 8 at a time, not of"),
        (_set(request_throughput=1000.0), "says 1000 requests/s, and counts"),
        (_set(output_throughput=1.0), "says 1 output tokens/s"),
        (_set(duration=0.0), "in 0 s"),
        (_set(p90_ttft_ms=0.0), "gives 0.0 as p90_ttft_ms"),
        (_set(mean_itl_ms="fast"), "gives 'fast' as mean_itl_ms"),
        (_without("p50_itl_ms"), "gives None as p50_itl_ms"),
        (_without("itls"), "cannot be read: itls"),
    ],
)
def test_a_load_that_was_not_answered_in_full_has_no_figures(
    alter: Callable[[dict[str, Any]], object], said: str
) -> None:
    level = LEVELS[1]
    with pytest.raises(NotMeasured, match=said):
        read_result(result_file(level, alter), BENCH, level, seed=0)


def test_answers_that_a_real_server_cuts_short_are_no_fast_answers() -> None:
    """Prompt and answer did not fit in the context: vLLM ended the answers, and the tool counted
    every request as completed."""
    bench = BENCH.model_copy(update={"input_tokens": 230, "output_tokens": 64})
    data = (benching.FOLDER / "cut-short.json").read_bytes()
    assert json.loads(data)["completed"] == 8
    with pytest.raises(NotMeasured, match=r"8 of 8 answers .*64 tokens .*the shortest has 24"):
        read_result(data, bench, BenchLevel(concurrency=4, prompts=8), seed=0)


def test_a_real_refusal_is_no_result_though_the_tool_ended_well() -> None:
    """The server answered every prompt with 400, and `vllm bench serve` with exit status 0."""
    bench = BENCH.model_copy(update={"input_tokens": 300})
    data = (benching.FOLDER / "refused.json").read_bytes()
    with pytest.raises(NotMeasured, match="8 of 8 requests failed at 4 at a time: Bad Request"):
        read_result(data, bench, BenchLevel(concurrency=4, prompts=8), seed=0)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"completed": NaN}'])
def test_what_is_no_result_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(NotMeasured, match="cannot be read"):
        read_result(data, BENCH, LEVELS[0], seed=0)


def test_the_tool_is_told_everything_that_decides_the_load() -> None:
    argv = bench_argv(release(), launch(), BENCH, LEVELS[2], seed=7, file="x.json")
    words = " ".join(argv)
    assert words.startswith("vllm bench serve --backend openai --base-url http://127.0.0.1:8000 ")
    for part in (
        "--model tiny-adder --tokenizer /models/tiny-adder",
        f"--random-input-len {BENCH.input_tokens} --random-output-len {BENCH.output_tokens}",
        "--ignore-eos --temperature 0",
        f"--num-prompts {LEVELS[2].prompts} --max-concurrency 16 --seed 7",
        "--metric-percentiles 50,90,99",
    ):
        assert part in words
    assert "--trust-remote-code" not in argv


# ---------------------------------------------------------------- the manifest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"levels": [{"concurrency": 8, "prompts": 4}]}, "4 prompts never are 8 requests"),
        ({"levels": [{"concurrency": 8, "prompts": 99}]}, "beyond percentile 99 of 99 prompts"),
        ({"levels": []}, "at least 1 item"),
        ({"levels": [{"concurrency": 4, "prompts": 200}, {"concurrency": 1, "prompts": 200}]},
         "levels stand in rising order"),
        ({"percentiles": [90, 50]}, "percentiles stand in rising order"),
        ({"percentiles": [100]}, "less than 100"),
        ({"output_tokens": 1}, "greater than or equal to 2"),
    ],
)  # fmt: skip
def test_a_ladder_that_could_not_be_measured_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Bench.model_validate({**BENCH.model_dump(mode="json"), **changes})


def test_the_fewest_prompts_that_are_named_are_enough() -> None:
    for percentile, fewest in ((50, 2), (90, 10), (99, 100), (99.9, 1000)):
        level = BenchLevel(concurrency=1, prompts=fewest)
        Bench(input_tokens=1, output_tokens=2, levels=(level,), percentiles=(percentile,))
        short = BenchLevel(concurrency=1, prompts=fewest - 1)
        with pytest.raises(ValidationError, match=f"at least {fewest},"):
            Bench(input_tokens=1, output_tokens=2, levels=(short,), percentiles=(percentile,))


def _planned(name: str) -> Any:
    project = find_project(builtin_root())
    found = subject(project, project.release(name), Site(kind="site"))
    return BenchStage().plan(Planning(found, {"build": "b" * 64, "weights": "w" * 64}))


def test_a_release_without_vllm_is_not_benched_and_says_why() -> None:
    planned = _planned("deepseek-r1-nvidia_h100-sglang")
    assert isinstance(planned, Skip)
    assert planned.reason == ("the load comes from vLLM's own benchmark, and the engine is sglang")
    planned = _planned("tiny-adder-cpu_x86-dp2")
    assert isinstance(planned, Skip)
    assert planned.reason == "the release declares no benchmark"


def test_the_key_has_the_load_and_how_it_is_served() -> None:
    planned = _planned("tiny-adder-cpu_x86")
    assert not isinstance(planned, Skip)
    other = planned.model_copy(update={"bench": {**planned.bench, "seed": 1}})
    assert BenchStage().key(planned) != BenchStage().key(other)
    assert planned.release["serve"]["args"]["max-num-seqs"] == 32


def test_without_matplotlib_preflight_says_so_before_anything_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert hostcheck.plotter().state == "ok"
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    finding = hostcheck.plotter()
    assert (finding.state, finding.remedy) == ("missing", "pip install 'relforge[bench]'")
    project = find_project(builtin_root())
    found = subject(project, project.release("tiny-adder-cpu_x86"), Site(kind="site"))
    for work, asked in (({"bench": Resources(engine=True)}, True), ({}, False)):
        inputs = Preflight().plan(Planning(found, work=work))
        assert isinstance(inputs, PreflightInputs)
        assert inputs.benches is asked


def test_the_load_in_the_docs_is_that_of_the_release() -> None:
    text = (builtin_root() / "docs" / "benchmarks.md").read_text()
    shown = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    declared = find_project(builtin_root()).release("tiny-adder-cpu_x86").bench
    assert Bench.model_validate(shown["bench"]) == declared


# ---------------------------------------------------------------- the ladder


def _no_line(_line: str) -> None:
    pass


def test_every_level_is_measured_after_a_warm_up_and_none_repeats_a_prompt(tmp_path: Path) -> None:
    container = FakeContainer()
    got, raw = run_ladder(loaded(container, tmp_path), tmp_path / "bench", _no_line)
    assert got.verdict == "pass"
    prompts = LEVELS[0].prompts
    assert container.loads == [
        (16, 32, WARM_UP_SEED), (1, prompts, 0), (4, prompts, 1), (16, prompts, 2)
    ]  # fmt: skip
    assert [level.figures.concurrency for level in got.levels] == [1, 4, 16]
    assert [path.name for path in raw] == [f"concurrency-{c}.json" for c in (1, 4, 16)]
    assert got.settings.tool_version == "0.32.0+cpu"
    assert got.machine.processor == "A processor"
    assert got.levels[0].surroundings.prefix_cache_hit_share == 0.25
    for level, path in zip(got.levels, raw, strict=True):
        assert json.loads(path.read_bytes())["duration"] == level.figures.duration_s
    assert "vllm bench serve" in (tmp_path / "tool.log").read_text()


@pytest.mark.parametrize(
    ("container", "said", "raw_files"),
    [
        (FakeContainer(alter=_failed), "requests failed at 16", 0),
        (FakeContainer(code=2), "exit status 2: .*unrecognized arguments", 0),
        (FakeContainer(ends=True), "the server was killed for memory", 0),
        (FakeContainer(alter=_failed_at_4),
         "2 of .* requests failed at 4", 2),
    ],
)  # fmt: skip
def test_the_first_level_that_fails_ends_it_and_is_the_reason(
    container: FakeContainer, said: str, raw_files: int, tmp_path: Path
) -> None:
    got, raw = run_ladder(loaded(container, tmp_path), tmp_path / "bench", _no_line)
    assert got.verdict == "fail"
    assert re.search(said, got.reason), got.reason
    assert len(raw) == raw_files, "also the file of the failed level is evidence"
    assert len(got.levels) == max(0, raw_files - 1)


def test_a_server_that_never_answers_is_ended_at_the_limit(tmp_path: Path) -> None:
    import threading

    class Stuck(FakeContainer):
        def __init__(self) -> None:
            super().__init__()
            self.gone = threading.Event()

        def _bench(self, argv: list[str]) -> Any:
            assert self.gone.wait(10)
            return super()._bench(argv)

        def kill(self) -> None:
            super().kill()
            self.gone.set()

    server = loaded(Stuck(), tmp_path)
    limited = server.bench.model_copy(update={"level_timeout_s": 0.05})
    server = LoadedServer(**{**vars(server), "bench": limited})
    got, _ = run_ladder(server, tmp_path / "bench", _no_line)
    assert got.verdict == "fail"
    assert got.reason == "32 requests at 16 at a time were not answered within 0.05 s"


def test_an_interrupted_run_is_interrupted_and_no_slow_server(tmp_path: Path) -> None:
    container = FakeContainer(ends=True)
    server = loaded(container, tmp_path)
    server.cancel.cancel("SIGINT")
    with pytest.raises(Cancelled):
        run_ladder(server, tmp_path / "bench", _no_line)
    assert len(container.loads) == 1


def test_what_others_took_from_the_machine_is_what_the_container_did_not_use() -> None:
    before = machine.Moment(at_s=10, busy_s=100, container_s=5)
    after = machine.Moment(at_s=20, busy_s=115, container_s=15)
    assert machine.other_cores(before, after) == pytest.approx(0.5)
    quiet = machine.Moment(at_s=20, busy_s=109.9, container_s=15)
    assert machine.other_cores(before, quiet) == 0, "counters are not read at one instant"
    assert machine.other_cores(before, machine.Moment(20, None, 15)) is None


# ---------------------------------------------------------------- the chart


def test_the_chart_has_every_axis_with_its_unit_and_every_level() -> None:
    picture = svg(report(), "a title")
    root = ET.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    # Text is outlines, which Matplotlib names in comments.
    said = picture.decode()
    for text in ("time to first token, ms", "time between tokens, ms", "output tokens/s",
                 "concurrent requests", "a title", "p50", "p99"):  # fmt: skip
        assert f"<!-- {text} -->" in said, text
    for concurrency in (1, 4, 16):
        assert said.count(f"<!-- {concurrency} -->") >= 3
    assert "http://" not in said.replace("http://www.w3.org/", "").replace(
        "http://purl.org/", ""
    ).replace("http://creativecommons.org/", ""), "it loads nothing"


def test_the_same_figures_give_the_same_picture() -> None:
    assert svg(report(), "t") == svg(report(), "t")
    slower = report().levels[0].figures.model_copy(update={"output_tokens_per_s": 1.0})
    other = report(levels=(report().levels[0].model_copy(update={"figures": slower}),))
    assert svg(other, "t") != svg(report(), "t")


def test_one_level_can_be_drawn() -> None:
    assert svg(report(levels=report().levels[:1]), "t").startswith(b"<?xml")


# ---------------------------------------------------------------- comparisons


def _rules(**changes: Any) -> Rules:
    given: dict[str, Any] = {
        "bench": BENCH, "level": LEVELS[2], "metric": "output_tokens_per_s", "confidence": 0.95,
        "margin_percent": 5.0, "most_blocks": 8, "order_seed": 3,
    }  # fmt: skip
    return Rules(**{**given, **changes})


def _compare(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, a: FakeContainer, b: FakeContainer,
    **changes: Any,
) -> Any:  # fmt: skip
    from contextlib import contextmanager

    from relforge.benching import comparing
    from relforge.cancel import CancelToken

    (tmp_path / "servers").mkdir(exist_ok=True)
    servers = {"a": a, "b": b}

    @contextmanager
    def served(candidate: Candidate, side: str, *_rest: Any) -> Any:
        yield loaded(servers[side], tmp_path / "servers")

    monkeypatch.setattr(comparing, "_served", served)
    candidate = Candidate(label="x", release=release(), spec=launch())
    return compare_servers(
        candidate, candidate, _rules(**changes), engine=None, site=EngineSite(),  # type: ignore[arg-type]
        run_id="r", folder=tmp_path / "out", cancel=CancelToken(), on_line=_no_line,
    )  # fmt: skip


def _noise(seed: int, share: float) -> Callable[[], float]:
    draw = random.Random(seed)
    return lambda: draw.lognormvariate(0, share)


def test_a_slower_server_is_found_on_a_noisy_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a = FakeContainer(noise=_noise(1, 0.05))
    b = FakeContainer(noise=_noise(2, 0.05), slowness=1.5)
    got = _compare(monkeypatch, tmp_path, a, b)
    assert got.conclusion == "slower"
    assert got.primary.b_over_a.low < 1 / 1.5 < got.primary.b_over_a.high
    assert got.blocks in got.looks
    assert got.blocks < 8, "it ends when it is known"
    for metric in got.metrics[1:]:
        assert metric.b_over_a.ratio == pytest.approx(1.5, rel=0.2), "latencies grow"


def test_a_server_against_itself_is_not_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a, b = FakeContainer(noise=_noise(1, 0.1)), FakeContainer(noise=_noise(2, 0.1))
    got = _compare(monkeypatch, tmp_path, a, b)
    assert got.conclusion in ("undecided", "equivalent")
    assert len(got.metrics) == len(metric_names(BENCH)) == 9


def test_both_get_the_same_prompts_alternating_and_none_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a, b = FakeContainer(noise=_noise(1, 0.3)), FakeContainer(noise=_noise(2, 0.3))
    got = _compare(monkeypatch, tmp_path, a, b, most_blocks=4)
    assert a.loads == b.loads
    seeds = [seed for _, _, seed in a.loads]
    assert len(set(seeds)) == len(seeds) == 1 + 2 * got.blocks
    orders = {
        "".join(run.side for run in got.runs if run.block == block) for block in range(got.blocks)
    }
    assert orders <= {"abba", "baab"}
    files = sorted(path.name for path in (tmp_path / "out" / "runs").iterdir())
    assert files == sorted([*(run.file for run in got.runs), "a.json", "b.json"])
    assert {run.file: json.loads((tmp_path / "out/runs" / run.file).read_text())["duration"]
            for run in got.runs} == {
        run.file: run.level.figures.duration_s for run in got.runs
    }  # fmt: skip


def test_the_order_is_drawn_and_can_be_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def order(seed: int) -> str:
        folder = tmp_path / f"{seed}-{random.random()}"
        folder.mkdir()
        # Far too noisy to end before its last block.
        a, b = FakeContainer(noise=_noise(1, 0.5)), FakeContainer(noise=_noise(2, 0.5))
        got = _compare(monkeypatch, folder, a, b, order_seed=seed)
        return "".join(run.side for run in got.runs)

    assert order(1) == order(1)
    assert len({order(seed) for seed in range(4)}) > 1


def test_a_side_that_refuses_work_is_no_fast_side(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    b = FakeContainer(slowness=0.1, alter=_failed)
    with pytest.raises(RelforgeError, match="B did not answer the load") as raised:
        _compare(monkeypatch, tmp_path, FakeContainer(), b)
    assert raised.value.code is ExitCode.GATE
    assert "2 of" in (raised.value.why or "")


# ---------------------------------------------------------------- other settings


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        ("serve.args.max-num-seqs=16", "args", 16),
        ("serve.args.enforce-eager=false", "args", False),
        ('serve.args.compilation-config={"level": 3}', "args", {"level": 3}),
        ("serve.env.OMP_NUM_THREADS=1", "env", "1"),
        ("serve.shm_bytes=123", "shm_bytes", 123),
    ],
)
def test_a_setting_is_changed_and_nothing_else(word: str, field: str, value: Any) -> None:
    made = changed(release(), [word])
    key = word.partition("=")[0].partition(".")[2].partition(".")[2]
    found = getattr(made.serve, field)
    assert (found[key] if key else found) == value
    restored = made.serve.model_copy(update={field: getattr(release().serve, field)})
    assert made.model_copy(update={"serve": restored}) == release()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("max-num-seqs=16", "not serve.FIELD=VALUE"),
        ("serve.args.max-num-seqs", "not serve.FIELD=VALUE"),
        ("build.packages=[]", "not serve.FIELD=VALUE"),
        ("serve.nonsense=1", "serve has no field nonsense"),
        ("serve.port.x=1", "serve has no field port.x"),
        ("serve.shm_bytes=0", "greater than or equal to 1"),
        ("serve.args.max-num-seqs=[", "its value is no YAML"),
        ("serve.args.max-num-seqs=32", "has it already"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(word: str, said: str) -> None:
    with pytest.raises(RelforgeError, match="cannot be done") as raised:
        changed(release(), [word])
    assert raised.value.code is ExitCode.USAGE
    assert said in (raised.value.why or "")


def test_a_report_survives_its_own_evidence_file() -> None:
    assert BenchReport.model_validate_json(report().model_dump_json()) == report()
