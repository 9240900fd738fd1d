"""Attested, published, recorded, sealed: what is signed covers every file, and once is enough."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relforge.attesting import predicates, sealing
from relforge.attesting.attachments import CYCLONEDX, SPDX, attestations_tag, signature_tag
from relforge.attesting.reading import read_attachments, read_file
from relforge.attesting.sealing import is_sealed, seal_release
from relforge.attesting.verifying import verify_envelope, verify_signature
from relforge.engine import attached
from relforge.engine.attached import read_attached
from relforge.engine.blobs import link_or_copy
from relforge.engine.layout import describe, verify
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence import dsse
from relforge.evidence.store import Store
from relforge.files import Output, altered, sha256_file
from relforge.oci.layout_store import LayoutStore
from relforge.publishing.published import CONTENTS, RECORD, SEAL, read_published
from relforge.publishing.targets.git_content import files_of
from relforge.stages.build import BuildResult
from relforge.stages.publish import Publish
from relforge.verifying import verify_place
from tests.support import signed
from tests.support.signed import Maker

ALL = [
    predicates.PROVENANCE, predicates.SPDX, predicates.CYCLONEDX, predicates.TEST_RESULT,
    predicates.EVALUATION, predicates.BENCHMARK, predicates.COVERAGE, predicates.CONTENT_SCAN,
    predicates.RELEASE,
]  # fmt: skip


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker.at(tmp_path / "maker")


def contents_and_image(folder: Path) -> set[str]:
    """What `relforge verify` says of the files; the record here is a short one."""
    report = verify_place(folder)
    return {report.finding(name).verdict for name in ("contents", "image", "sbom")}


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["ecdsa", "ed25519"])
def test_everything_is_signed_and_names_what_it_covers(tmp_path: Path, kind: str) -> None:
    maker = Maker.at(tmp_path / "maker", kind=kind)
    folder = maker.released()
    image = describe(folder / "image").digest
    found = read_attachments(LayoutStore(folder / "image"), image)
    assert not found.unreadable
    assert [one.predicate_type for one in found.envelopes] == ALL
    assert verify_signature(found.signatures[0], image, maker.trusted).name == "maker"
    said = [verify_envelope(one.envelope, image, maker.trusted) for one in found.envelopes]
    last = said[-1].statement.predicate
    assert last["record"]["digest"]["sha256"] == sha256_file(folder / RECORD)
    assert last["contents"]["digest"]["sha256"] == sha256_file(folder / CONTENTS)
    listed = {one["name"]: one["digest"]["sha256"] for one in last["files"]}
    assert listed == json.loads((folder / CONTENTS).read_text())["files"]
    assert {"README.md", "evidence/smoke.json", "evidence/attestations/provenance.dsse.json"} <= {
        *listed
    }
    assert last["verdicts"] == {"smoke": "pass"}


def test_the_same_statements_lie_as_files_beside_the_evidence(maker: Maker) -> None:
    folder = maker.released()
    image = describe(folder / "image").digest
    for kind in ALL[:-1]:
        file = folder / "evidence" / "attestations" / predicates.envelope_name(kind)
        said = verify_envelope(dsse.parse(file.read_bytes()), image, maker.trusted)
        assert said.statement.predicate_type == kind
    seal = verify_envelope(dsse.parse((folder / SEAL).read_bytes()), image, maker.trusted)
    assert seal.statement.predicate_type == predicates.RELEASE
    assert contents_and_image(folder) == {"pass"}


def test_what_is_attached_is_what_a_registry_shows(maker: Maker) -> None:
    folder = maker.released()
    facts = verify(folder / "image")
    tags = [
        one.annotations.get("org.relforge.tag") for one in read_attached(folder / "image").manifests
    ]
    assert sorted(filter(None, tags)) == sorted(
        (signature_tag(facts.digest), attestations_tag(facts.digest))
    )
    store = LayoutStore(folder / "image")
    found = read_attachments(store, facts.digest)
    sboms = {kind: read_file(store, one) for kind, one in found.sboms.items()}
    assert sboms == {SPDX: signed.SPDX, CYCLONEDX: signed.CYCLONEDX}
    (release,) = found.releases
    contents = json.loads((folder / CONTENTS).read_text())["files"]
    assert {*release.files} == {*contents, RECORD, CONTENTS}
    for name, descriptor in release.files.items():
        assert read_file(store, descriptor) == (folder / name).read_bytes()


def test_sealing_again_writes_nothing(maker: Maker) -> None:
    folder = maker.released()
    before = state(folder)
    assert is_sealed(folder, maker.key.public)
    assert not seal_release(folder, maker.key)
    assert state(folder) == before


def test_publishing_again_keeps_the_seal(maker: Maker) -> None:
    folder = maker.released()
    before = state(folder)
    upstream = maker.results()
    attested = maker.attest(upstream)
    # ECDSA gives another signature each time: what counts is the result that is stored.
    attested = attested.model_copy(
        update={"outputs": tuple(_again(folder, maker, name) for name in attested.names)}
    )
    result = maker.publish({**upstream, "attest": attested})
    assert state(folder) == before
    assert is_sealed(folder, maker.key.public)
    assert [altered(output) for output in result.outputs if altered(output)] == []
    assert Publish().unusable(result, maker.subject) is None


def _again(folder: Path, maker: Maker, name: str) -> Output:
    data = (folder / "evidence" / "attestations" / name).read_bytes()
    return Store(maker.root / "home").put_blob(data)


def test_a_new_record_gets_a_new_seal_with_a_larger_serial(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = maker.released()
    before = dsse.parse((folder / SEAL).read_bytes())
    image = describe(folder / "image").digest
    built = maker.results(b"other")["build"]
    assert isinstance(built, BuildResult)
    maker.record(folder, built.model_copy(update={"image_digest": image}), "2026-02-02")
    assert not is_sealed(folder, maker.key.public)
    # Also when the clock was set back.
    monkeypatch.setattr("relforge.attesting.sealing.time.time_ns", lambda: 0)
    assert seal_release(folder, maker.key)
    after = dsse.parse((folder / SEAL).read_bytes())
    serials = [
        verify_envelope(one, image, maker.trusted).statement.predicate["serial"]
        for one in (before, after)
    ]
    assert serials[1] == serials[0] + 1
    found = read_attachments(LayoutStore(folder / "image"), image)
    assert [one.predicate_type for one in found.envelopes] == ALL
    assert len(found.releases) == 1
    assert contents_and_image(folder) == {"pass"}


@pytest.mark.parametrize("what", ["key", "record", "seal file", "attachment"])
def test_what_the_seal_does_not_fit_is_not_sealed(maker: Maker, tmp_path: Path, what: str) -> None:
    folder = maker.released()
    public = maker.key.public
    if what == "key":
        public = Maker.at(tmp_path / "other").key.public
    elif what == "record":
        (folder / RECORD).write_text((folder / RECORD).read_text() + " ")
    elif what == "seal file":
        (folder / SEAL).write_bytes(b"{}")
    else:
        (folder / "image" / "index.json").write_text(
            json.dumps(
                {
                    "manifests": json.loads((folder / "image/index.json").read_text())["manifests"][
                        :1
                    ]
                }
            )
        )
    assert not is_sealed(folder, public)
    assert not is_sealed(folder, None)


def test_an_edited_file_is_never_signed(maker: Maker) -> None:
    upstream = maker.results()
    attested = maker.attest(upstream)
    folder = maker.publish({**upstream, "attest": attested}).folder
    built = upstream["build"]
    assert isinstance(built, BuildResult)
    maker.record(folder, built)
    (folder / "README.md").write_text("# Another card\n")
    before = state(folder)
    with pytest.raises(RelforgeError, match="not the one that was published") as caught:
        seal_release(folder, maker.key)
    assert caught.value.code is ExitCode.PUBLISH
    assert caught.value.where == str(folder / "README.md")
    assert state(folder) == before


def test_a_card_that_is_edited_later_does_not_change_what_is_attached(maker: Maker) -> None:
    folder = maker.released()
    with (folder / "README.md").open("ab") as card:
        card.write(b"an edit\n")
    verify(folder / "image")
    assert verify_place(folder).finding("contents").verdict == "fail"


def test_without_a_key_the_statements_are_there_and_nobody_vouches_for_them(
    tmp_path: Path,
) -> None:
    maker = Maker.at(tmp_path / "maker", kind=None)
    upstream = maker.results()
    attested = maker.attest(upstream)
    assert attested.verdict == "not-run"
    assert "publish.signing" in attested.reason
    folder = maker.released(b"unsigned")
    image = describe(folder / "image").digest
    found = read_attachments(LayoutStore(folder / "image"), image)
    assert not found.signatures
    assert not found.envelopes
    assert set(found.sboms) == {SPDX, CYCLONEDX}
    assert len(found.releases) == 1
    assert not (folder / SEAL).exists()
    files = sorted((folder / "evidence" / "attestations").iterdir())
    assert len(files) == len(ALL) - 1
    assert all(dsse.parse(file.read_bytes()).signatures == () for file in files)
    before = state(folder)
    assert not seal_release(folder, None)
    assert state(folder) == before
    assert contents_and_image(folder) == {"pass"}


def test_a_damaged_index_makes_publish_run_again(maker: Maker) -> None:
    upstream = maker.results()
    result = maker.publish({**upstream, "attest": maker.attest(upstream)})
    assert Publish().unusable(result, maker.subject) is None
    (first,) = read_attached(result.folder / "image").manifests[:1]
    (result.folder / "image/blobs/sha256" / first.digest.removeprefix("sha256:")).unlink()
    assert first.digest in (Publish().unusable(result, maker.subject) or "")


def test_the_statement_goes_wherever_the_record_goes(maker: Maker) -> None:
    published = read_published(maker.released())
    assert published.seal == published.folder / SEAL
    assert SEAL in files_of(published)
    names = {*files_of(published), *published.files}
    assert {RECORD, CONTENTS, SEAL} <= names
    unsigned = read_published(Maker.at(maker.root / "unsigned", kind=None).released())
    assert unsigned.seal is None
    assert SEAL not in files_of(unsigned)


class Killed(BaseException):
    """As a signal would: nothing catches it."""


@pytest.mark.parametrize("again", [False, True])
def test_a_kill_at_any_step_leaves_the_old_seal_or_the_new_one(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    upstream = maker.results()
    folder = maker.publish({**upstream, "attest": maker.attest(upstream)}).folder
    built = upstream["build"]
    assert isinstance(built, BuildResult)
    maker.record(folder, built)
    if again:
        seal_release(folder, maker.key)
        maker.record(folder, built, "2026-02-02")
    steps: list[str] = []
    last = 0
    killed_at = -1

    def step(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            steps.append(name)
            if len(steps) - 1 == killed_at:
                raise Killed
            return real(*args, **kwargs)

        return wrapped

    for module in (attached, sealing):
        monkeypatch.setattr(module, "write_atomic", step("write", module.write_atomic))
    monkeypatch.setattr(attached, "link_or_copy", step("link", link_or_copy))
    monkeypatch.setattr(attached, "_remove_others", step("remove", attached._remove_others))
    for killed_at in range(200):
        work = tmp_path / f"copy-{killed_at}"
        shutil.copytree(folder, work)
        steps.clear()
        try:
            seal_release(work, maker.key)
        except Killed:
            last = killed_at
        else:
            break
        # Nothing that is there is half: the image and what is attached to it verify.
        verify(work / "image")
        killed_at = -1
        seal_release(work, maker.key)
        assert is_sealed(work, maker.key.public)
        assert not seal_release(work, maker.key)
        assert contents_and_image(work) == {"pass"}
    else:
        pytest.fail("it never ends")
    assert last >= 6
    assert steps[-1] == "write"
    assert "remove" in steps
