"""What must not happen on a cluster: another relforge does a job, a secret lies in Ray's files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.executor.ray_executor import ray_executor
from relforge.manifest.site_file import load_site
from relforge.stage import Resources, StageContext
from tests.support.ray_fleet import CHECKOUT, fleet
from tests.support.ray_toys import Errand, ErrandResult, device_manifests, errand

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("ray")]
MARKS = {name: f"MARKED-{name}-{'q' * 24}" for name in ("identity", "passphrase", "token", "far")}


@pytest.mark.skipif(
    "RELFORGE_LONG" not in os.environ, reason="minutes, on a quiet machine: RELFORGE_LONG=1"
)
def test_another_relforge_is_refused_and_no_secret_is_left_with_ray(tmp_path: Path) -> None:
    project = device_manifests(tmp_path / "project", "dev_a", "dev_b")
    other = tmp_path / "other"
    shutil.copytree(
        CHECKOUT, other,
        ignore=lambda folder, names: [
            name for name in names
            if name.startswith(".")
            or (Path(folder) == CHECKOUT and name not in ("relforge", "manifests", "dockerfiles"))
        ],
    )  # fmt: skip
    changed = other / "relforge" / "frozen.py"
    changed.write_text(changed.read_text() + "# another line\n")
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    (keys / "own.age.key").write_text(f"AGE-SECRET-KEY-1{MARKS['identity']}\n")
    for name in ("passphrase", "token", "far"):
        (keys / name).write_text(MARKS[name])
    with fleet(tmp_path / "fleet") as cluster:
        words = ("--project", str(project), "--device")
        cluster.join("old", *words, "dev_b", code=other)
        cluster.join(
            "one", *words, "dev_a", hubs={"huggingface": {"token_file": str(keys / "far")}}
        )
        home = tmp_path / "driver"
        home.mkdir()
        path = tmp_path / "driver.yaml"
        path.write_text(
            json.dumps(
                {
                    "home": str(home),
                    "ray": {"address": cluster.address, "token_file": str(cluster.token)},
                    "identities": [str(keys / "own.age.key")],
                    "key_passphrase_file": str(keys / "passphrase"),
                    "hubs": {"huggingface": {"token_file": str(keys / "token")}},
                }
            )
        )
        site = load_site(path)
        ctx = StageContext("toy", "errand", CancelToken())
        with ray_executor(site, home) as executor:

            def run(device: str, **words: object) -> ErrandResult:
                needs = Resources(cpu_cores=0, device=device)
                job = errand(home, needs=needs, site=site, roots=(project,), **words)  # type: ignore[arg-type]
                found = executor.execute(Errand(), job, ctx)
                assert isinstance(found, ErrandResult)
                return found

            with pytest.raises(RelforgeError) as caught:
                run("dev_b")
            assert caught.value.code is ExitCode.ENVIRONMENT
            assert caught.value.what == "old has another relforge"
            assert "code" in (caught.value.why or "")
            made = run("dev_a", makes=64 << 20)
            # More than the object store holds, so that something is spilled or waits.
            assert run("dev_a", upstream={"x": made}).read[0] == made.outputs[0].sha256
            token = cluster.token.read_text()
            left = list(files_of_ray(tmp_path / "fleet"))
            assert any(path.name == "gcs_server.out" for path in left), "Ray's own logs are read"
            for file in left:
                content = file.read_bytes()
                for mark in (*MARKS.values(), token):
                    assert mark.encode() not in content, file
    assert MARKS["token"] not in "".join(p.read_text() for p in home.rglob("*.log"))


def files_of_ray(folder: Path) -> list[Path]:
    """Sessions, logs and spilled objects of all nodes, and what came over."""
    return [
        path
        for top in folder.glob("*/home/ray")
        for path in top.rglob("*")
        if path.is_file() and not path.is_symlink()
    ]
