"""The hello release on a real Ray cluster: made and tested by workers, the same digest as here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relforge.events import StageStarted
from relforge.evidence.reading_runs import read_events
from tests.e2e.conftest import SAID, Hello
from tests.support.ray_fleet import Fleet, fleet

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def workers(hello: Hello, tmp_path: Path) -> Iterator[Fleet]:
    """Two hosts with homes of their own; only one of them has the device."""
    settings = json.loads(hello.site.read_text())
    base = (hello.home / "base").resolve()
    with fleet(tmp_path / "fleet") as found:
        for name, device in (("maker", "nvidia_h100=1"), ("tester", "cpu_x86")):
            home = found.folder / name / "home"
            home.mkdir(parents=True)
            (home / "base").symlink_to(base)
            # Sources it does not fetch itself: no mirror is named.
            site: dict[str, Any] = {
                **{k: settings[k] for k in ("base_image", "apt_mirror") if k in settings},
                "home": str(home),
                "engine": {"host": os.environ["DOCKER_HOST"]},
            }
            found.join(name, "--device", device, "--project", str(hello.project), **site)
        yield found


def test_the_release_is_made_on_workers_and_is_the_same(
    hello: Hello, workers: Fleet, tmp_path: Path
) -> None:
    here = hello.run("release", "--json")
    assert here.code == 0, here.stderr
    home = tmp_path / "driver"
    home.mkdir()
    site = hello.other_site(
        tmp_path / "driver.yaml", home=str(home), dist=str(tmp_path / "dist-ray"),
        ray={"address": workers.address, "token_file": str(workers.folder / "token")},
        # This host could not build: no engine answers.
        engine={"host": f"unix://{tmp_path / 'none.sock'}"},
    )  # fmt: skip
    done = hello.run("release", "--executor", "ray", "--json", site=site)
    assert done.code == 0, done.stderr
    assert done.json["image_digest"] == here.json["image_digest"]
    assert done.json["verdicts"] == {"smoke": "pass", "evaluate": "pass", **SAID}
    folder = home / "runs" / done.json["run"]
    hosts = {
        event.stage: event.host
        for event in read_events(folder)
        if isinstance(event, StageStarted) and event.host is not None
    }
    assert hosts.pop("build") in ("maker", "tester")
    assert hosts == {"smoke": "tester", "evaluate": "tester"}
    log = (folder / "hello-cpu_x86" / "logs" / "build.log").read_text()
    assert "files came" in log
    assert (folder / "hello-cpu_x86" / "logs" / "buildkit.log").is_file()
    assert (folder / "hello-cpu_x86" / "logs" / "server-smoke.log").is_file()
    assert (tmp_path / "dist-ray" / "hello-cpu_x86" / "release.json").is_file()
    again = hello.run("release", "--executor", "ray", "--json", site=site)
    assert again.code == 0, again.stderr
    assert {s["status"] for s in again.json["stages"]} <= {"reused", "skipped"}
