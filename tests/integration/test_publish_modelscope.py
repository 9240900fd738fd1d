"""Releases on ModelScope: the real client against a stand-in that is written to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from modelscope_hub import HubApi

from relforge.publishing.hubs.asking import PUBLICATION
from relforge.publishing.hubs.flow import HubFlow, tag_of
from relforge.publishing.published import Published
from relforge.publishing.target import Doing
from tests.fakes.hub_git import Repository
from tests.fakes.hub_server import Fault
from tests.fakes.modelscope_writing import WritableModelScope
from tests.support.hub_targets import (
    NAME,
    TOKEN,
    WEIGHTS,
    Told,
    apply,
    changed,
    failing,
    read_folder,
    target_on,
    wanted,
)
from tests.support.published import make_published

DRAFT = f"{NAME}-candidate"


@pytest.fixture
def hub() -> Iterator[WritableModelScope]:
    made = WritableModelScope({TOKEN: "team-bot", "someone-else-token": "somebody"})
    with made:
        yield made


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


@pytest.fixture
def target(hub: WritableModelScope, token_file: Path) -> HubFlow:
    return target_on("modelscope", hub.url, token_file)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """One for all: tests that alter a file make another."""
    return make_published(tmp_path_factory.mktemp("published"), weights=WEIGHTS)


def repo(hub: WritableModelScope, name: str = NAME) -> Repository:
    return hub.repositories[name]


def downloaded(
    hub: WritableModelScope, tmp_path: Path, revision: str = "master", name: str = NAME
) -> dict[str, bytes]:
    """What a reader gets with the library's own download."""
    folder = tmp_path / f"downloaded-{len(hub.asked)}"
    api = HubApi(endpoint=hub.url, token="someone-else-token")
    api.download_repo(name, "model", revision=revision, local_dir=folder)
    return read_folder(folder)


def test_a_candidate_lies_in_a_private_repository_of_its_own(
    hub: WritableModelScope, target: HubFlow, published: Published, tmp_path: Path
) -> None:
    plan = target.plan(published, "candidate")
    assert (hub.body_bytes, hub.repositories) == (0, {})
    delivery = apply(target, published, "candidate")
    assert delivery.references == (f"{hub.url}/models/{DRAFT}",)
    assert delivery.sent_bytes == plan.bytes
    assert list(hub.repositories) == [DRAFT]
    assert repo(hub, DRAFT).private
    assert downloaded(hub, tmp_path, name=DRAFT) == wanted(published, "modelscope")


def test_a_promotion_sends_large_files_no_second_time(
    hub: WritableModelScope, target: HubFlow, published: Published, tmp_path: Path
) -> None:
    apply(target, published, "candidate")
    assert hub.count("PUT /storage") == 1
    delivery = apply(target, published, "promote")
    tag = tag_of(published)
    assert delivery.references == (f"{hub.url}/models/{NAME}/files?version={tag}",)
    assert hub.count("PUT /storage") == 1
    assert delivery.sent_bytes < len(WEIGHTS["model.safetensors"])
    assert not repo(hub).private
    assert hub.licenses[NAME] == "Apache-2.0"
    assert downloaded(hub, tmp_path, tag) == wanted(published, "modelscope")
    assert repo(hub).files(tag) == repo(hub).files()


def test_the_card_has_the_head_that_modelscope_reads(
    hub: WritableModelScope, target: HubFlow, published: Published
) -> None:
    apply(target, published, "promote")
    card = repo(hub).files()["README.md"].decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["tasks"] == ["text-generation"]
    assert head["license"] == "Apache-2.0"
    other = (published.folder / "README.md").read_text()
    assert card.split("---\n", 2)[2] == other.split("---\n", 2)[2]
    assert not any(name.startswith(".eval_results/") for name in repo(hub).files())


@pytest.mark.parametrize("step", ["candidate", "promote", "withdraw"])
def test_a_second_time_sends_and_changes_nothing(
    hub: WritableModelScope, target: HubFlow, published: Published, step: str
) -> None:
    if step != "candidate":
        apply(target, published, "promote")
    apply(target, published, step, "why not")  # type: ignore[arg-type]
    before = hub.body_bytes
    posts = hub.count("^(POST|PUT|DELETE)")
    plan = target.plan(published, step)  # type: ignore[arg-type]
    assert plan.nothing
    delivery = apply(target, published, step, "another word")  # type: ignore[arg-type]
    assert all(one.action == "same" for one in delivery.changes)
    assert (delivery.sent_bytes, hub.body_bytes) == (0, before)
    assert hub.count("^(POST|PUT|DELETE)") == posts


