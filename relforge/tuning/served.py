"""Verdicts of a release's image, started with other operators disabled each time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Store
from relforge.manifest.release import Release
from relforge.manifest.smoke import ProbeName
from relforge.serving.inputs import ServingInputs, launch
from relforge.serving.model import LaunchSpec
from relforge.serving.probes import PROBES, Target, run_probes
from relforge.serving.reference import GreedyText
from relforge.serving.report import ProbeResult
from relforge.serving.smoke import Served, serve_context
from relforge.serving.wait import NotReady
from relforge.stage import Job, StageContext
from relforge.tuning.asking import BOTH, Asked, Found
from relforge.tuning.questions import Questions
from relforge.tuning.settings import printed_operators, tuning_of, with_disabled

JUDGING: frozenset[ProbeName] = frozenset(
    {
        "models", "completion", "greedy-text", "repeat", "chat", "stream", "logprobs", "garble",
        "long-prompt", "concurrent", "after-load",
    }
)  # fmt: skip
"""Probes that read answers. Whether FlagGems is active, how faulty requests are refused and how the
server stops is no matter of single operators."""


@dataclass(frozen=True)
class ServedModel:
    """The image behind an ``Evaluate``: smoke's questions first, then those of the evaluation.

    ``questions`` None: the verdict is smoke's alone.
    """

    job: Job[ServingInputs]
    ctx: StageContext
    release: Release
    already_disabled: tuple[str, ...]
    greedy: tuple[GreedyText, ...]
    languages: tuple[str, ...]
    questions: Questions | None
    work: Path

    @property
    def levels(self) -> int:
        return len(self.questions.sizes) if self.questions is not None else 1

    def operators(self) -> tuple[str, ...]:
        """What the image's own list says. Raises RelforgeError (USAGE, ENVIRONMENT, GATE)."""
        from relforge.engine.containers import running

        tuning = tuning_of(self.release)
        log = self.work / "logs" / "operators.log"
        with launch(self.job, self.ctx) as (engine, spec, _):
            node = spec.nodes[0].model_copy(
                update={"argv": tuning.list_command, "ports": (), "healthcheck": False}
            )
            with running(
                engine,
                node,
                run_id=self.job.env.run_id,
                release=self.release.name,
                log_path=log,
            ) as container:
                deadline = time.monotonic() + tuning.list_timeout_s
                while not container.exited.is_set() and time.monotonic() < deadline:
                    self.ctx.cancel.sleep(0.1)
                ended, state, text = (
                    container.exited.is_set(),
                    container.state(),
                    container.log_text(),
                )
        if not ended or state.exit_code != 0:
            raise RelforgeError(
                "the image does not list its operators",
                code=ExitCode.GATE,
                where=f"release {self.release.name}, tuning.list_command",
                why=f"the command {state.shown()}"
                if ended
                else f"the command takes longer than {tuning.list_timeout_s:g} s",
                hint="read its log, or name the operators with --operators FILE",
                log=str(log),
            )
        return printed_operators(text, f"release {self.release.name}, tuning.list_command")

    def evaluate(self, asked: Asked) -> Found:
        """Starts the server with these operators disabled, and asks it.

        A server that does not come up, or dies, fails; what the host cannot do is raised.
        """
        started = time.monotonic()
        found = self._verdict(asked)
        return dataclasses.replace(found, seconds=time.monotonic() - started)

    def _verdict(self, asked: Asked) -> Found:
        disabled = (*self.already_disabled, *sorted(asked.disabled))
        release = with_disabled(self.release, disabled).model_dump(mode="json")
        inputs = self.job.inputs
        job = dataclasses.replace(
            self.job,
            inputs=inputs.model_copy(
                update={"release": inputs.release | {"serve": release["serve"]}}
            ),
        )
        log = self.work / "logs" / f"server-{len(list((self.work / 'logs').glob('server-*')))}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with launch(job, self.ctx) as (engine, spec, _):
            try:
                with serve_context(
                    spec,
                    engine,
                    run_id=self.job.env.run_id,
                    log_path=log,
                    cancel=self.ctx.cancel,
                    request_timeout_s=self.release.smoke.request_timeout_s,
                    site=self.job.env.site.engine,
                ) as served:
                    smoke = self._smoke(served, spec, asked)
                    if smoke.outcome == "fail" or self.questions is None:
                        return smoke
                    return self._evaluated(self.questions, served, spec.served_name, asked)
            except NotReady as never:
                return Found(
                    "fail", _said(never.what, never.cause.explanation if never.cause else never.why)
                )

    def _smoke(self, served: Served, spec: LaunchSpec, asked: Asked) -> Found:
        greedy = self.greedy
        if self.questions is None and asked.part != BOTH and len(greedy) > 1:
            greedy = greedy[asked.part :: 2]
        target = Target(
            served.client,
            served.container,
            self.release.smoke,
            tuple(greedy),
            languages=self.languages,
            traits=spec.traits,
        )
        probes = tuple(probe for probe in PROBES if probe.name in JUDGING)
        results = run_probes(target, probes, cancel=self.ctx.cancel)
        failed = next((result for result in results if result.verdict == "fail"), None)
        evidence = Store(self.job.env.home).put_blob(_lines(results)).sha256
        if failed is not None:
            return Found("fail", f"smoke, {failed.name}: {failed.reason}"[:300], evidence=evidence)
        passed = sum(result.verdict == "pass" for result in results)
        return Found("pass", f"smoke: {passed} probes pass", n=len(greedy), evidence=evidence)

    def _evaluated(
        self, questions: Questions, served: Served, served_name: str, asked: Asked
    ) -> Found:
        from relforge.evaluation.compare import compare
        from relforge.evaluation.evidence import evidence_bytes
        from relforge.evaluation.harness.driver import LmEval

        work = self.work / "lm-eval"
        work.mkdir(parents=True, exist_ok=True)
        request = questions.request(asked)
        try:
            done = LmEval(work).evaluate(
                served.base_url, served_name, request, cancel=self.ctx.cancel
            )
        except RelforgeError as failed:
            if failed.code != ExitCode.GATE:
                raise
            return Found("fail", _said(failed.what, failed.why), n=0)
        result = done.result
        comparison = compare(
            questions.reference.only(outcome.id for outcome in result.outcomes),
            result,
            margin_points=questions.evaluation.margin_points,
        )
        outcome = comparison.verdict
        assert outcome != "not-run"
        evidence = Store(self.job.env.home).put_blob(evidence_bytes(result)).sha256
        return Found(outcome, comparison.reason, n=comparison.n, evidence=evidence)


def _said(what: str, why: str | None) -> str:
    first = (why or "").strip().splitlines()[:1]
    return ": ".join([what, *first])[:300]


def _lines(results: Sequence[ProbeResult]) -> bytes:
    return b"".join(result.model_dump_json().encode() + b"\n" for result in results)
