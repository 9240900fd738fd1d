"""What may reach people: only what passed, as the very bytes that passed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import Site
from relforge.publishing.gate import Gate
from relforge.publishing.journal import Journal
from relforge.publishing.published import Published
from relforge.publishing.snapshot import snapshot
from relforge.publishing.target import Delivery, Step
from tests.support.signed import key_file
from tests.support.verified import Releaser


class Place:
    """As much of a target as a gate asks about."""

    name = "page"

    def __init__(self, *, hides_candidates: bool = False) -> None:
        self.hides_candidates = hides_candidates


@pytest.fixture(scope="module")
def releaser(tmp_path_factory: pytest.TempPathFactory) -> Releaser:
    return Releaser.at(tmp_path_factory.mktemp("maker"))


@pytest.fixture
def folder(releaser: Releaser, tmp_path: Path) -> Path:
    return releaser.release(tmp_path / "dist")


def ask(
    folder: Path,
    site: Site,
    home: Path,
    *,
    step: Step = "promote",
    policy: Path | None = None,
    hides: bool = False,
) -> list[str]:
    """What the gate said while it looked; raises what it raises."""
    said: list[str] = []
    with snapshot(folder, home) as kept:
        gate = Gate(kept, site, home=home, policy=policy, line=said.append)
        place: Any = Place(hides_candidates=hides)
        gate(place, step)
    return said


def refused(folder: Path, site: Site, home: Path, **more: Any) -> str:
    with pytest.raises(RelforgeError) as caught:
        ask(folder, site, home, **more)
    assert caught.value.code is ExitCode.GATE
    assert not list(folder.parent.glob(".*")), "no copy stays"
    return f"{caught.value.what}\n{caught.value.why}"


def test_what_passed_is_looked_at_once(releaser: Releaser, folder: Path, tmp_path: Path) -> None:
    assert ask(folder, releaser.site, tmp_path) == [f"verifying {folder}"]
    assert ask(folder, releaser.site, tmp_path) == []
    assert not list(folder.parent.glob(".*")), "no copy stays"


def test_an_edit_after_it_passed_is_found(releaser: Releaser, folder: Path, tmp_path: Path) -> None:
    ask(folder, releaser.site, tmp_path)
    card = folder / "README.md"
    card.write_text(card.read_text() + "\nBetter than it is.\n")
    assert "contents" in refused(folder, releaser.site, tmp_path)


def test_an_edit_while_it_is_sent_changes_nothing_that_is_sent(
    folder: Path, tmp_path: Path
) -> None:
    with snapshot(folder, tmp_path) as kept:
        before = (kept.published.folder / "README.md").read_bytes()
        (folder / "README.md").write_text("something else")
        (folder / "release.json").write_text("{}")
        assert (kept.published.folder / "README.md").read_bytes() == before
        assert kept.published.record["release"] == folder.name


def test_what_nobody_signed(tmp_path: Path) -> None:
    unsigned = Releaser.at(tmp_path / "maker", signs=False)
    folder = unsigned.release(tmp_path / "dist")
    assert "policy.signers" in refused(folder, unsigned.site, tmp_path)


def test_what_another_key_signed(releaser: Releaser, folder: Path, tmp_path: Path) -> None:
    other = Releaser.at(tmp_path / "other", key=key_file(tmp_path / "other.pem"))
    assert "signature" in refused(folder, other.site, tmp_path)


def test_a_stage_that_did_not_pass(releaser: Releaser, tmp_path: Path) -> None:
    folder = releaser.release(tmp_path / "dist", verdicts={"smoke": "not-run"})
    assert "policy.stages" in refused(folder, releaser.site, tmp_path)


def test_a_candidate_that_nobody_sees_may_wait_unverified(tmp_path: Path) -> None:
    unsigned = Releaser.at(tmp_path / "maker", signs=False)
    folder = unsigned.release(tmp_path / "dist")
    ask(folder, unsigned.site, tmp_path, step="candidate", hides=True)
    assert "policy.signers" in refused(folder, unsigned.site, tmp_path, step="candidate")
    assert "policy.signers" in refused(folder, unsigned.site, tmp_path, step="promote", hides=True)


def test_a_policy_that_is_named_does_not_replace_the_sites(
    releaser: Releaser, folder: Path, tmp_path: Path
) -> None:
    strict, weak = tmp_path / "strict.yaml", tmp_path / "weak.yaml"
    strict.write_text("kind: policy\nminimum_serial: 99999999999999\n")
    weak.write_text("kind: policy\nsigned: false\nstages: []\nattestations: {}\nsbom: null\n")
    publish = releaser.site.publish.model_copy(update={"policy": strict})
    site = releaser.site.model_copy(update={"publish": publish})
    assert "policy.serial" in refused(folder, site, tmp_path, policy=weak)
    assert "policy.serial" in refused(folder, releaser.site, tmp_path, policy=strict)


def test_what_was_young_enough_yesterday(releaser: Releaser, folder: Path, tmp_path: Path) -> None:
    policy = tmp_path / "young.yaml"
    policy.write_text(yaml.safe_dump({"kind": "policy", "max_age_days": 1.0}))
    assert ask(folder, releaser.site, tmp_path, policy=policy) == [f"verifying {folder}"]
    assert ask(folder, releaser.site, tmp_path, policy=policy) == [f"verifying {folder}"]


def delivery(published: Published, step: Step) -> Delivery:
    return Delivery(
        target="page", step=step, place="page.example", image_digest=published.image_digest,
        references=(), changes=(), sent_bytes=0,
    )  # fmt: skip


def test_what_was_withdrawn_goes_nowhere_again(
    releaser: Releaser, folder: Path, tmp_path: Path
) -> None:
    with snapshot(folder, tmp_path) as kept:
        done = delivery(kept.published, "withdraw")
        Journal(tmp_path).end(kept.published, done, "wrong answers")
    said = refused(folder, releaser.site, tmp_path)
    assert "was withdrawn" in said
    assert "wrong answers" in said


def test_an_older_record_does_not_replace_a_newer_one(releaser: Releaser, tmp_path: Path) -> None:
    older = releaser.release(tmp_path / "older", wrong=4)
    newer = releaser.release(tmp_path / "newer", wrong=3)
    with snapshot(newer, tmp_path) as kept:
        Journal(tmp_path).end(kept.published, delivery(kept.published, "promote"))
    same = [
        json.loads((one / "release.json").read_text())["image_digest"] for one in (older, newer)
    ]
    assert same[0] == same[1]
    assert "older record" in refused(older, releaser.site, tmp_path)
    ask(newer, releaser.site, tmp_path)


def test_a_link_in_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "evidence" / "passwd").symlink_to("/etc/passwd")
    with (
        pytest.raises(RelforgeError, match="files and nothing else") as caught,
        snapshot(folder, tmp_path),
    ):
        pass
    assert caught.value.code is ExitCode.PUBLISH


def test_a_folder_that_cannot_be_written_beside(
    releaser: Releaser, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda _path, _mode: False)
    assert ask(folder, releaser.site, tmp_path) == [f"verifying {folder}"]
    assert list((tmp_path / "publications" / "work").iterdir()) == []