def test_a_changed_card_is_sent_alone_and_the_tag_stays(
    hub: WritableModelScope, target: HubFlow, published: Published, tmp_path: Path
) -> None:
    apply(target, published, "promote")
    tagged = repo(hub).refs[f"tags/{tag_of(published)}"]
    again = make_published(tmp_path, weights=WEIGHTS, free="Read this first.")
    delivery = apply(target, again, "promote")
    assert changed(delivery) == {"README.md", "contents.json", PUBLICATION}
    assert hub.count("PUT /storage") == 1
    assert b"Read this first." in repo(hub).files()["README.md"]
    assert repo(hub).refs[f"tags/{tag_of(published)}"] == tagged


def test_another_image_replaces_the_files_of_the_old_one_in_one_commit(
    hub: WritableModelScope, token_file: Path, tmp_path: Path
) -> None:
    target = target_on("modelscope", hub.url, token_file, draft=False, private=True)
    old = make_published(tmp_path, evidence={"bench.json": b"{}\n"})
    apply(target, old, "candidate")
    assert list(repo(hub).files()) == [".gitattributes"]
    apply(target, old, "promote")
    repo(hub).edit("LICENSE", b"MIT\n", "somebody")
    commits = len(repo(hub).commits)
    apply(target, make_published(tmp_path, python=b"print('new')\n"), "promote")
    assert len(repo(hub).commits) == commits + 1
    assert "evidence/bench.json" not in repo(hub).files()
    assert repo(hub).files()["LICENSE"] == b"MIT\n"
    assert repo(hub).private
    assert list(hub.repositories) == [NAME]


def test_many_bytes_are_several_commits_with_the_card_in_the_last(
    hub: WritableModelScope, token_file: Path, tmp_path: Path
) -> None:
    notes = {f"notes-{n:03}.txt": bytes([65 + n % 26]) * 60_000 for n in range(150)}
    published = make_published(tmp_path, evidence=notes)
    target = target_on("modelscope", hub.url, token_file, draft=False)
    delivery = apply(target, published, "promote")
    history = repo(hub).history(repo(hub).refs["master"])
    assert [("README.md" in one.tree, PUBLICATION in one.tree) for one in history] == [
        (True, True), (False, False), (False, False)
    ]  # fmt: skip
    assert delivery.sent_bytes > 9_000_000
    assert repo(hub).files(tag_of(published)) == repo(hub).files()


def test_a_withdrawn_release_says_so_and_keeps_its_tag(
    hub: WritableModelScope, target: HubFlow, published: Published
) -> None:
    apply(target, published, "candidate")
    apply(target, published, "promote")
    delivery = apply(target, published, "withdraw", "wrong sums")
    tag = next(one for one in delivery.changes if one.kind == "tag")
    assert (tag.action, tag.after) == ("same", "ModelScope's library removes no tags")
    files = repo(hub).files()
    head, body = files["README.md"].decode().split("---\n", 2)[1:]
    assert yaml.safe_load(head)["tags"][-1] == "withdrawn"
    assert body.strip().startswith("> **This release was withdrawn on 20")
    assert "wrong sums" in body.splitlines()[1]
    assert list(repo(hub, DRAFT).files()) == [".gitattributes"]
    assert "was withdrawn there" in failing(target, published, "promote").what


def test_what_somebody_else_overwrites_again_and_again_is_named(
    hub: WritableModelScope, token_file: Path, published: Published
) -> None:
    hub.repositories[NAME] = Repository("master")
    target = target_on("modelscope", hub.url, token_file, draft=False)
    edit = Fault(
        "POST .*/commit/master",
        "after",
        times=100,
        then=lambda: repo(hub).edit("README.md", b"# mine\n", "ann"),
    )
    hub.faults.append(edit)
    error = failing(target, published, "promote")
    assert "changed by somebody else" in error.what
    assert "not as they were sent: README.md" in str(error.why)
    assert not any(name.startswith("tags/") for name in repo(hub).refs)


def test_an_older_release_without_a_card_for_modelscope(
    hub: WritableModelScope, target: HubFlow, published: Published
) -> None:
    kept = {n: d for n, d in published.files.items() if not n.startswith("cards/")}
    older = replace(published, files=kept)
    error = failing(target, older)
    assert "no card for ModelScope" in error.what
    assert hub.asked == []


def test_an_undone_candidate_leaves_the_draft_empty(
    hub: WritableModelScope, target: HubFlow, published: Published
) -> None:
    delivery = apply(target, published, "candidate")
    target.undo(published, delivery, Doing())
    assert list(repo(hub, DRAFT).files()) == [".gitattributes"]


def test_an_undone_first_promotion_removes_its_files_and_says_that_the_tag_stays(
    hub: WritableModelScope, target: HubFlow, published: Published
) -> None:
    delivery = apply(target, published, "promote")
    told = Told()
    target.undo(published, delivery, told.doing)
    assert list(repo(hub).files()) == [".gitattributes"]
    assert "keeps the tag" in told.text
