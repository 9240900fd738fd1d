"""A whole release without an engine: real plan, real evidence, attested, published, sealed.

The image is made by hand. Its evaluation is the project's own reference with a few answers changed,
its benchmark what ``vllm bench serve`` once wrote, its coverage a count of a small forward pass.
All else (statements, cards, record, folder) is made by the stages themselves, so that verifying it
reads what the pipeline writes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from relforge.attesting.sealing import seal_release
from relforge.attesting.signing import SigningKey
from relforge.benching.chart import svg
from relforge.benching.tool import read_result
from relforge.building.inputs import BuildInputs
from relforge.building.merging import with_others
from relforge.cancel import CancelToken
from relforge.coverage.evidence import load_coverage
from relforge.coverage.rows import summary_rows
from relforge.evaluation.evidence import evidence_bytes, load_reference
from relforge.evaluation.gate import Measured, against, together
from relforge.evaluation.interface import Evaluated
from relforge.events import Verdict
from relforge.evidence.dsse import TrustedSigner
from relforge.evidence.record import write_record
from relforge.evidence.runs import ReleaseRun, StageEntry
from relforge.evidence.store import Store
from relforge.manifest.build import OtherImage
from relforge.manifest.project import builtin_root, find_project
from relforge.manifest.publishing import LicensePolicy, PublishSite, SigningSite
from relforge.manifest.site import Site
from relforge.pipeline import STAGES
from relforge.plan import ReleasePlan, make_plan, subject
from relforge.rendering import labels
from relforge.sbom.evidence import Licences, PackageRow
from relforge.serving.report import ProbeResult
from relforge.stage import Job, StageContext, StageEnv, StageResult
from relforge.stages.bench import BenchResult
from relforge.stages.build import BuildResult
from relforge.stages.coverage import CoverageResult
from relforge.stages.evaluate import EvaluateResult
from relforge.stages.sbom import SbomResult
from relforge.stages.smoke import SmokeResult
from relforge.stages.unpatch import AppliedSet, UnpatchInputs, UnpatchResult
from relforge.stages.weights import WeightsResult
from tests.support import benching
from tests.support.published import RELEASE, make_image
from tests.support.signed import CYCLONEDX, SPDX, key_file
from tests.unit.test_card import build, smoke

QUESTIONS = 1000
WRONG = 4
"""Answers of the reference that this image gets wrong, and it did not."""
_COVERAGE = {
    "format": "relforge.coverage/1", "date": None, "forward": "vllm",
    "model": {"name": "tiny-adder", "parameters": 493696, "shape": {"layers": 2}},
    "settings": {
        "dtype": "float32", "seed": 0, "attention": "CPU_ATTN", "prompt_tokens": 32,
        "decode_steps": 8, "greedy_tokens": 0, "exclude": [], "passes": 9, "ranks": 1,
    },
    "versions": {
        "python": "3.11.2", "torch": "2.13.0+cpu", "triton": None, "flag_gems": "5.0.2",
        "transformers": "5.19.0", "vllm": "0.32.0+cpu",
    },
    "device": {"kind": "cpu", "name": "x86_64", "driver": None},
    **{
        part: {"not_run": "measured as it is served"}
        for part in ("native", "flag_gems", "accuracy", "agreement")
    },
    "shares": {"not_run": "no accelerator"},
    "served": {
        "operators": [
            {"name": "aten::add", "calls": 18, "registered": False, "device": None},
            {"name": "aten::mm", "calls": 73, "registered": False, "device": None},
        ],
        "unattributed_us": None,
    },
}  # fmt: skip


@dataclass
class Releaser:
    """Makes releases of one project in a home of its own, all signed with one key."""

    root: Path
    site: Site
    project_roots: tuple[Path, ...] = field(default_factory=lambda: (builtin_root(),))

    @classmethod
    def at(cls, root: Path, *, key: Path | None = None, signs: bool = True) -> Releaser:
        root.mkdir(parents=True, exist_ok=True)
        file = key or (key_file(root / "maker.pem") if signs else None)
        return cls(root, Site(publish=PublishSite(signing=file and SigningSite(key=file))))

    @property
    def key(self) -> SigningKey:
        found = SigningKey.load(self.site)
        assert found is not None
        return found

    @property
    def trusted(self) -> tuple[TrustedSigner, ...]:
        return (TrustedSigner("maker", self.key.public),)

    def public_key(self, path: Path) -> Path:
        path.write_bytes(self.key.public_pem)
        return path

    def release(
        self,
        dist: Path,
        *,
        word: bytes = b"hello",
        wrong: int = WRONG,
        verdicts: Mapping[str, Verdict] | None = None,
        architecture: str = "amd64",
        also: tuple[OtherImage, ...] = (),
    ) -> Path:
        """Writes ``dist/<release>``. Another ``word`` is another image, another number of ``wrong``
        answers is another record of the same image. ``also``: images for other architectures."""
        plan = self.plan()
        results = self.results(plan, word, wrong, architecture)
        results["build"] = self._with(plan, results["build"], also)
        for name, verdict in (verdicts or {}).items():
            results[name] = results[name].model_copy(update={"verdict": verdict})
        for name in ("scan", "attest", "card", "publish"):
            stage = next(one for one in STAGES if one.name == name)
            env = StageEnv(
                home=self.root / "home", project_roots=self.project_roots, site=self.site,
                run_id="run", run_dir=self._run_dir(), release=RELEASE, dist=dist,
            )  # fmt: skip
            job = Job(name, "0" * 64, plan.inputs[name], results, env)
            results[name] = stage.run(job, StageContext(RELEASE, name, CancelToken()))
        entries = (
            StageEntry(name=name, status="ran", seconds=1.0, verdict=result.verdict)
            for name, result in results.items()
        )
        write_record(
            plan, "20260101T000000Z-000001", ReleaseRun(release=RELEASE, stages=tuple(entries)),
            results, dist=dist, store=Store(self.root / "home"),
        )  # fmt: skip
        seal_release(dist / RELEASE, SigningKey.load(self.site))
        return dist / RELEASE

    def plan(self) -> ReleasePlan:
        project = find_project(self.project_roots[0])
        about = subject(project, project.release(RELEASE), self.site)
        return make_plan(about, STAGES, Store(self.root / "home"))

    def _with(
        self, plan: ReleasePlan, built: StageResult, also: tuple[OtherImage, ...]
    ) -> BuildResult:
        env = StageEnv(
            home=self.root / "home", project_roots=self.project_roots, site=self.site,
            run_id="run", run_dir=self._run_dir(), release=RELEASE, dist=self.root,
        )  # fmt: skip
        inputs = cast(BuildInputs, plan.inputs["build"]).model_copy(update={"also": also})
        job = Job("build", "0" * 64, inputs, {}, env)
        return with_others(
            cast(BuildResult, built), job, StageContext(RELEASE, "build", CancelToken())
        )

    def results(
        self, plan: ReleasePlan, word: bytes, wrong: int, architecture: str = "amd64"
    ) -> dict[str, StageResult]:
        """What the stages before ``attest`` found, of an image with this word in it."""
        store = Store(self.root / "home")
        about = plan.subject
        layout = self.root / f"layout-{word.decode()}-{time.time_ns()}"
        facts = make_image(
            layout,
            layers=({"opt/kernels.so": bytes(2000)}, {"opt/hello.py": word}),
            labels=labels(about),
            architecture=architecture,
        )
        planned = cast(BuildInputs, plan.inputs["build"])
        built = BuildResult.model_validate(
            {
                **build().model_dump(), "layout": layout, "image_digest": facts.digest,
                "config_digest": facts.config_digest, "labels": facts.labels,
                "architecture": architecture, "compressed_bytes": facts.size_bytes,
                "licenses": {"torch": "BSD-3-Clause"},
                "layers": [layer.digest for layer in facts.layers],
                "packages": [one.model_dump() for one in planned.packages],
            }
        )  # fmt: skip
        project = about.project
        weights = WeightsResult(
            folder=project.path("examples/tiny-adder"), total_bytes=1, verified=True,
            origin="the project's folder", found=(),
        )  # fmt: skip
        unpatch = cast(UnpatchInputs, plan.inputs["unpatch"])
        sets = tuple(
            AppliedSet(**one.model_dump(), device="cpu_x86", signer=None, patches=3, files=4)
            for one in unpatch.sets
        )
        return {
            "weights": weights,
            "unpatch": UnpatchResult(sets=sets),
            "build": built,
            "smoke": _smoke(store, facts.digest),
            "evaluate": self._evaluate(store, plan, wrong),
            "bench": _bench(store, facts.digest),
            "coverage": self._coverage(store),
            "sbom": _sbom(store, facts.digest),
        }

    def _evaluate(self, store: Store, plan: ReleasePlan, wrong: int) -> EvaluateResult:
        model = plan.subject.model
        assert model.reference is not None
        path = plan.subject.project.path(model.reference.path)
        reference = load_reference(path, sha256=model.reference.sha256)
        changed = 0
        outcomes = []
        asked = reference.only(one.id for one in reference.outcomes[:QUESTIONS])
        for outcome in asked.outcomes:
            falls = outcome.correct and changed < wrong
            changed += falls
            alike = {"correct": False, "answer": "0"} if falls else {}
            outcomes.append(outcome.model_copy(update=alike))
        result = asked.model_copy(update={"outcomes": tuple(outcomes), "seconds": 12.5})
        measured = Measured(name=model.reference.path, result=reference)
        compared = against(measured, Evaluated(result=result, from_earlier=0), margin_points=2)
        gate = together([compared])
        return EvaluateResult(
            verdict=gate.verdict, reason=gate.reason, tasks=gate.tasks,
            conclusion=gate.conclusion, seconds=12.5,
            outputs=(store.put_blob(evidence_bytes(result)), store.put_blob(b"a server's log\n")),
        )  # fmt: skip

    def _coverage(self, store: Store) -> CoverageResult:
        file = store.put_blob(json.dumps(_COVERAGE).encode())
        evidence = load_coverage(file.path)
        run = evidence.main
        return CoverageResult(
            verdict="pass", reason="counted", summary=summary_rows(evidence),
            operators=len(run.operators), calls=sum(one.calls for one in run.operators),
            shares=evidence.shares, outputs=(file, store.put_blob(b"a probe's log\n")),
        )  # fmt: skip

    def _run_dir(self) -> Path:
        path = self.root / "run"
        path.mkdir(exist_ok=True)
        return path


def _smoke(store: Store, digest: str) -> SmokeResult:
    probes = (
        ProbeResult(name="health", verdict="pass", reason="", seconds=1),
        ProbeResult(name="device", verdict="not-run", reason="no accelerator", seconds=0),
    )
    found = smoke(probes=probes, image_id=digest, reason="1 of 2 probes passed, none failed")
    text = found.report.model_dump_json(indent=1, exclude={"server_log"}).encode() + b"\n"
    outputs = (store.put_blob(text), store.put_blob(b"the server is ready\n"))
    return found.model_copy(update={"outputs": outputs, "reason": found.report.reason})


def _sbom(store: Store, digest: str) -> SbomResult:
    row = PackageRow(
        kind="python", name="torch", version="2.13.0", licence="BSD-3-Clause", basis="stated",
        path="opt/torch", layer="sha256:" + "0" * 64,
    )  # fmt: skip
    table = Licences(
        release=RELEASE, image_digest=digest, packages=(row,), sources=(), texts={},
        counts={"python": 1}, licences=1, unstated=0, unidentified=0, policy=LicensePolicy(),
        hits=(),
    )  # fmt: skip
    documents = (SPDX, CYCLONEDX, table.model_dump_json(indent=1).encode() + b"\n")
    return SbomResult(
        verdict="pass", reason="1 package", tool="syft 1.42.3", packages={"python": 1}, licences=1,
        python_licences={"torch": "BSD-3-Clause"},
        outputs=tuple(store.put_blob(data) for data in documents),
    )  # fmt: skip


def _bench(store: Store, digest: str) -> BenchResult:
    raw = [benching.result_file(level) for level in benching.LEVELS]
    levels = [
        benching.report()
        .levels[number]
        .model_copy(update={"figures": read_result(data, benching.BENCH, level, seed=number)})
        for number, (level, data) in enumerate(zip(benching.LEVELS, raw, strict=True))
    ]
    report = benching.report(image_id=digest, levels=tuple(levels))
    outputs = [
        store.put_blob(report.model_dump_json(indent=1).encode() + b"\n"),
        store.put_blob(b"the log of the benched server\n"),
        store.put_blob(b"what the load generator printed\n"),
        *(store.put_blob(data) for data in raw),
        store.put_blob(svg(report, "latency and throughput")),
    ]
    return BenchResult(
        verdict="pass", reason=report.reason, report=report, drawn=True, outputs=tuple(outputs)
    )
