"""The tags of a release: what is in them, what is left out, and that they fit."""

from __future__ import annotations

from typing import Any

import pytest

from relforge.oci.reference import TAG
from relforge.publishing.tags import MOST, candidate_tag, release_tags

DIGEST = "sha256:0123456789ab" + "c" * 52


def record(**changes: Any) -> dict[str, Any]:
    """That of a release for an accelerator, as the pipeline writes it."""
    stack = {
        "driver": "4.4.0",
        "sdk": ["Corex Runtime 4.4.0", "CUDA Header files"],
        "torch": ["torch==2.7.1+corex.4.4.0"],
    }
    device = {"vendor": {"name": "iluvatar"}, "default_stack": "corex", "stacks": {"corex": stack}}
    build = {
        "architecture": "amd64",
        "created": "2026-10-20T08:40:32Z",
        "python_packages": {"torch": "2.7.1+corex.4.4.0", "flag-gems": "4.2.1rc0"},
    }
    return {
        "release": "qwen3-4b-bi_V150",
        "image_digest": DIGEST,
        "created": "2026-11-29T21:06:00Z",
        "names": {"vendor": "iluvatar", "model": "Qwen3-4B"},
        "inputs": {"card": {"values": {"device": device, "release": {"stack": None}}}},
        "results": {"build": build},
        **changes,
    }


def test_everything_that_is_known_is_in_the_long_one() -> None:
    assert release_tags(record()) == (
        "iluvatar-model_qwen3-4b-gems_4.2.1rc0-torch_2.7.1_corex.4.4.0-sdk_corex4.4.0"
        "-driver_4.4.0-arc_amd64-20261020-0123456789ab",
        "qwen3-4b-bi_V150-0123456789ab",
    )


def test_what_is_not_known_is_left_out() -> None:
    bare = record(names={"vendor": "any", "model": "tiny"}, inputs={})
    bare["results"] = {"build": {"architecture": "arm64"}}
    assert release_tags(bare)[0] == "model_tiny-arc_arm64-20261129-0123456789ab"


@pytest.mark.parametrize(
    ("named", "part"),
    [
        (["MetaX Driver 3.8.1.6", "MACA SDK 3.8.1.3"], "-sdk_maca3.8.1.3-"),
        (["MUSA Toolkits RC4.3.6", "MCCL RC2.1.6"], "-sdk_musarc4.3.6-"),
        (["CUDA 12.4.1 (x86_64)"], "-sdk_cuda12.4.1-"),
    ],
)
def test_the_sdk_in_few_letters(named: list[str], part: str) -> None:
    found = record()
    found["inputs"]["card"]["values"]["device"]["stacks"]["corex"]["sdk"] = named
    assert part in release_tags(found)[0]


def test_the_pinned_torch_counts_where_the_image_does_not_tell() -> None:
    found = record()
    del found["results"]["build"]["python_packages"]
    assert "-torch_2.7.1_corex.4.4.0-" in release_tags(found)[0]
    assert "gems" not in release_tags(found)[0]


def test_the_same_image_always_has_the_same_tags() -> None:
    later = record(created="2027-01-01T00:00:00Z", run="another")
    assert release_tags(later) == release_tags(record())
    other = record(image_digest="sha256:" + "f" * 64)
    assert not set(release_tags(other)) & set(release_tags(record()))


@pytest.mark.parametrize(
    "model", ["m" * 60, "m" * 110, "m" * 300, "ein Modell/mit: Zeichen", "模型"]
)
def test_every_tag_fits(model: str) -> None:
    long, short = release_tags(record(release=model, names={"vendor": "iluvatar", "model": model}))
    for tag in (long, short):
        assert TAG.fullmatch(tag)
        assert len(tag) <= MOST
        assert tag.endswith("0123456789ab")


def test_what_matters_least_goes_first() -> None:
    long, _ = release_tags(record(names={"vendor": "iluvatar", "model": "m" * 30}))
    assert "driver" not in long
    assert "torch" in long


def test_the_candidates_tag_names_the_image() -> None:
    assert candidate_tag(DIGEST) == "candidate-0123456789ab"
