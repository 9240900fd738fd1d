"""The picture of the console in README is what the console shows of the recorded run."""

from __future__ import annotations

import importlib.util
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from relforge.events import EVENT, StageFinished
from relforge.pipeline import STAGES
from relforge.ui.console import finished_line

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "pictures" / "console.svg"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "scripts" / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_what_the_console_shows(script: Any) -> None:
    assert PICTURE.read_text(encoding="utf-8") == script.console_svg(), (
        "run: python scripts/pictures.py console"
    )


def test_it_shows_every_stage_of_the_recorded_run(script: Any) -> None:
    events = [EVENT.validate_json(row) for row in script.EVENTS.read_text().splitlines()]
    finished = [event for event in events if isinstance(event, StageFinished)]
    assert [event.stage for event in finished] == [stage.name for stage in STAGES]
    shown = re.sub(r"\s", "", "".join(ET.fromstring(PICTURE.read_text()).itertext()))
    for event in finished:
        assert re.sub(r"\s", "", finished_line(event))[:40] in shown, event.stage


def test_nothing_is_fetched_to_show_it() -> None:
    addresses = set(re.findall(r"https?://[^\s\"')]+", PICTURE.read_text()))
    assert addresses <= {"http://www.w3.org/2000/svg", "https://www.textualize.io"}


def test_the_pictures_are_small() -> None:
    for path in (ROOT / "docs" / "pictures").iterdir():
        assert path.stat().st_size < 150_000, path.name
