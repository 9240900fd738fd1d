"""`relforge verify`: files, image, record and card of a folder; whatever is altered is named.

The record here is a short one; `tests/integration/test_verify_forgeries.py` has whole releases.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relforge.cli.dispatch import dispatch
from relforge.engine.layout import describe
from relforge.frozen import canonical_json
from relforge.oci.store import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest
from relforge.publishing.folder import publish_folder
from relforge.verifying import verify_place
from relforge.verifying.files import FolderFiles
from relforge.verifying.image import image, see
from relforge.verifying.records import record as judge_record
from tests.support.stores import MemoryStore
from tests.unit.test_layout import make_layout

LOCK = "d" * 64
QUESTIONS = [{"question": str(n), "correct": n % 4 != 0} for n in range(40)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release of an image with two layers, evaluated with 40 questions, 30 right."""
    layout = make_layout(tmp_path / "layout")
    facts = describe(layout)
    evidence = tmp_path / "evaluation.json"
    evidence.write_text(json.dumps({"questions": QUESTIONS}))
    card = tmp_path / "README.md"
    card.write_text(
        f"# Card\n\n`{facts.digest}`\n\n| additions | 75.00 % (30) |\n\nlock `{LOCK}`\n"
    )
    record = {
        "image_digest": facts.digest, "lock_sha256": LOCK,
        "results": {
            "build": {"labels": facts.labels},
            "evaluate": {"tasks": [
                {"task": "additions", "result_percent": 75.0, "result_correct": 30, "n": 40}
            ]},
        },
        "evidence": {"evaluate": [
            {"file": "x", "sha256": hashlib.sha256(evidence.read_bytes()).hexdigest()}
        ]},
    }  # fmt: skip
    return publish_folder(
        layout, cards={"README.md": card}, evidence={"evaluation.json": evidence}, weights={},
        record=json.dumps(record).encode(), target=tmp_path / "dist" / "r", tag="v1",
    ).path  # fmt: skip


def test_what_was_published_passes(folder: Path) -> None:
    report = verify_place(folder)
    for name in ("contents", "image", "record", "card"):
        assert report.finding(name).verdict == "pass", report.finding(name)
    assert report.finding("contents").reason == "3 files have the hashes that contents.json lists"
    card = report.finding("card").reason
    assert card == "digest, lock and 1 score are those of record and evidence"


def again(folder: Path) -> None:
    """Makes the list of contents anew, as somebody would who hides an edit."""
    contents = json.loads((folder / "contents.json").read_text())
    contents["files"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in contents["files"]
    }
    (folder / "contents.json").write_text(json.dumps(contents))


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def layer_altered(folder: Path) -> None:
    path = sorted((folder / "image" / "blobs" / "sha256").iterdir(), key=lambda p: p.stat().st_size)
    path[0].write_bytes(path[0].read_bytes()[::-1])


def stray(folder: Path) -> None:
    (folder / "extra.sh").write_text("echo hello\n")


