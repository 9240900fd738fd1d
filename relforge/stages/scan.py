"""Scan: nothing is published that gives secrets, sealed sources or the maker's hosts away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Store
from relforge.frozen import Frozen, canonical_json
from relforge.plan import Planning, Subject
from relforge.stage import (
    Job,
    Resources,
    Skip,
    Stage,
    StageContext,
    StageEnv,
    StageInputs,
    StageResult,
)
from relforge.stages.build import BuildResult
from relforge.stages.unpatch import UnpatchInputs, UnpatchResult, recipe_of

if TYPE_CHECKING:
    from relforge.scanning.hits import ContentReport
    from relforge.scanning.sealed import SealedMarkers

_GB = 10**9
_EVIDENCE = ("render", "smoke", "evaluate", "bench", "coverage", "sbom")
CONTENT, VULNERABILITIES = "content-scan.json", "vulnerabilities.json"


class KeptBack(Frozen):
    """A sealed patch set that the image may not ship whole, by content."""

    name: str
    content: str
    ships: Literal["none", "binaries"]
    result_tree: str | None


class ScanInputs(StageInputs):
    """What is searched, and what for.

    What the site denies, and its own secrets, are no part of a key: keys are published.
    """

    build_key: str
    evidence_keys: dict[str, str]
    kept_back: tuple[KeptBack, ...]
    vulnerability_scanner: str | None
    scanner: str
    """Hash of relforge's scanner and of the programs that it calls."""


class VulnerabilityState(Frozen):
    """Whether a scanner looked for known vulnerabilities, and how many it found by severity."""

    state: Literal["run", "not-run"]
    reason: str
    scanner: str | None = None
    database: str | None = None
    counts: dict[str, int] = {}


class ScanResult(StageResult):
    """``outputs`` are content-scan.json and, where a scanner ran, vulnerabilities.json.

    ``bytes`` are unpacked.
    """

    image_digest: str
    files: int
    bytes: int
    hits: int
    let: int
    looked_for: str
    """Stands for the site's own secrets and its policy; nothing can be guessed from it."""
    vulnerabilities: VulnerabilityState

    def evidence(self) -> dict[str, Path]:
        paths = (output.path for output in self.outputs)
        return dict(zip((CONTENT, VULNERABILITIES), paths, strict=False))

    def attested(self) -> dict[str, dict[str, Any]]:
        """What a scanner found, where one ran."""
        from relforge.attesting import predicates
        from relforge.attesting.vulns import vulnerability_predicate
        from relforge.scanning.vulnerabilities import Vulnerabilities

        if self.vulnerabilities.state != "run":
            return {}
        known = Vulnerabilities.model_validate_json(self.outputs[1].path.read_bytes())
        return {predicates.VULNERABILITIES: vulnerability_predicate(known)}


class Scan(Stage[ScanInputs, ScanResult]):
    """Reads every layer, the configuration and the evidence; a hit blocks what follows."""

    name = "scan"
    title = "content scan"
    needs = ("unpatch", "build", *_EVIDENCE)
    result_type = ScanResult

    def plan(self, planning: Planning) -> ScanInputs | Skip:
        from relforge.scanning.looking import scanner_key

        subject = planning.subject
        if (reason := subject.release.skip.get("scan")) is not None:
            return Skip(kind="not-needed", reason=reason)
        return ScanInputs(
            build_key=planning.key("build"),
            evidence_keys={n: planning.keys[n] for n in _EVIDENCE if n in planning.keys},
            kept_back=tuple(_kept_back(planning)),
            vulnerability_scanner=subject.site.publish.vulnerability_scanner,
            scanner=scanner_key(),
        )

    def resources(self, inputs: ScanInputs) -> Resources:  # noqa: ARG002
        return Resources(memory_bytes=_GB)

    def secrets(self, inputs: ScanInputs, subject: Subject) -> tuple[str, ...]:  # noqa: ARG002
        return ("identities",) if inputs.kept_back else ()

    def run(self, job: Job[ScanInputs], ctx: StageContext) -> ScanResult:
        from relforge.engine.layout import describe, first_alone
        from relforge.publishing.evidencefiles import evidence_of
        from relforge.scanning.files import search_files
        from relforge.scanning.hits import ContentReport
        from relforge.scanning.image import layer_reports, search_config
        from relforge.scanning.looking import LookedFor, detectors, shown_policy
        from relforge.scanning.seeking import Finder
        from relforge.scanning.vulnerabilities import scan_vulnerabilities
        from relforge.workarea import work_area

        inputs, env = job.inputs, job.env
        build = cast(BuildResult, job.upstream["build"])
        facts = describe(build.layout, code=ExitCode.GATE)
        looked_for = LookedFor(env.site, env.home, env.project_roots)
        finder = Finder(
            looked_for.searcher,
            looked_for.policy,
            sealed=tuple(_opened(job, ctx)),
            cancel=ctx.cancel,
        )
        sealed = {one.name: one.ships for one in inputs.kept_back}
        layers = tuple(
            layer_reports(
                build.layout,
                finder,
                cache=env.home / "scan" / "layers",
                policy_key=looked_for.key(
                    {one.name: f"{one.ships} {one.content}" for one in inputs.kept_back}
                ),
                locks=env.home / "locks",
                line=ctx.line,
                cancel=ctx.cancel,
            )
        )
        config = search_config(build.layout, finder, facts)
        evidence = search_files(
            {
                f"evidence/{name}": output.path
                for files in evidence_of(job.upstream).values()
                for name, output in files.items()
            },
            finder,
        )
        parts = (*(layer.searched for layer in layers), config, evidence)
        report = ContentReport(
            image_digest=build.image_digest,
            verdict="fail" if any(part.hits for part in parts) else "pass",
            detectors=detectors(),
            looked_for=looked_for.values.counts,
            policy=shown_policy(looked_for.policy),
            sealed=dict(sorted(sealed.items())),
            layers=layers,
            config=config,
            evidence=evidence,
        )
        with work_area(env.home, "scan") as area, first_alone(build.layout, area) as layout:
            known = scan_vulnerabilities(
                layout,
                build.image_digest,
                wanted=inputs.vulnerability_scanner,
                cancel=ctx.cancel,
                line=ctx.line,
            )
        store = Store(env.home)
        for hit in report.hits:
            ctx.line(f"hit: {hit.shown()}")
        return ScanResult(
            verdict=report.verdict,
            reason=_reason(report),
            image_digest=build.image_digest,
            files=sum(part.files for part in parts),
            bytes=sum(part.bytes for part in parts),
            hits=len(report.hits),
            let=sum(len(part.let) for part in parts),
            looked_for=looked_for.values.fingerprint(env.home, looked_for.policy, whole=False),
            vulnerabilities=VulnerabilityState(
                **known.model_dump(include=set(VulnerabilityState.model_fields))
            ),
            outputs=tuple(
                store.put_blob(canonical_json(part))
                for part in ((report, known) if known.state == "run" else (report,))
            ),
        )

    def unusable(self, result: ScanResult, subject: Subject) -> str | None:
        from relforge.manifest.site_file import home_folder
        from relforge.scanning.values import here
        from relforge.scanning.vulnerabilities import find_scanner, no_scanner

        wanted = subject.site.publish.vulnerability_scanner
        state = result.vulnerabilities
        if state.reason == no_scanner(wanted) and find_scanner(wanted) is not None:
            return "a scanner for vulnerabilities is there now"
        site = subject.site
        known = here(site).fingerprint(home_folder(site), site.publish.content, whole=False)
        return None if known == result.looked_for else "this site has other things to look for"

    def outcome(self, result: ScanResult) -> str:
        return f"{result.reason}; vulnerabilities: {result.vulnerabilities.reason}"


