"""A release that the stages attest and publish made of an image by hand: no engine is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relforge.attesting.sealing import seal_release
from relforge.attesting.signing import SigningKey
from relforge.cancel import CancelToken
from relforge.engine.layout import describe
from relforge.evidence.dsse import PrivateKey, TrustedSigner
from relforge.evidence.store import Store
from relforge.frozen import canonical_json, content_key
from relforge.manifest.project import builtin_root, find_project
from relforge.manifest.publishing import PublishSite, SigningSite
from relforge.manifest.site import Site
from relforge.plan import Subject, subject
from relforge.scanning.vulnerabilities import Vulnerabilities
from relforge.stage import Job, StageContext, StageEnv, StageResult
from relforge.stages.attest import Attest, AttestInputs, AttestResult
from relforge.stages.build import BuildResult
from relforge.stages.card import CardResult
from relforge.stages.publish import Publish, PublishInputs, PublishResult
from relforge.stages.scan import ScanResult, VulnerabilityState
from tests.support.published import RELEASE, make_image
from tests.unit.test_card import build, smoke

SPDX = b'{"spdxVersion":"SPDX-2.3","name":"hello"}'
CYCLONEDX = b'{"bomFormat":"CycloneDX","specVersion":"1.6"}'
KEYS = {stage: f"{number}" * 64 for number, stage in enumerate(("build", "smoke", "sbom"), start=1)}


class SbomStandIn(StageResult):
    """What the stage ``sbom`` hands on."""

    def evidence(self) -> dict[str, Path]:
        names = ("sbom.spdx.json", "sbom.cdx.json")
        return {name: out.path for name, out in zip(names, self.outputs, strict=True)}


def new_key(kind: str = "ecdsa") -> PrivateKey:
    if kind == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def key_file(path: Path, kind: str = "ecdsa") -> Path:
    pem = new_key(kind).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem)
    path.chmod(0o600)
    return path


@dataclass
class Maker:
    """Runs the two stages in a home of its own."""

    root: Path
    site: Site

    @classmethod
    def at(
        cls,
        root: Path,
        *,
        kind: str | None = "ecdsa",
        key: Path | None = None,
        passphrase_file: Path | None = None,
    ) -> Maker:
        root.mkdir(exist_ok=True)
        file = key or (key_file(root / "maker.pem", kind) if kind else None)
        signing = file and SigningSite(key=file, passphrase_file=passphrase_file)
        return cls(root, Site(publish=PublishSite(signing=signing)))

    @property
    def key(self) -> SigningKey:
        found = SigningKey.load(self.site)
        assert found is not None
        return found

    @property
    def trusted(self) -> tuple[TrustedSigner, ...]:
        return (TrustedSigner("maker", self.key.public),)

    @property
    def subject(self) -> Subject:
        project = find_project(builtin_root())
        return subject(project, project.release(RELEASE), self.site)

    def results(self, word: bytes = b"hello") -> dict[str, StageResult]:
        """What the stages before found of an image with this word in it."""
        store = Store(self.root / "home")
        layout = self.root / f"layout-{word.decode()}"
        facts = (
            describe(layout)
            if layout.exists()
            else make_image(layout, layers=({"opt/hello": word},), labels={"a": "b"})
        )
        built = build().model_copy(
            update={
                "layout": layout, "image_digest": facts.digest, "labels": facts.labels,
                "config_digest": facts.config_digest,
            }
        )  # fmt: skip
        tested = smoke().model_copy(
            update={"outputs": (store.put_blob(b'{"verdict":"pass"}'), store.put_blob(b"log\n"))}
        )
        bom = SbomStandIn(outputs=(store.put_blob(SPDX), store.put_blob(CYCLONEDX)))
        known = Vulnerabilities(state="not-run", reason="no scanner", image_digest=facts.digest)
        scanned = ScanResult(
            verdict="pass", reason="nothing was found", image_digest=facts.digest, files=1,
            bytes=1, hits=0, let=0, looked_for="0",
            vulnerabilities=VulnerabilityState(state="not-run", reason="no scanner"),
            outputs=(store.put_blob(b'{"hits":[]}'), store.put_blob(canonical_json(known))),
        )  # fmt: skip
        return {"build": built, "smoke": tested, "sbom": bom, "scan": scanned}

    def attest(self, upstream: Mapping[str, StageResult], **changes: Any) -> AttestResult:
        from relforge.attesting.signing import signer_of

        about = self.subject
        inputs = AttestInputs(
            **{
                "release": about.release, "lock": about.lock, "stage_keys": KEYS,
                "skipped": {"evaluate": "nobody asked"}, "bundles": {},
                "signer": signer_of(self.site), **changes,
            }
        )  # fmt: skip
        return Attest().run(self._job("attest", inputs, upstream), self._context("attest"))

    def publish(self, upstream: Mapping[str, StageResult]) -> PublishResult:
        store = Store(self.root / "home")
        built = upstream["build"]
        assert isinstance(built, BuildResult)
        lock = content_key(self.subject.lock)
        card = f"# A card\n\n`{built.image_digest}`, lock `{lock}`\n".encode()
        written = CardResult(
            path=self.root / "README.md", lines=1, names=("README.md",),
            outputs=(store.put_blob(card),),
        )  # fmt: skip
        inputs = PublishInputs(
            build_key="1", smoke_key="2", evaluate_key=None, bench_key=None, coverage_key=None,
            sbom_key="3", scan_key=None, attest_key="4", card_key="5", local_weights={},
        )  # fmt: skip
        scan = ScanResult(
            verdict="pass", reason="none", image_digest=built.image_digest, files=1, bytes=1,
            hits=0, let=0, looked_for="",
            vulnerabilities=VulnerabilityState(state="not-run", reason="no scanner"),
        )  # fmt: skip
        job = self._job("publish", inputs, {"scan": scan, **upstream, "card": written})
        return Publish().run(job, self._context("publish"))

    def released(self, word: bytes = b"hello") -> Path:
        """The whole way: attested, published, with a record, sealed."""
        upstream = self.results(word)
        attested = self.attest(upstream)
        folder = self.publish({**upstream, "attest": attested}).folder
        build_result = upstream["build"]
        assert isinstance(build_result, BuildResult)
        self.record(folder, build_result)
        seal_release(folder, self.key if attested.signed else None)
        return folder

    def record(self, folder: Path, built: BuildResult, created: str = "2026-01-01") -> None:
        record = {
            "release": RELEASE, "created": created, "image_digest": built.image_digest,
            "lock_sha256": content_key(self.subject.lock), "verdicts": {"smoke": "pass"},
            "names": {
                "release": RELEASE, "model": "tiny-adder", "device": "cpu_x86",
                "vendor": "generic", "variant": "default",
            },
            "evidence": {},
            "results": {"build": {"labels": built.labels}},
        }  # fmt: skip
        (folder / "release.json").write_text(json.dumps(record))

    def _job(self, stage: str, inputs: Any, upstream: Mapping[str, StageResult]) -> Job[Any]:
        env = StageEnv(
            home=self.root / "home", project_roots=(builtin_root(),), site=self.site, run_id="run",
            run_dir=self.root / "run", release=RELEASE, dist=self.root / "dist",
        )  # fmt: skip
        return Job(stage, "0" * 64, inputs, upstream, env)

    def _context(self, stage: str) -> StageContext:
        return StageContext(RELEASE, stage, CancelToken())
