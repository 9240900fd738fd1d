"""A small published release without an engine: ``dist/<release>`` as the pipeline writes it.

The image is made by hand (two layers that are real tars), the cards are the card generator's, and
the record has the fields that publishing, verifying and release notes read.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relforge.card.model import Language, Scored
from relforge.card.output import Free, card_files, cards_of_hubs
from relforge.engine.layout import ImageFacts, describe
from relforge.frozen import canonical_json
from relforge.manifest.project import builtin_root, find_project
from relforge.publishing.folder import publish_folder
from relforge.publishing.published import Published, read_published
from tests.unit.test_card import FIGURES, build, card_of

RELEASE = "tiny-adder-cpu_x86"
LOCK = "9" * 64
CREATED = "2026-01-01T00:00:00Z"
PASSED = {"smoke": "pass", "evaluate": "pass", "bench": "not-run", "coverage": "not-run"}
QUESTIONS = [{"question": f"{n}+1=", "correct": n >= 65} for n in range(1000)]
_OCI = "application/vnd.oci.image."


def make_image(
    folder: Path,
    *,
    layers: tuple[Mapping[str, bytes], ...],
    labels: Mapping[str, str],
    architecture: str = "amd64",
) -> ImageFacts:
    """An OCI layout of one image; each layer is a gzipped tar of these files."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    tars = [_tar(files) for files in layers]
    config = {
        "architecture": architecture,
        "os": "linux",
        "created": CREATED,
        "config": {"Labels": dict(labels), "Cmd": ["/hello"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars],
        },
        "history": [{"created": CREATED, "created_by": f"COPY {n}"} for n in range(len(tars))],
    }
    packed = [gzip.compress(tar, mtime=0) for tar in tars]
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}manifest.v1+json",
        "config": put(canonical_json(config), f"{_OCI}config.v1+json"),
        "layers": [put(data, f"{_OCI}layer.v1.tar+gzip") for data in packed],
    }
    entry = put(canonical_json(manifest), f"{_OCI}manifest.v1+json")
    entry["platform"] = {"architecture": architecture, "os": "linux"}
    index = {"schemaVersion": 2, "mediaType": f"{_OCI}index.v1+json", "manifests": [entry]}
    (folder / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_bytes(canonical_json(index))
    return describe(folder)


def make_published(
    tmp_path: Path,
    *,
    dist: Path | None = None,
    python: bytes = b"print('hello')\n",
    kernels: bytes = b"\x7fELF" + bytes(5000),
    evidence: Mapping[str, bytes] | None = None,
    weights: Mapping[str, bytes] | None = None,
    verdicts: Mapping[str, str] | None = None,
    record: Mapping[str, Any] | None = None,
    free: str = "",
    dataset: str | None = "openai/gsm8k",
) -> Published:
    """Writes ``<dist>/tiny-adder-cpu_x86`` and reads it.

    ``python`` and ``kernels`` are the files of the two layers: another one is another digest.
    ``evidence`` and ``weights`` come beside what is there, by their names below those folders.
    ``record`` replaces fields of the record. ``free`` is what a person wrote into the card.
    ``dataset`` gets a score in ``.eval_results``; None: there is no such folder.
    """
    work = tmp_path / f"made-{len(list(tmp_path.iterdir()))}"
    work.mkdir()
    labels = {
        "org.opencontainers.image.title": RELEASE,
        "org.relforge.release": RELEASE,
        "org.relforge.device": "cpu_x86",
        "org.relforge.lock": LOCK,
    }
    facts = make_image(
        work / "layout",
        layers=({"opt/kernels.so": kernels}, {"opt/hello.py": python}),
        labels=labels,
    )
    files = {
        "smoke.json": b'{"verdict":"pass","probes":[{"name":"health","verdict":"pass"}]}\n',
        "evaluation.json": canonical_json({"task": "additions", "questions": QUESTIONS}),
        "server.log": b"INFO the server is ready\n",
        **(evidence or {}),
    }
    made = publish_folder(
        work / "layout",
        cards=_write(work / "cards", _cards(facts, free, dataset)),
        evidence=_write(work / "evidence", files),
        weights=_write(work / "weights", weights or {}),
        record=_record(facts, labels, files, {**PASSED, **(verdicts or {})}, record or {}),
        target=(dist or tmp_path / "dist") / RELEASE,
        tag=f"relforge/{RELEASE}:{LOCK[:12]}",
    )
    return read_published(made.path)


def _cards(facts: ImageFacts, free: str, dataset: str | None) -> dict[str, bytes]:
    built = build().model_copy(
        update={"image_digest": facts.digest, "config_digest": facts.config_digest}
    )
    card = card_of(FIGURES, build=built, lock_sha256=LOCK)
    if dataset is not None:
        score = Scored(
            task="gsm8k",
            metric="exact_match",
            value=61.5,
            n=200,
            dataset=dataset,
            dataset_revision=None,
        )
        meta = card.metadata
        card = card.model_copy(
            update={"metadata": meta.model_copy(update={"scores": (*meta.scores, score)})}
        )
    given: Free | None = {"en": {"introduction": free}} if free else None
    prose: Mapping[Language, Mapping[str, str]] = {
        "zh": find_project(builtin_root()).translations("zh")
    }
    files, _ = card_files(card, free=given, prose=prose)
    files |= cards_of_hubs(card, free=given, prose=prose)
    return files


def _record(
    facts: ImageFacts,
    labels: Mapping[str, str],
    evidence: Mapping[str, bytes],
    verdicts: Mapping[str, str],
    changes: Mapping[str, Any],
) -> bytes:
    def entry(name: str) -> dict[str, Any]:
        data = evidence[name]
        digest = hashlib.sha256(data).hexdigest()
        return {"file": digest, "sha256": digest, "bytes": len(data)}

    figures = FIGURES.model_dump(mode="json")
    record = {
        "release": RELEASE,
        "run": "20260101T000000Z-000001",
        "image_digest": facts.digest,
        "verdicts": {name: value for name, value in verdicts.items() if value != "not-run"},
        "stages": [{"name": "build", "status": "ran", "seconds": 1.0}],
        "dist": ".",
        "created": CREATED,
        "relforge": "0.1.0",
        "project": {"commit": "1" * 40, "uncommitted_changes": False},
        "names": {
            "release": RELEASE,
            "model": "tiny-adder",
            "device": "cpu_x86",
            "vendor": "generic",
            "variant": "default",
        },
        "lock_sha256": LOCK,
        "lock": {"sources": {}, "patches": {}, "packages": {}},
        "timings": {"build": 1.0},
        "inputs": {},
        "skipped": {},
        "evidence": {
            "smoke": [entry("smoke.json"), entry("server.log")],
            "evaluate": [entry("evaluation.json")],
        },
        "results": {
            "build": {
                "image_name": f"relforge/{RELEASE}:{LOCK[:12]}",
                "image_digest": facts.digest,
                "config_digest": facts.config_digest,
                "compressed_bytes": facts.size_bytes,
                "base_digest": build().base_digest,
                "architecture": facts.architecture,
                "created": CREATED,
                "labels": dict(labels),
                "layers": [layer.digest for layer in facts.layers],
            },
            "evaluate": {"verdict": verdicts["evaluate"], "tasks": [figures]},
        },
        **changes,
    }
    return json.dumps(record, indent=1).encode() + b"\n"


def _write(folder: Path, files: Mapping[str, bytes]) -> dict[str, Path]:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return {name: folder / name for name in files}


def _tar(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()
