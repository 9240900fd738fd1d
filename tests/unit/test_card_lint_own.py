"""The cards that relforge writes have none of the mistakes that it finds in others."""

from __future__ import annotations

from pathlib import Path

import pytest

from relforge.card.lint.check import lint
from relforge.card.lint.document import parse
from relforge.stages.attest import Signed
from tests.support import benching
from tests.support.cards import PROJECT, shipped_card
from tests.unit.test_card import DIGEST, FIGURES, SIGNED, sbom
from tests.unit.test_card import card as built_card

# What is true of these very releases, and no mistake of the card: none of them was released, most
# have quantized weights that nobody evaluated here, and one source names no subset of its task.
TRUE = {
    "metadata-no-date": "no image was built",
    "evaluation-absent": "nothing in it was measured",
    "evaluation-no-reference": "No reference was published with them",
    "evaluation-subset": "GPQA (accuracy)",
    "safety-host-namespace": "--network host",
}


@pytest.mark.parametrize("release", sorted(PROJECT.release_files))
def test_the_card_of_a_shipped_release(release: str) -> None:
    cards = [parse(shipped_card(release), "en"), parse(shipped_card(release, "zh"), "zh")]
    found = lint(cards)
    assert [f for f in found if f.severity != "note"] == []
    assert {f.rule for f in found} <= set(TRUE)
    for finding in found:
        if finding.file == "en":
            assert TRUE[finding.rule] in cards[0].text, finding


@pytest.mark.parametrize("target", ["hf", "modelscope", "github"])
def test_cards_for_other_hubs_are_as_clean(target: str) -> None:
    for release in ("deepseek-r1-int4-bi_V150", "tiny-adder-cpu_x86"):
        text = shipped_card(release, "en", target)
        # A card without a head is for a place that shows none.
        found = [f for f in lint([parse(text)]) if f.rule != "metadata-no-front-matter"]
        assert [f for f in found if f.severity != "note"] == []


@pytest.mark.parametrize("signed", [None, SIGNED])
@pytest.mark.parametrize("registry", [None, "registry.example.org/team/tiny"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_card_of_a_built_and_measured_release(
    tmp_path: Path, language: str, registry: str | None, signed: Signed | None
) -> None:
    text = built_card(
        FIGURES, language="zh" if language == "zh" else "en", performance=benching.report(),
        registry=registry, signed=signed, sbom=sbom(),
    )  # fmt: skip
    assert DIGEST in text
    assert (SIGNED.keyid in text) == (signed is not None)
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "bench.svg").write_text("<svg/>")
    assert lint([parse(text, "card", tmp_path)]) == ()
