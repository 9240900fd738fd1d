"""Releases on the Hugging Face Hub: the real client against a stand-in that is written to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, snapshot_download

from relforge.errors import ExitCode, RelforgeError
from relforge.publishing.hubs.asking import PUBLICATION
from relforge.publishing.hubs.flow import HubFlow, tag_of
from relforge.publishing.published import Published
from relforge.publishing.target import Doing
from tests.fakes.hub_git import Blob, Pull, Repository
from tests.fakes.hub_server import Fault
from tests.fakes.huggingface_writing import WritableHub
from tests.support.hub_targets import (
    NAME,
    TOKEN,
    WEIGHTS,
    apply,
    changed,
    failing,
    read_folder,
    target_on,
    wanted,
)
from tests.support.published import make_published


@pytest.fixture
def hub() -> Iterator[WritableHub]:
    made = WritableHub({TOKEN: "team-bot", "someone-else-token": "somebody"})
    with made:
        yield made


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
def target(hub: WritableHub, token_file: Path) -> HubFlow:
    return target_on("huggingface", hub.url, token_file)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """One for all: tests that alter a file make another."""
    return make_published(tmp_path_factory.mktemp("published"), weights=WEIGHTS)


def repo(hub: WritableHub) -> Repository:
    return hub.repositories[NAME]


def downloaded(hub: WritableHub, tmp_path: Path, revision: str) -> dict[str, bytes]:
    """What a reader gets with the library's own download."""
    folder = tmp_path / f"downloaded-{len(hub.asked)}"
    snapshot_download(
        NAME, revision=revision, local_dir=folder, endpoint=hub.url, token="someone-else-token"
    )
    return read_folder(folder)


def test_a_candidate_is_a_pull_request_with_the_whole_release(
    hub: WritableHub, target: HubFlow, published: Published, tmp_path: Path
) -> None:
    plan = target.plan(published, "candidate")
    assert (hub.body_bytes, hub.repositories) == (0, {})
    assert {one.kind for one in plan.changes} == {"repository", "file", "pull-request"}
    delivery = apply(target, published, "candidate")
    assert delivery.references == (f"{hub.url}/{NAME}/discussions/1",)
    assert (
        delivery.sent_bytes
        == plan.bytes
        == sum(len(data) for data in repo(hub).files("refs/pr/1").values())
        - len(repo(hub).files()[".gitattributes"])
    )
    assert list(repo(hub).files()) == [".gitattributes"]
    assert downloaded(hub, tmp_path, "refs/pr/1") == wanted(published, "huggingface")
    large = {p for p, blob in repo(hub).at("refs/pr/1").tree.items() if blob.large}  # type: ignore[union-attr]
    assert large == {"model.safetensors"}
    assert not any(name.startswith("image/") for name in repo(hub).files("refs/pr/1"))
    pull = repo(hub).pulls[1]
    assert published.image_digest in pull.description
    assert repo(hub).private is False


@pytest.mark.parametrize("step", ["candidate", "promote", "withdraw"])
def test_a_second_time_sends_and_changes_nothing(
    hub: WritableHub, target: HubFlow, published: Published, step: str
) -> None:
    if step != "candidate":
        apply(target, published, "promote")
    apply(target, published, step, "why not")  # type: ignore[arg-type]
    refs, before = dict(repo(hub).refs), hub.body_bytes
    plan = target.plan(published, step)  # type: ignore[arg-type]
    assert plan.nothing
    assert plan.bytes == 0
    delivery = apply(target, published, step, "another word")  # type: ignore[arg-type]
    assert all(one.action == "same" for one in delivery.changes)
    assert (delivery.sent_bytes, hub.body_bytes) == (0, before)
    assert repo(hub).refs == refs


