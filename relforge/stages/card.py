"""Card: the model card, from evidence alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import InstanceOf

from relforge.evidence.store import Store
from relforge.files import Output, write_atomic
from relforge.frozen import content_key
from relforge.lock import LockedImage, LockedPatchSet, LockedSource
from relforge.manifest.device import Device
from relforge.manifest.model import Model
from relforge.manifest.project import Project
from relforge.manifest.reference import ReferenceFigures
from relforge.manifest.release import Release
from relforge.plan import Planning
from relforge.stage import Job, Skip, Stage, StageContext, StageInputs, StageResult

if TYPE_CHECKING:
    from relforge.card.model import CardData, Language
    from relforge.card.output import Free
    from relforge.card.parts.material import Material

FOLDER = "cards"
"""Of the project: the cards that people keep there, whose free-text blocks a new card keeps."""


class CardInputs(StageInputs):
    """The manifests the card words, and the keys of the results it quotes."""

    build_key: str
    smoke_key: str
    evaluate_key: str | None
    bench_key: str | None
    coverage_key: str | None
    sbom_key: str | None
    scan_key: str | None
    attest_key: str | None
    release: InstanceOf[Release]
    device: InstanceOf[Device]
    model: InstanceOf[Model]
    sources: dict[str, LockedSource]
    patches: dict[str, LockedPatchSet]
    locked_image: LockedImage | None
    references: tuple[InstanceOf[ReferenceFigures], ...]
    lock_sha256: str
    registry: str | None
    sealed: tuple[str, ...]
    skipped: dict[str, str]
    free: dict[str, dict[str, str]]
    """What people wrote into the project's copy of the card, by language and block."""
    translations_key: str
    generator: str
    """Hash of templates and wordings: with other ones the card is written anew."""


class CardResult(StageResult):
    """The files, ``outputs`` by ``names``; ``path`` is a copy in the run that one can open."""

    path: Path
    lines: int
    names: tuple[str, ...]

    def files(self) -> dict[str, Output]:
        """The files by the names that they have in a release's folder."""
        return dict(zip(self.names, self.outputs, strict=True))


class Card(Stage[CardInputs, CardResult]):
    """Reads results, runs nothing."""

    name = "card"
    title = "model card"
    needs = (
        "unpatch", "build", "smoke", "evaluate", "bench", "coverage", "sbom", "scan", "attest",
    )  # fmt: skip
    result_type = CardResult
    revision = 4

    def plan(self, planning: Planning) -> CardInputs | Skip:
        from relforge.card.collect import sealed_sets, skipped
        from relforge.card.fingerprint import generator_sha256
        from relforge.card.output import kept_texts
        from relforge.card.parts.scores import references_of

        subject = planning.subject
        lock = subject.lock
        free: dict[Any, dict[str, str]] = dict(
            kept_texts(subject.project.root / FOLDER / subject.release.name)
        )
        return CardInputs(
            build_key=planning.key("build"),
            smoke_key=planning.key("smoke"),
            evaluate_key=planning.keys.get("evaluate"),
            bench_key=planning.keys.get("bench"),
            coverage_key=planning.keys.get("coverage"),
            sbom_key=planning.keys.get("sbom"),
            scan_key=planning.keys.get("scan"),
            attest_key=planning.keys.get("attest"),
            release=subject.release,
            device=subject.device,
            model=subject.model,
            sources=lock.sources,
            patches=lock.patches,
            locked_image=lock.image,
            references=references_of(subject.project, subject.model),
            lock_sha256=content_key(lock),
            registry=subject.registry,
            sealed=tuple(sorted(sealed_sets(subject))),
            skipped=skipped(planning.skips, subject.release.skip),
            free=free,
            translations_key=subject.project.translations_key,
            generator=generator_sha256(),
        )

    def run(self, job: Job[CardInputs], ctx: StageContext) -> CardResult:
        from relforge.card.gather import gather
        from relforge.card.output import LANGUAGES
        from relforge.stages.bench import BenchResult

        inputs = job.inputs
        project = Project(job.env.project_roots)
        card = gather(material_for(inputs, job.upstream))
        free = cast("Free", inputs.free)
        prose = {lang: project.translations(lang) for lang in LANGUAGES}
        files = written(card, free, prose)
        for name, data in files.items():
            path = job.env.run_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)
        bench = cast("BenchResult | None", job.upstream.get("bench"))
        if bench is not None and bench.chart is not None:
            # Where the card, opened in the run, looks for it.
            (job.env.run_dir / "evidence").mkdir(exist_ok=True)
            write_atomic(job.env.run_dir / "evidence" / "bench.svg", bench.chart.path.read_bytes())
        store = Store(job.env.home)
        path = job.env.run_dir / "README.md"
        ctx.line(f"wrote {path}")
        return CardResult(
            path=path,
            lines=len(files["README.md"].splitlines()),
            names=tuple(files),
            outputs=tuple(store.put_blob(data) for data in files.values()),
        )

    def outcome(self, result: CardResult) -> str:
        return f"{result.lines} lines"


def written(
    card: CardData, free: Free, prose: Mapping[Language, Mapping[str, str]]
) -> dict[str, bytes]:
    """The files of a card, by their names in the release's folder."""
    from relforge.card.output import card_files, cards_of_hubs

    files, _ = card_files(card, free=free, prose=prose)
    return files | cards_of_hubs(card, free=free, prose=prose)


def material_for(inputs: CardInputs, upstream: Mapping[str, StageResult]) -> Material:
    """What a card is made of: also of one that was written elsewhere, and is to be checked."""
    from relforge.card.collect import results_of, trees_of
    from relforge.card.parts.material import Material

    return Material(
        release=inputs.release,
        device=inputs.device,
        model=inputs.model,
        sources=inputs.sources,
        patches=inputs.patches,
        locked_image=inputs.locked_image,
        lock_sha256=inputs.lock_sha256,
        trees=trees_of(inputs.sources, inputs.patches, upstream.get("unpatch")),
        sealed=frozenset(inputs.sealed),
        why_not=inputs.skipped,
        references=inputs.references,
        registry=inputs.registry,
        **results_of(upstream),
    )
