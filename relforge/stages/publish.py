"""Publish: copies what was tested to where people get it; builds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from relforge.errors import ExitCode, RelforgeError
from relforge.files import Output, stamp
from relforge.manifest.weights import LocalWeights
from relforge.plan import Planning, Subject
from relforge.publishing.published import CONTENTS
from relforge.stage import Job, Skip, Stage, StageContext, StageInputs, StageResult
from relforge.stages.build import BuildResult
from relforge.stages.card import CardResult
from relforge.stages.scan import require_shippable
from relforge.stages.weights import WeightsResult

if TYPE_CHECKING:
    from relforge.engine.attached import Attachment
    from relforge.publishing.folder import FolderResult
    from relforge.stages.attest import AttestResult


class PublishInputs(StageInputs):
    """The tested results, and the targets."""

    build_key: str
    smoke_key: str
    evaluate_key: str | None
    bench_key: str | None
    coverage_key: str | None
    sbom_key: str | None
    scan_key: str | None
    attest_key: str | None
    card_key: str
    local_weights: dict[str, str]
    """The hash of each file of a model that lies in the project; other models have a hub."""


class PublishResult(StageResult):
    """Where the release lies. ``outputs`` are the files of its folder."""

    folder: Path
    image_digest: str


class Publish(Stage[PublishInputs, PublishResult]):
    """An OCI layout folder with card and evidence; ``relforge promote`` and others send it on."""

    name = "publish"
    revision = 4
    title = "publication"
    needs = (
        "weights", "unpatch", "render", "build", "smoke", "evaluate", "bench", "coverage", "sbom",
        "scan", "attest", "card",
    )  # fmt: skip
    result_type = PublishResult

    def plan(self, planning: Planning) -> PublishInputs | Skip:
        weights = planning.subject.model.weights
        return PublishInputs(
            build_key=planning.key("build"),
            smoke_key=planning.key("smoke"),
            evaluate_key=planning.keys.get("evaluate"),
            bench_key=planning.keys.get("bench"),
            coverage_key=planning.keys.get("coverage"),
            sbom_key=planning.keys.get("sbom"),
            scan_key=planning.keys.get("scan"),
            attest_key=planning.keys.get("attest"),
            card_key=planning.key("card"),
            local_weights=weights.files if isinstance(weights, LocalWeights) else {},
        )

    def run(self, job: Job[PublishInputs], ctx: StageContext) -> PublishResult:
        from relforge.attesting.attaching import attachments_of, image_of
        from relforge.engine.attached import load_attached
        from relforge.engine.layout import describe
        from relforge.publishing.evidencefiles import evidence_of
        from relforge.publishing.folder import publish_folder

        env = job.env
        build = cast(BuildResult, job.upstream["build"])
        card = cast(CardResult, job.upstream["card"])
        evidence = {
            name: output.path
            for files in evidence_of(job.upstream).values()
            for name, output in files.items()
        }
        cards = {name: output.path for name, output in card.files().items()}
        require_shippable(
            env,
            build.image_digest,
            job.upstream.get("scan"),
            {**cards, **{f"evidence/{name}": path for name, path in evidence.items()}},
        )
        image = image_of(describe(build.layout, code=ExitCode.PUBLISH))
        attested = cast("AttestResult | None", job.upstream.get("attest"))
        attachments = (
            *attachments_of(image, attested, job.upstream.get("sbom")),
            *load_attached(build.layout),
        )
        done = publish_folder(
            build.layout,
            cards=cards,
            evidence=evidence,
            weights=_local_weights(job),
            record=None,
            target=env.dist / env.release,
            # `docker load` of the folder then gives the very name that the card uses.
            tag=build.image_name,
            attachments=attachments,
        )
        ctx.line(f"{done.path}: {'written' if done.written else 'was there already'}")
        return PublishResult(
            folder=done.path,
            image_digest=done.image_digest,
            outputs=_stamps(done, attachments),
        )

    def secrets(self, inputs: PublishInputs, subject: Subject) -> tuple[str, ...]:
        # The record that follows is signed, whatever else has to run.
        signs = inputs.attest_key is not None and subject.site.publish.signing is not None
        return ("signing",) if signs else ()

    def unusable(self, result: PublishResult, subject: Subject) -> str | None:
        if subject.dist is not None and result.folder != subject.dist / subject.release.name:
            return f"was published to {result.folder}"
        if (fault := _fault(result)) is not None:
            return fault
        return None

    def outcome(self, result: PublishResult) -> str:
        return str(result.folder)


def _fault(result: PublishResult) -> str | None:
    """What is wrong with the part of the layout that changes after this stage."""
    from relforge.engine.attached import read_attached
    from relforge.engine.layout import describe

    try:
        facts = describe(result.folder / "image", code=ExitCode.PUBLISH)
        read_attached(result.folder / "image")
    except RelforgeError as error:
        return error.why or error.what
    return None if facts.digest == result.image_digest else f"the folder holds {facts.digest}"


def _local_weights(job: Job[PublishInputs]) -> dict[str, Path]:
    if not job.inputs.local_weights:
        return {}
    fetched = cast(WeightsResult, job.upstream["weights"])
    return {name: fetched.folder / name for name in job.inputs.local_weights}


def _stamps(done: FolderResult, attachments: Sequence[Attachment]) -> tuple[Output, ...]:
    """What this stage wrote and nobody changes afterwards.

    The record is written after it, and signing the release changes the index of the layout and the
    manifests of what is attached: `is_sealed` looks at those.
    """
    from relforge.engine.blobs import blob_path
    from relforge.engine.layout import describe

    layout = done.path / "image"
    blobs = {*describe(layout).blobs, *(blob for one in attachments for blob in one.blobs)}
    hashed = {
        **{done.path / name: digest for name, digest in done.files.items()},
        **{blob_path(layout, digest): digest.removeprefix("sha256:") for digest in blobs},
    }
    others = (layout / "oci-layout", done.path / CONTENTS)
    return (
        *(stamp(path, sha256=digest) for path, digest in sorted(hashed.items())),
        *(stamp(path) for path in others),
    )