def test_a_promotion_merges_the_pull_request_and_tags_what_was_read_back(
    hub: WritableHub, target: HubFlow, published: Published, tmp_path: Path
) -> None:
    apply(target, published, "candidate")
    before = hub.body_bytes
    plan = target.plan(published, "promote")
    assert plan.bytes == 0
    delivery = apply(target, published, "promote")
    tag = tag_of(published)
    assert delivery.references == (f"{hub.url}/{NAME}/tree/{tag}",)
    assert (delivery.sent_bytes, hub.count(r"PUT /storage")) == (0, 1)
    assert hub.body_bytes - before < 1000
    assert repo(hub).pulls[1].status == "merged"
    assert repo(hub).refs[f"tags/{tag}"] == repo(hub).refs["main"]
    assert downloaded(hub, tmp_path, tag) == wanted(published, "huggingface")
    apply(target, published, "candidate")
    assert len(repo(hub).pulls) == 1


def test_a_changed_card_is_sent_alone_and_the_tag_stays(
    hub: WritableHub, target: HubFlow, published: Published, tmp_path: Path
) -> None:
    apply(target, published, "promote")
    tagged = repo(hub).refs[f"tags/{tag_of(published)}"]
    again = make_published(tmp_path, weights=WEIGHTS, free="Read this first.")
    assert again.image_digest == published.image_digest
    uploads = hub.count("PUT /storage")
    delivery = apply(target, again, "promote")
    assert changed(delivery) == {"README.md", "contents.json", PUBLICATION}
    assert hub.count("PUT /storage") == uploads
    assert b"Read this first." in repo(hub).files()["README.md"]
    assert repo(hub).refs[f"tags/{tag_of(published)}"] == tagged != repo(hub).refs["main"]


def test_the_same_release_never_has_a_second_pull_request(
    hub: WritableHub, target: HubFlow, published: Published, tmp_path: Path
) -> None:
    apply(target, published, "candidate")
    again = make_published(tmp_path, weights=WEIGHTS, free="Read this first.")
    delivery = apply(target, again, "candidate")
    assert list(repo(hub).pulls) == [1]
    assert changed(delivery) == {"README.md", "contents.json", PUBLICATION}
    assert downloaded(hub, tmp_path, "refs/pr/1") == wanted(again, "huggingface")


def test_another_image_replaces_the_files_of_the_old_one_and_no_others(
    hub: WritableHub, target: HubFlow, tmp_path: Path
) -> None:
    old = make_published(tmp_path, evidence={"bench.json": b"{}\n"})
    apply(target, old, "promote")
    repo(hub).edit("LICENSE", b"MIT\n", "somebody")
    new = make_published(tmp_path, python=b"print('new')\n")
    apply(target, new, "candidate")
    delivery = apply(target, new, "promote")
    assert "evidence/bench.json" in changed(delivery)
    assert "evidence/bench.json" not in repo(hub).files()
    assert repo(hub).files()["LICENSE"] == b"MIT\n"
    assert {name for name in repo(hub).refs if name.startswith("tags/")} == {
        f"tags/{tag_of(one)}" for one in (old, new)
    }
    assert "evidence/bench.json" in repo(hub).files(tag_of(old))


def test_a_withdrawn_release_says_so_and_has_no_results(
    hub: WritableHub, target: HubFlow, published: Published, tmp_path: Path
) -> None:
    apply(target, published, "candidate")
    apply(target, published, "promote")
    head = repo(hub).refs["main"]
    plan = target.plan(published, "withdraw")
    assert {(one.action, one.kind) for one in plan.changes if one.action != "same"} == {
        ("replace", "file"), ("remove", "file"), ("remove", "tag")
    }  # fmt: skip
    apply(target, published, "withdraw", "answers are <b>wrong</b>\nfor sums above 99")
    files = repo(hub).files()
    card = ModelCard(files["README.md"].decode())
    head_of_card = yaml.safe_load(card.data.to_yaml())
    assert "model-index" not in head_of_card
    assert "withdrawn" in head_of_card["tags"]
    first = card.text.strip().splitlines()[0]
    assert first.startswith("> **This release was withdrawn on 20")
    assert "answers are &lt;b>wrong&lt;/b> for sums above 99" in first
    assert published.image_digest in card.text.split("# tiny-adder")[0]
    assert "撤回" in files["README_zh.md"].decode()
    assert not any(name.startswith(".eval_results/") for name in files)
    assert f"tags/{tag_of(published)}" not in repo(hub).refs
    assert repo(hub).files(head)["README.md"] == (published.folder / "README.md").read_bytes()
    error = failing(target, published, "promote")
    assert "answers are <b>wrong</b>" in str(error.why)
    new = make_published(tmp_path, weights=WEIGHTS, python=b"print('right')\n")
    apply(target, new, "promote")
    assert downloaded(hub, tmp_path, "main") == wanted(new, "huggingface")


