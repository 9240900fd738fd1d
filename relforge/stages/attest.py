"""Attest: what was found about the digest becomes statements, signed where there is a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import InstanceOf

from relforge.attesting import predicates
from relforge.attesting.attachments import CYCLONEDX, SPDX
from relforge.attesting.predicates import envelope_name
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Record, Store
from relforge.files import Output
from relforge.frozen import Frozen
from relforge.lock import Lock
from relforge.manifest.fileversion import known_sha256
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.plan import Planning, Subject
from relforge.stage import Job, Skip, Stage, StageContext, StageInputs, StageResult

if TYPE_CHECKING:
    from relforge.attesting.provenance import Opened
    from relforge.attesting.signing import SigningKey
    from relforge.attesting.statements import Statement
    from relforge.stages.build import BuildResult
    from relforge.stages.unpatch import UnpatchResult

NO_KEY = "no signing key: name one under publish.signing in the site configuration"
FOLDER = "attestations"
"""Below ``evidence/``."""


class AttestInputs(StageInputs):
    """The results that are spoken of by their keys, and who signs."""

    release: InstanceOf[Release]
    lock: InstanceOf[Lock]
    stage_keys: dict[str, str]
    skipped: dict[str, str]
    bundles: dict[str, str]
    """SHA-256 of the files of sealed patch sets."""
    signer: str | None
    """See ``signing.signer_of``."""


class Signed(Frozen):
    """Who signed. ``public_pem`` is the public key as ``cosign verify --key`` reads it."""

    keyid: str
    algorithm: str
    public_pem: str

    @classmethod
    def by(cls, key: SigningKey) -> Signed:
        """The public side of a key."""
        return cls(keyid=key.keyid, algorithm=key.algorithm, public_pem=key.public_pem.decode())


class AttestResult(StageResult):
    """``outputs``, by ``names``, are one envelope for each of ``kinds`` (predicate types), and of a
    signed release two more: the text that cosign's signature of the image signs, and that
    signature in base64.

    Without a key the envelopes carry no signature and the verdict is ``not-run``.
    """

    image_digest: str
    kinds: tuple[str, ...]
    names: tuple[str, ...]
    signed: Signed | None

    def evidence(self) -> dict[str, Path]:
        """The envelopes, and what a signature of the image consists of."""
        named = (f"{FOLDER}/{name}" for name in self.names)
        return {name: output.path for name, output in zip(named, self.outputs, strict=True)}

    @property
    def envelopes(self) -> tuple[Output, ...]:
        """The envelopes alone."""
        return self.outputs[: len(self.kinds)]

    @property
    def image_signature(self) -> tuple[Output, Output] | None:
        """The signed text, and the signature in base64."""
        return None if self.signed is None else (self.outputs[-2], self.outputs[-1])


def _signer(site: Site) -> str | None:
    if site.publish.signing is None:
        return None
    # What reads keys is slow to import, and most plans need none.
    from relforge.attesting.signing import signer_of

    return signer_of(site)


class Attest(Stage[AttestInputs, AttestResult]):
    """Speaks about results; looks at nothing itself."""

    name = "attest"
    title = "attestation"
    needs = (
        "render", "unpatch", "build", "smoke", "evaluate", "bench", "coverage", "sbom", "scan",
    )  # fmt: skip
    result_type = AttestResult

    def plan(self, planning: Planning) -> AttestInputs | Skip:
        from relforge.card.collect import skipped

        subject = planning.subject
        if (reason := subject.release.skip.get("attest")) is not None:
            return Skip(kind="not-needed", reason=reason)
        sealed = {p.name: Path(p.where) for p in subject.patch_sets if p.sealed}
        return AttestInputs(
            release=subject.release,
            lock=subject.lock,
            stage_keys={name: planning.keys[name] for name in self.needs if name in planning.keys},
            skipped=skipped(planning.skips, subject.release.skip),
            bundles={name: known_sha256(path) for name, path in sealed.items() if path.is_file()},
            signer=_signer(subject.site),
        )

    def secrets(self, inputs: AttestInputs, subject: Subject) -> tuple[str, ...]:  # noqa: ARG002
        return ("signing",) if inputs.signer is not None else ()

    def run(self, job: Job[AttestInputs], ctx: StageContext) -> AttestResult:
        from relforge.attesting.signing import SigningKey, unsigned

        inputs = job.inputs
        digest = cast("BuildResult", job.upstream["build"]).image_digest
        key = None if inputs.signer is None else SigningKey.load(job.env.site)
        if inputs.signer is not None and key is None:
            raise RelforgeError(
                "the signing key is no longer in the site configuration",
                code=ExitCode.USAGE,
                hint="run the same command again",
            )
        statements = list(self._statements(job, digest))
        store = Store(job.env.home)
        outputs = [
            store.put_blob((key.sign_statement(s) if key else unsigned(s)).to_json())
            for s in statements
        ]
        names = [envelope_name(s.predicate_type) for s in statements]
        if key is not None:
            payload, signature = key.sign_image(digest, inputs.release.name)
            outputs += (store.put_blob(payload), store.put_blob(signature.encode()))
            names += ("image.simplesigning.json", "image.simplesigning.json.sig")
        for name in names:
            ctx.line(f"evidence/{FOLDER}/{name}")
        return AttestResult(
            verdict="not-run" if key is None else "pass",
            reason=_reason(len(statements), key),
            image_digest=digest,
            kinds=tuple(s.predicate_type for s in statements),
            names=tuple(names),
            signed=key and Signed.by(key),
            outputs=tuple(outputs),
        )

    def _statements(self, job: Job[AttestInputs], digest: str) -> Iterator[Statement]:
        from relforge.attesting.provenance import provenance
        from relforge.attesting.results import result_predicates
        from relforge.attesting.statements import Statement
        from relforge.publishing.evidencefiles import evidence_of

        inputs = job.inputs

        def statement(kind: str, predicate: dict[str, Any]) -> Statement:
            return Statement(
                name=inputs.release.name, digest=digest, predicate_type=kind, predicate=predicate
            )

        built = Store(job.env.home).lookup("build", inputs.stage_keys["build"])
        yield statement(
            predicates.PROVENANCE,
            provenance(
                inputs.release,
                inputs.lock,
                cast("BuildResult", job.upstream["build"]),
                opened=_opened(job),
                stage_keys=inputs.stage_keys,
                built=built if isinstance(built, Record) else None,
            ),
        )
        for kind, file in sboms(job.upstream.get("sbom")).items():
            yield statement(SBOM_PREDICATES[kind], json.loads(file.read_bytes()))
        found = result_predicates(
            job.upstream,
            evidence_of(job.upstream),
            stage_keys=inputs.stage_keys,
            skipped=inputs.skipped,
        )
        for kind, predicate in found:
            yield statement(kind, predicate)

    def outcome(self, result: AttestResult) -> str:
        return result.reason


SBOM_FILES = {SPDX: "sbom.spdx.json", CYCLONEDX: "sbom.cdx.json"}
"""Their names below ``evidence/``, by artifact type."""
SBOM_PREDICATES = {SPDX: predicates.SPDX, CYCLONEDX: predicates.CYCLONEDX}
"""Predicate types of bills of materials, by artifact type."""


def sboms(result: StageResult | None) -> dict[str, Path]:
    """The bills of materials of the image by artifact type; empty where there is none."""
    files = result.evidence() if result is not None else {}
    return {kind: files[name] for kind, name in SBOM_FILES.items() if name in files}


def _opened(job: Job[AttestInputs]) -> dict[str, Opened]:
    from relforge.attesting.provenance import Opened

    unpatch = cast("UnpatchResult | None", job.upstream.get("unpatch"))
    return {
        one.name: Opened(
            sealed=one.sealed,
            ships=one.ships,
            signer_keyid=one.signer_keyid,
            bundle_sha256=job.inputs.bundles.get(one.name),
        )
        for one in (unpatch.sets if unpatch is not None else ())
    }


def _reason(count: int, key: SigningKey | None) -> str:
    if key is None:
        return f"{count} statements, unsigned: {NO_KEY}"
    return f"{count} statements and the image signed, {key.algorithm} key id {key.keyid}"
