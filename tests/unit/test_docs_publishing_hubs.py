"""What docs/publishing-hubs.md shows is a site configuration, and its figures are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from relforge.manifest.publishing import HubTarget
from relforge.manifest.site import Site
from relforge.publishing.hubs.client import Patience
from relforge.publishing.hubs.files import hub_files
from tests.support.published import make_published

PAGE = Path(__file__).resolve().parents[2] / "docs" / "publishing-hubs.md"


def test_the_example_is_a_site_configuration() -> None:
    text = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    site = Site.model_validate(yaml.safe_load(text))
    assert {name: one.kind for name, one in site.publish.targets.items()} == {
        "hf": "huggingface", "ms": "modelscope"
    }  # fmt: skip
    assert all(isinstance(one, HubTarget) for one in site.publish.targets.values())


def test_the_figures_are_the_code_s() -> None:
    text, patience = PAGE.read_text(), Patience()
    assert (patience.policy.attempts, patience.policy.hint_limit_s) == (5, 120)
    assert "five times at most" in text
    assert "more than two minutes" in text
    assert (patience.answer_s, patience.slowest_bytes_per_s) == (180, 50_000)
    assert "longer than three minutes (uploads: and their bytes at 50 kB/s)" in text


def test_the_table_of_files_is_complete(tmp_path: Path) -> None:
    table = PAGE.read_text().split("## What lies there")[1].split("## Steps")[0]
    published = make_published(tmp_path, weights={"config.json": b"{}"})
    for path in hub_files(published, "huggingface", weights=False, scratch=tmp_path):
        top = path.split("/")[0] + "/" if "/" in path and ".relforge" not in path else path
        assert f"`{top}`" in table