def test_withdrawing_a_candidate_closes_its_pull_request(
    hub: WritableHub, target: HubFlow, published: Published
) -> None:
    apply(target, published, "candidate")
    main = repo(hub).refs["main"]
    delivery = apply(target, published, "withdraw", "too early")
    assert changed(delivery, "pull-request") == {"#1"}
    assert repo(hub).pulls[1].status == "closed"
    assert repo(hub).refs["main"] == main


def test_withdrawing_an_older_image_leaves_the_newer_one(
    hub: WritableHub, target: HubFlow, published: Published, tmp_path: Path
) -> None:
    apply(target, published, "promote")
    new = make_published(tmp_path, python=b"print('new')\n", dist=tmp_path / "new")
    apply(target, new, "promote")
    main = repo(hub).refs["main"]
    apply(target, published, "withdraw", "superseded")
    assert repo(hub).refs["main"] == main
    assert {n for n in repo(hub).refs if n.startswith("tags/")} == {f"tags/{tag_of(new)}"}


def test_without_drafts_the_promotion_commits(
    hub: WritableHub, token_file: Path, published: Published, tmp_path: Path
) -> None:
    target = target_on("huggingface", hub.url, token_file, draft=False, private=True, weights=False)
    delivery = apply(target, published, "candidate")
    assert [(one.action, one.kind) for one in delivery.changes] == [("add", "repository")]
    assert repo(hub).private
    assert list(repo(hub).files()) == [".gitattributes"]
    apply(target, published, "promote")
    assert repo(hub).pulls == {}
    expected = wanted(published, "huggingface")
    assert downloaded(hub, tmp_path, "main") == {
        name: data for name, data in expected.items() if name not in WEIGHTS
    }


def test_what_others_changed_meanwhile_is_kept(
    hub: WritableHub, target: HubFlow, published: Published
) -> None:
    hub.repositories[NAME] = Repository("main")
    edit = Fault(
        "POST .*/preupload/main", "before", then=lambda: repo(hub).edit("NEWS", b"1", "ann")
    )
    hub.faults.append(edit)
    apply(target, published, "promote")
    assert (edit.times, hub.count("POST .*/commit/main")) == (0, 2)
    assert repo(hub).files()["NEWS"] == b"1"
    assert repo(hub).files(tag_of(published)) == repo(hub).files()


def test_somebody_who_changes_it_again_and_again_is_named(
    hub: WritableHub, target: HubFlow, published: Published
) -> None:
    hub.repositories[NAME] = Repository("main")
    edits = iter(range(100))

    def edit() -> None:
        repo(hub).edit("NEWS", b"%d" % next(edits), "ann", "Daily news")

    hub.faults.append(Fault("POST .*/preupload/main", "before", then=edit, times=100))
    error = failing(target, published, "promote")
    assert "changed by somebody else" in error.what
    assert "ann: 'Daily news'" in str(error.why)
    assert not any(name.startswith("tags/") for name in repo(hub).refs)


def test_a_pull_request_that_cannot_be_merged_is_committed_instead(
    hub: WritableHub, target: HubFlow, published: Published
) -> None:
    apply(target, published, "candidate")
    repo(hub).edit("README.md", b"# mine\n", "ann")
    repo(hub).edit("NEWS", b"1", "ann")
    apply(target, published, "promote")
    assert repo(hub).pulls[1].status == "closed"
    assert repo(hub).files()["README.md"] == (published.folder / "README.md").read_bytes()
    assert repo(hub).files()["NEWS"] == b"1"


