"""Paths mean the same on two hosts; what travels holds no secret."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from relforge.executor.ray_paths import Places, moved, outputs_in, stamped
from relforge.executor.ray_sent import ProjectFiles, pack
from relforge.files import stamp
from relforge.manifest.site_file import load_site
from relforge.stage import Resources, StageResult
from tests.support.ray_toys import Errand, ErrandResult, errand

DRIVER = Places(Path("/d/home"), Path("/d/dist"), (Path("/p"), Path("/builtin")))
WORKER = Places(
    Path("/w/home"), Path("/w/home/ray/dist"), (Path("/w/home/ray/p0"), Path("/w/home/ray/p1")),
    Path("/w/home/ray/outside"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("/d/home/store/blobs/a", "/w/home/store/blobs/a"),
        ("/d/home", "/w/home"),
        ("/d/dist/x", "/w/home/ray/dist/x"),
        ("/p/manifests/a.yaml", "/w/home/ray/p0/manifests/a.yaml"),
        ("/builtin/dockerfiles", "/w/home/ray/p1/dockerfiles"),
        ("/mnt/weights/m", "/w/home/ray/outside/mnt/weights/m"),
    ],
)
def test_a_path_goes_over_and_comes_back(here: str, there: str) -> None:
    told = DRIVER.told(Path(here))
    assert WORKER.here(told) == Path(there)
    assert DRIVER.here(WORKER.told(Path(there))) == Path(here)


def test_a_home_within_the_project_stays_a_home() -> None:
    places = Places(Path("/p/.relforge/home"), Path("/p/dist"), (Path("/p"),))
    assert places.told(Path("/p/.relforge/home/store/a")) == Path("/@home/store/a")
    assert places.told(Path("/p/manifests/a")) == Path("/@root0/manifests/a")


@pytest.mark.parametrize("told", ["/@home/../../etc/passwd", "/@root7/x", "/@nowhere/x"])
def test_a_path_never_leads_out_of_its_place(told: str) -> None:
    with pytest.raises(ValueError, match="place"):
        WORKER.here(Path(told))


def test_every_path_of_a_result_is_moved_and_its_type_stays(tmp_path: Path) -> None:
    file = tmp_path / "home" / "a"
    file.parent.mkdir()
    file.write_bytes(b"a")
    output = stamp(file)
    result = ErrandResult(host="h", folder=file.parent, outputs=(output,), nested={"same": output})
    places = Places(tmp_path / "home", tmp_path / "dist", ())
    told = moved(result, places.told)
    assert isinstance(told, ErrandResult)
    assert str(tmp_path) not in told.model_dump_json()
    assert [one.path for one in outputs_in(told)] == [Path("/@home/a")] * 2
    assert moved(told, places.here) == result
    other = output.model_copy(update={"inode": 7})
    again = stamped(result, {file: other})
    assert [one.inode for one in outputs_in(again)] == [7, 7]


def test_what_is_sent_holds_no_secret_of_the_driver(tmp_path: Path) -> None:
    """Marked values in every place that the site names, and a key that lies in the project."""
    marks = {
        name: f"MARK-{name}-{'x' * 20}"
        for name in ("identity", "passphrase", "token", "signing", "proxy", "stray")
    }
    keys = tmp_path / "project" / "manifests" / "keys"
    keys.mkdir(parents=True)
    (keys / "identity.age.key").write_text(f"AGE-SECRET-KEY-1{marks['identity']}\n")
    for name in ("passphrase", "token", "proxy"):
        (keys / name).write_text(marks[name])
    (keys / "signing.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{marks['signing']}\n")
    # No configuration names this one.
    (keys / "stray.pem").write_text(f"-----BEGIN EC PRIVATE KEY-----\n{marks['stray']}\n")
    (keys.parent / "releases").mkdir()
    (keys.parent / "releases" / "plain.yaml").write_text("kind: release\n")
    path = tmp_path / "project" / "manifests" / "site.yaml"
    path.write_text(
        json.dumps(
            {
                "home": str(tmp_path / "home"),
                "identities": ["keys/identity.age.key"],
                "key_passphrase_file": "keys/passphrase",
                "hubs": {"huggingface": {"token_file": "keys/token"}},
                "proxy": {
                    "http": "http://proxy.example:3128", "user": "somebody",
                    "password_file": "keys/proxy",
                },
                "publish": {"signing": {"key": "keys/signing.pem"}},
            }
        )
    )  # fmt: skip
    site = load_site(path)
    home = tmp_path / "home"
    job = errand(home, site=site, roots=(tmp_path / "project",), secrets=("identities",))
    packed = pack(Errand(), job, Resources(), ProjectFiles(site))
    assert [file.path.name for file in packed.sent.files] == ["plain.yaml"]
    assert [path.name for path in packed.here.values()] == ["plain.yaml"]
    travels = pickle.dumps(packed.sent)
    for mark in marks.values():
        assert mark.encode() not in travels
    for word in (b"proxy.example", b"signing.pem", b"age.key", str(tmp_path).encode()):
        assert word not in travels
    sent = pickle.loads(travels)
    assert sent.job.env.site.identities == ()
    assert sent.secrets == ("identities",)


def test_a_missing_output_is_no_silent_loss(tmp_path: Path) -> None:
    gone = tmp_path / "home" / "gone"
    gone.parent.mkdir()
    gone.write_bytes(b"x")
    result = StageResult(outputs=(stamp(gone),))
    job = errand(tmp_path / "home", upstream={"x": result})
    packed = pack(Errand(), job, Resources(), ProjectFiles(job.env.site))
    (file,) = packed.sent.files
    assert (file.path, file.size_bytes) == (Path("/@home/gone"), 1)