def _kept_back(planning: Planning) -> list[KeptBack]:
    unpatch = planning.inputs.get("unpatch")
    sets = unpatch.sets if isinstance(unpatch, UnpatchInputs) else ()
    return [
        KeptBack(
            name=one.name,
            content=one.content,
            ships="none" if one.ships == "none" else "binaries",
            result_tree=one.result_tree,
        )
        for one in sets
        if one.sealed and one.ships != "python"
    ]


def _opened(job: Job[ScanInputs], ctx: StageContext) -> list[SealedMarkers]:
    """What gives away each sealed set that is kept back; nothing of it is written anywhere."""
    from relforge.scanning.opening import markers_of

    unpatch = job.upstream.get("unpatch")
    applied = {s.name: s for s in unpatch.sets} if isinstance(unpatch, UnpatchResult) else {}
    return [
        markers_of(
            one.name,
            one.ships,
            recipe_of(applied[one.name], job.env),
            home=job.env.home,
            cancel=ctx.cancel,
            line=ctx.line,
        )
        for one in job.inputs.kept_back
    ]


def require_shippable(
    env: StageEnv, image_digest: str, scan: StageResult | None, files: Mapping[str, Path]
) -> None:
    """Raises RelforgeError (GATE) unless the scan passed on this image, and nothing is in the
    ``files`` (cards and evidence, by their published names) either."""
    from relforge.scanning.files import search_files
    from relforge.scanning.folder import require_none
    from relforge.scanning.looking import LookedFor
    from relforge.scanning.seeking import Finder

    known = scan if isinstance(scan, ScanResult) else None
    if known is None or known.verdict != "pass" or known.image_digest != image_digest:
        raise RelforgeError(
            f"{env.release} is not published: the content scan did not pass on this image",
            code=ExitCode.GATE,
            why=known.reason
            if known
            else "nothing shows that the image holds no secret, and no sealed source that may not "
            "be shipped",
            hint=f"relforge release --release {env.release} scans it, where the manifest does not "
            "skip `scan`",
        )
    looked_for = LookedFor(env.site, env.home, env.project_roots)
    found = search_files(files, Finder(looked_for.searcher, looked_for.policy))
    require_none(found.hits, name=env.release)


def _reason(report: ContentReport) -> str:
    from relforge.scanning.folder import shown_hits
    from relforge.ui.text import size

    parts = (*(layer.searched for layer in report.layers), report.config, report.evidence)
    searched = (
        f"{sum(part.files for part in parts):,} files, {size(sum(part.bytes for part in parts))} "
        f"in {len(report.layers)} layers and evidence"
    )
    if report.hits:
        return f"{len(report.hits)} hits in {searched}\n{shown_hits(report.hits)}"
    let = sum(len(part.let) for part in parts)
    return f"nothing found in {searched}" + (f"; {let} let through" if let else "")