def test_a_merge_that_conflicts_is_committed_instead(
    hub: WritableHub, target: HubFlow, published: Published
) -> None:
    apply(target, published, "candidate")
    repo(hub).edit("README.md", b"# mine\n", "ann")
    apply(target, published, "promote")
    assert hub.count("POST .*/merge") == 1
    assert repo(hub).pulls[1].status == "closed"
    assert repo(hub).files()["README.md"] == (published.folder / "README.md").read_bytes()


def test_a_pull_request_of_a_stranger_with_our_title_is_not_merged(
    hub: WritableHub, target: HubFlow, published: Published, tmp_path: Path
) -> None:
    apply(target, published, "candidate")
    strange = repo(hub)
    ours = strange.at("refs/pr/1")
    assert ours is not None
    strange.pulls[1].status = "closed"
    strange.pulls[2] = Pull(2, strange.pulls[1].title, "somebody", "open")
    tree = {**ours.tree, "modeling.py": Blob(b"import os\n")}
    strange.commit("pr/2", tree, "evil", "somebody", ours.parents)
    apply(target, published, "promote")
    assert strange.pulls[2].status == "open"
    assert downloaded(hub, tmp_path, "main") == wanted(published, "huggingface")


def test_a_tag_that_is_on_something_else_stops_it(
    hub: WritableHub, target: HubFlow, published: Published
) -> None:
    hub.repositories[NAME] = Repository("main")
    repo(hub).refs[f"tags/{tag_of(published)}"] = repo(hub).refs["main"]
    error = failing(target, published, "promote")
    assert tag_of(published) in error.what
    assert list(repo(hub).files()) == [".gitattributes"]


def test_a_file_that_was_altered_is_not_sent(
    hub: WritableHub, target: HubFlow, tmp_path: Path
) -> None:
    published = make_published(tmp_path)
    path = published.folder / "evidence" / "smoke.json"
    path.write_bytes(path.read_bytes().replace(b"pass", b"fail"))
    error = failing(target, published)
    assert error.where == str(path)
    assert hub.count("POST .*/commit") == 0


def test_weights_that_would_replace_the_card_are_refused(
    hub: WritableHub, target: HubFlow, tmp_path: Path
) -> None:
    published = make_published(tmp_path, weights={"README.md": b"# weights\n"})
    error = failing(target, published)
    assert "weights/README.md" in str(error.why)
    assert hub.asked == []


def test_no_token_is_an_error_of_this_host(
    hub: WritableHub, published: Published, tmp_path: Path
) -> None:
    for token_file in (None, tmp_path / "missing"):
        with pytest.raises(RelforgeError) as caught:
            target_on("huggingface", hub.url, token_file).plan(published, "candidate")
        assert caught.value.code == ExitCode.ENVIRONMENT
        assert "hubs.huggingface.token_file" in str(caught.value.hint)


def test_an_undone_candidate_is_a_closed_pull_request(
    hub: WritableHub, target: HubFlow, published: Published
) -> None:
    delivery = apply(target, published, "candidate")
    target.undo(published, delivery, Doing())
    assert repo(hub).pulls[1].status == "closed"
    apply(target, published, "candidate")
    assert [pull.status for pull in repo(hub).pulls.values()] == ["closed", "open"]


@pytest.mark.parametrize("draft", [True, False])
def test_an_undone_promotion_is_the_old_release_again(
    hub: WritableHub, token_file: Path, tmp_path: Path, draft: bool
) -> None:
    target = target_on("huggingface", hub.url, token_file, draft=draft)
    old = make_published(tmp_path, weights=WEIGHTS, evidence={"bench.json": b"{}\n"})
    apply(target, old, "promote")
    before = repo(hub).files()
    weights = {**WEIGHTS, "model.safetensors": b"\0" * 1000}
    new = make_published(
        tmp_path, python=b"print('new')\n", weights=weights, evidence={"more.json": b"[]\n"}
    )
    apply(target, new, "candidate")
    delivery = apply(target, new, "promote")
    assert repo(hub).files() != before
    target.undo(new, delivery, Doing())
    assert repo(hub).files() == before
    assert f"tags/{tag_of(new)}" not in repo(hub).refs
    apply(target, new, "promote")
    assert repo(hub).files()["model.safetensors"] == b"\0" * 1000