def other_record(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        record = json.loads((folder / "release.json").read_text())
        change(record)
        (folder / "release.json").write_text(json.dumps(record))

    return write


@pytest.mark.parametrize(
    ("change", "hidden", "check", "says"),
    [
        (replaced("README.md", "75.00", "85.00"), False, "contents", "README.md is not the file"),
        (replaced("README.md", "75.00 % (30)", "85.00 % (34)"), True, "card", "75.00 % (30)"),
        (replaced("evidence/evaluation.json", "false", "true"), True, "record", "not there"),
        (replaced("README.md", LOCK, "e" * 64), True, "card", "lock of the record"),
        (replaced("README.md", "lock", f"base {'f' * 64}, lock"), True, "card", "f" * 64),
        (layer_altered, False, "image", "sha256:"),
        (stray, False, "contents", "extra.sh was not published"),
        (lambda f: (f / "image/run.sh").write_text("x"), False, "image", "image/run.sh is no part"),
        (lambda f: (f / "image/blobs/sha256" / ("0" * 64)).write_text("x"), False, "image",
         "0000 is no part of the image"),
        (lambda f: (f / "evidence/linked").symlink_to("/tmp"), False, "contents",
         "evidence/linked was not published"),
        (lambda f: os.mkfifo(f / "evidence/pipe"), False, "contents",
         "evidence/pipe was not published"),
        (lambda f: (f / "contents.json").write_text("{}"), False, "contents",
         "'files' is missing"),
        (lambda f: (f / "contents.json").write_text('{"files": []}'), False, "contents",
         "cannot be read"),
        (lambda f: (f / "README.md").unlink(), False, "contents", "README.md is not the file"),
        (lambda f: (f / "release.json").unlink(), False, "record", "release.json is not there"),
        (lambda f: (f / "release.json").write_text("{"), False, "record", "cannot be read"),
        (lambda f: (f / "contents.json").unlink(), False, "contents", "contents.json is not there"),
        (other_record(lambda r: r.update(image_digest="sha256:" + "1" * 64)), False, "record",
         "here is sha256:"),
        (other_record(lambda r: r["results"]["build"]["labels"].update(a="other")), False,
         "record", "label a: the record has other, the image b"),
        (other_record(lambda r: r["results"]["evaluate"]["tasks"][0].update(
            result_correct=31, result_percent=77.5)), False, "card", "77.50 % (31)"),
    ],
)  # fmt: skip
def test_what_was_altered_is_named(
    folder: Path, change: Callable[[Path], Any], hidden: bool, check: str, says: str
) -> None:
    change(folder)
    if hidden:
        again(folder)
    report = verify_place(folder)
    assert report.verdict == "fail"
    found = report.finding(check)
    assert found.verdict == "fail"
    assert says in found.reason


def test_an_image_for_several_architectures_is_seen_whole(tmp_path: Path) -> None:
    store = MemoryStore()
    children = []
    for number, architecture in enumerate(("amd64", "arm64")):
        layer = Descriptor.of("application/vnd.oci.image.layer.v1.tar", bytes([number]))
        config = canonical_json(
            {"os": "linux", "architecture": architecture, "config": {"Labels": {"n": str(number)}}}
        )
        described = Descriptor.of("application/vnd.oci.image.config.v1+json", config)
        store.blobs |= {layer.digest: bytes([number]), described.digest: config}
        child = Manifest.make(
            OCI_MANIFEST,
            {"schemaVersion": 2, "config": described.to_json(), "layers": [layer.to_json()]},
        )
        store.put_manifest(child)
        children.append(child.descriptor)
    index = Manifest.make(
        OCI_INDEX, {"schemaVersion": 2, "manifests": [one.to_json() for one in children]}
    )
    store.manifests[index.descriptor.digest] = index
    seen = see(store, index.descriptor.digest)
    shown = {part.platform: part.labels for part in seen.parts}
    assert shown == {"linux/amd64": {"n": "0"}, "linux/arm64": {"n": "1"}}
    assert [one.digest for one in seen.manifests] == [
        index.descriptor.digest, *(one.digest for one in children)
    ]  # fmt: skip
    assert image(store, seen, None, whole=False).verdict == "pass"
    (record,) = ({"image_digest": index.descriptor.digest, "results": {"build": {"labels": {}}}},)
    said = judge_record(FolderFiles(tmp_path), {**record, "evidence": {}}, seen)
    assert "label n (linux/arm64): the record has None, the image 1" in said.reason
    (other,) = seen.parts[1].layers
    del store.blobs[other]
    assert other in image(store, seen, None, whole=False).reason
    del store.manifests[children[1].digest]
    with pytest.raises(ValueError, match="which the index lists, is not there"):
        see(store, index.descriptor.digest)


def test_a_place_that_is_none_is_an_error_with_its_cause(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch("verify", [str(folder / "nowhere")]) == 2
    empty = folder.parent / "empty"
    empty.mkdir()
    assert dispatch("verify", [str(empty)]) == 7
    assert "it has no folder image/" in capsys.readouterr().err
    assert dispatch("verify", [str(folder), "--key", str(folder / "README.md")]) == 2
    policy = folder.parent / "policy.yaml"
    policy.write_text("kind: policy\nstages: [smoke, sleep]\n")
    assert dispatch("verify", [str(folder), "--policy", str(policy)]) == 2
    assert "policy.yaml" in capsys.readouterr().err
