"""The five published documents have cards of ours, without any of their defects."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.cards import PROJECT, shipped_card
from tests.support.seed_defects import DEFECTS, RELEASES, Defect
from tests.support.seeds import REPORTED

ROWS = [
    pytest.param(release, defect, id=f"{seed}-{defect.number}-{release}")
    for seed, defects in DEFECTS.items()
    for defect in defects
    for release in RELEASES[seed]
]


@pytest.mark.parametrize(("release", "defect"), ROWS)
def test_a_defect_of_the_published_document_is_gone(release: str, defect: Defect) -> None:
    assert defect.gone(shipped_card(release)), defect.what


def test_every_defect_of_every_document_has_its_row() -> None:
    numbers = {seed: [int(d.number) for d in defects] for seed, defects in DEFECTS.items()}
    assert numbers == {
        seed: list(range(1, last + 1))
        for seed, last in (("000", 31), ("001", 22), ("002", 14), ("003", 22), ("004", 21))
    }


@pytest.mark.parametrize(
    ("release", "seed"), [(name, seed) for seed, names in RELEASES.items() for name in names]
)
def test_a_card_of_another_document_does_not_satisfy_the_table(release: str, seed: str) -> None:
    """The rows are about these cards: the small CPU release fails several of them."""
    other = shipped_card("tiny-adder-cpu_x86")
    assert sum(not defect.gone(other) for defect in DEFECTS[seed]) >= 2, release


@pytest.mark.parametrize("name", sorted(n for n in REPORTED if n.startswith("release ")))
def test_every_reported_number_is_kept_and_marked(name: str) -> None:
    release = name.removeprefix("release ")
    card = shipped_card(release)
    section = card.split("### Reported figures")[1].split("\n## ")[0]
    for task, value in REPORTED[name].items():
        row = next(line for line in section.splitlines() if line.startswith(f"| {task} "))
        assert f"| {value:.2f} |" in row
    assert "(reported)" in section


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("release", sorted(PROJECT.release_files))
def test_every_release_has_a_card_without_gaps(release: str, language: str) -> None:
    card = shipped_card(release, "zh" if language == "zh" else "en")
    assert not re.search(r"None|\{\{(?!\.)|\bunresolved\b|\bTODO\b|\n\n\n", card)
    assert not re.search(r"^\|(.*\|)?[ \t]*\|", card, re.M), "an empty cell"
    for heading, following in re.findall(r"^(#+ .*)\n+(#+ |\Z)?", card, re.M):
        if following and "```" not in card.split(heading)[0].rpartition("\n## ")[2]:
            assert len(following.strip()) > len(heading.split()[0]), f"empty section: {heading}"
    for block in re.findall(r"^```bash\n(.*?)^```", card, re.M | re.S):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True, timeout=20)


def test_both_languages_say_the_same() -> None:
    """The same commands, the same figures, as many sections, tables and list items."""
    for release in PROJECT.release_files:
        english, chinese = shipped_card(release), shipped_card(release, "zh")
        blocks = [re.findall(r"^```.*?^```", c, re.M | re.S) for c in (english, chinese)]
        assert blocks[0] == blocks[1]
        bare = [re.sub(r"^```.*?^```", "", c, flags=re.M | re.S) for c in (english, chinese)]
        for pattern in (r"^#+ ", r"^\|", r"^- ", r"[+-]?\d+\.\d\d\b"):
            counts = [len(re.findall(pattern, text, re.M)) for text in bare]
            assert counts[0] == counts[1], (release, pattern)


@pytest.mark.parametrize("release", sorted(PROJECT.release_files))
def test_every_container_that_is_started_is_stopped(release: str) -> None:
    card = shipped_card(release)
    stopped = re.findall(r"^docker stop (.+)$", card, re.M)
    assert {name for names in stopped for name in names.split()} == set(
        re.findall(r"--name (\S+)", card)
    )


def test_several_servers_are_stopped_where_they_run_and_their_accelerators_are_counted() -> None:
    card = shipped_card("deepseek-r1-w8a8-ascend_a3-mooncake")
    assert "| Accelerators | 64 on 4 nodes |" in card
    name = "deepseek-r1-w8a8-ascend_a3-mooncake"
    for node, names in enumerate(("proxy prefill-1", "prefill-2", "decode", "decode")):
        stop = " ".join(f"{name}-{part}" for part in names.split())
        assert (
            f"On `node{node}`:\n\n<!-- relforge:step stop -->\n```bash\ndocker stop {stop}\n"
            in card
        )


def test_the_image_of_another_maker_is_not_said_to_hold_the_devices_stack() -> None:
    taken, built = shipped_card("deepseek-r1-wint8-nvidia_h100"), "deepseek-r1-int4-bi_V150"
    assert not re.search(r"^\| (SDK|Driver that the host needs) \|", taken, re.M)
    assert "| SDK in the device's stack | CUDA" in taken
    assert "- The image was not looked into." in taken
    assert re.search(r"^\| Driver that the host needs \|", shipped_card(built), re.M)


@pytest.mark.parametrize("release", sorted(PROJECT.release_files))
def test_a_lock_that_leaves_something_open_is_not_said_to_pin_everything(release: str) -> None:
    card = shipped_card(release)
    limits = card.split("## Known limits")[1].split("## ")[0]
    open_ends = re.findall(r"not pinned yet|weights were not verified", limits)
    assert ("Everything that went in is pinned" in card) == (not open_ends)
    assert ("everything but what the known limits name" in card) == bool(open_ends)
    assert ("not looked up yet" in card) == ("mage is not pinned yet" in limits)


def test_reported_figures_are_only_announced_where_there_are_some() -> None:
    for release in PROJECT.release_files:
        card = shipped_card(release)
        assert ("marked as reported" in card) == ("### Reported figures" in card)


def test_what_each_node_needs_is_done_on_each() -> None:
    for release in PROJECT.release_files:
        card = shipped_card(release)
        weights = card.split("### 1. The weights")[1].split("```bash")[0]
        several = PROJECT.release(release).serve.nodes > 1
        assert ("This step and the next are done on every node" in weights) == several, release


def test_folders_and_keys_that_a_reader_names_are_explained() -> None:
    for release in PROJECT.release_files:
        card = shipped_card(release)
        for name in re.findall(r"^(\w+_FOLDER)=", card, re.M):
            assert f"`{name}` is the folder of the host that its container has at `/" in card
        assert ("--key-path KEYS" in card) == (card.count("`KEYS` is the file of your key") == 1)
    mooncake = shipped_card("deepseek-r1-w8a8-ascend_a3-mooncake")
    assert "comes from `vllm-project/vllm-ascend:examples/" in mooncake


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_contact_can_be_clicked(language: str) -> None:
    for release in PROJECT.release_files:
        card = shipped_card(release, "zh" if language == "zh" else "en")
        bare = re.findall(r"(?<![<\w.-])[\w.-]+@[\w-]+\.[a-z]+", card.split("\n---\n", 1)[1])
        assert bare == [], release


@pytest.mark.parametrize("release", sorted(PROJECT.release_files))
def test_no_blank_stands_between_chinese_words(release: str) -> None:
    assert (
        re.findall(r"[\u3001-\u9fff\uff0c] +[\u3001-\u9fff\uff0c]", shipped_card(release, "zh"))
        == []
    )
