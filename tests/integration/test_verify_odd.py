"""`relforge verify` of odd content: there is a report or an error, never a traceback."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from relforge.manifest.policy import Policy
from relforge.publishing.published import CONTENTS, RECORD, SEAL
from tests.support.verify_scene import Scene, reason, run_verb

_DEEP = b"[" * 200_000
_ODD = (
    b"", b"{", b"[]", b"null", b"{}", b"1e999", _DEEP, b'{"a":1,"a":2}', b"\xff\xfe\x00",
    b'{"manifests":null}', b'{"files":{"..":"x"}}', b'{"image_digest":7,"files":{"a":3}}',
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(_ODD)))
def test_odd_content_of_any_file_is_a_finding(scene: Scene, number: int) -> None:
    forger = scene.forger
    blobs = [
        path.relative_to(forger.folder).as_posix()
        for path in sorted((forger.layout / "blobs/sha256").iterdir())
        if path.stat().st_size < 100_000
    ]
    names = [
        RECORD, CONTENTS, SEAL, "README.md", "evidence/smoke.json", "evidence/evaluation.json",
        "evidence/bench.json", "evidence/coverage.json", "image/index.json", *blobs[number::12],
    ]  # fmt: skip
    for name in names:
        path = forger.folder / name
        before = path.read_bytes()
        forger.write(name, _ODD[number])
        assert run_verb(str(forger.folder), "--key", str(scene.made.key)) == 7, name
        forger.write(name, before)
    assert run_verb(str(forger.folder), "--key", str(scene.made.key)) == 0


@pytest.mark.parametrize("name", [RECORD, "image/index.json", "evidence/evaluation.json"])
def test_a_huge_file_is_not_read_whole(
    scene: Scene, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.forger.write(name, b"")
    os.truncate(scene.forger.folder / name, (256 << 20) + 1)
    assert run_verb(str(scene.forger.folder)) == 7
    said = capsys.readouterr()
    assert "is larger than" in said.out + said.err


def test_a_path_in_place_of_a_hash_is_not_followed(scene: Scene) -> None:
    secret = scene.root / "secret.json"
    secret.write_text('{"format": "relforge.vulnerabilities/1"}')

    def change(record: dict[str, Any]) -> None:
        record["evidence"]["scan"][0]["sha256"] = str(secret)

    scene.forger.record(change)
    report = scene.verify("folder")
    assert "by something that is no SHA-256" in reason(report, "card")


@pytest.mark.timeout(400)
def test_values_of_other_kinds_in_the_record_are_findings(scene: Scene) -> None:
    """Each value of the record's outer levels in turn is of other kinds."""
    forger = scene.forger
    whole = json.loads((forger.folder / RECORD).read_text())
    outer = ("results", "inputs", "lock", "evidence")
    paths: list[tuple[str, ...]] = [(key,) for key in whole]
    paths += [(key, inner) for key in outer for inner in whole[key]]
    others: tuple[Any, ...] = (None, 7, "text", [], {}, [[]])
    for number, path in enumerate(paths):
        # One of them for each place; each of them many times over the whole record.
        value = others[number % 6]
        record = json.loads(json.dumps(whole))
        place = record
        for key in path[:-1]:
            place = place[key]
        if place[path[-1]] == value:
            continue
        place[path[-1]] = value
        forger.write(RECORD, json.dumps(record).encode())
        report = scene.verify("folder", policy=Policy())
        assert "release.json is not the one that was signed" in reason(report, "release")
