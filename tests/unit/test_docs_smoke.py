"""docs/smoke.md lists the probes that run, in their order, and settings that manifests take."""

from __future__ import annotations

import re

import yaml

from relforge.manifest.project import builtin_root
from relforge.manifest.smoke import PROBE_NAMES, Smoke

TEXT = (builtin_root() / "docs" / "smoke.md").read_text()


def test_the_table_names_every_probe_in_order() -> None:
    table = TEXT[TEXT.index("| probe | passes when |") :].split("\n\n", 1)[0]
    names = [row.split("|")[1].strip() for row in table.splitlines()[2:]]
    assert tuple(names) == PROBE_NAMES
    assert f"asks {len(PROBE_NAMES)} questions" in TEXT


def test_the_settings_shown_are_settings_of_a_release() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    settings = Smoke.model_validate(yaml.safe_load(shown)["smoke"])
    assert not settings.exact
    assert set(settings.skip) == {"chat"}
