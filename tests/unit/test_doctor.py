"""``doctor --device``: each look finds what is there, what is missing, or says why it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relforge import devicecheck
from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.device import Device
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import EngineSite

PROJECT = Project((builtin_root(),))


@pytest.fixture
def h100() -> Device:
    return PROJECT.device("nvidia_h100")


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.parametrize(
    ("script", "state", "said"),
    [
        ("printf '0, 12\\n1, 0\\n'", "ok", "lists 2"),
        ("echo none", "missing", "lists no device"),
        ("echo broken >&2; exit 3", "missing", "ended with 3: broken"),
    ],
)
def test_the_device_query_is_run_and_read(
    h100: Device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    state: str,
    said: str,
) -> None:
    program(tmp_path, monkeypatch, "nvidia-smi", script)
    found = devicecheck.query(h100)
    assert found.state == state
    assert said in found.found
    assert state == "ok" or found.remedy


def test_a_query_that_nobody_told_how_to_read_is_not_run(
    h100: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, "nvidia-smi", "echo 0")
    asked = h100.device_query
    assert asked is not None
    assert asked != "unknown"
    silent = asked.model_copy(update={"count": "unknown"})
    assert devicecheck.query(h100.model_copy(update={"device_query": silent})).state == "not-run"
    unknown = h100.model_copy(update={"device_query": "unknown"})
    assert devicecheck.query(unknown).state == "not-run"


def test_without_the_program_the_driver_is_missing(
    h100: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = devicecheck.query(h100)
    assert found.state == "missing"
    assert "install the driver" in found.remedy


@pytest.mark.parametrize(
    ("version", "state"),
    [("610.43.02", "ok"), ("620.1", "ok"), ("550.54.15", "missing"), (None, "not-run")],
)
def test_the_driver_is_compared_with_the_stack(
    h100: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, state: str
) -> None:
    file = tmp_path / "version"
    if version:
        file.write_text(f"NVRM version: {version}\n")
    monkeypatch.setattr(devicecheck, "_driver_files", lambda _device: (str(file),))
    found = devicecheck.driver(h100)
    assert found.state == state
    assert str(file) in found.found or version in found.found  # type: ignore[operator]


def test_version_files_are_those_that_profiles_mount(h100: Device) -> None:
    raw = h100.profiles[1].model_copy(update={"mounts": ("/opt/x/version.info:/x:ro", "/a:/a")})
    given = h100.model_copy(update={"launch_profiles": (raw,)})
    assert devicecheck._driver_files(given)[-1] == "/opt/x/version.info"


@pytest.mark.parametrize(
    ("runtimes", "state"), [({"runc", "nvidia"}, "ok"), ({"runc"}, "warning"), (None, "not-run")]
)
def test_the_engine_must_know_the_toolkits_runtime(
    h100: Device, monkeypatch: pytest.MonkeyPatch, runtimes: set[str] | None, state: str
) -> None:
    def known(_site: EngineSite) -> frozenset[str]:
        if runtimes is None:
            raise RelforgeError("no engine", code=ExitCode.ENVIRONMENT)
        return frozenset(runtimes)

    monkeypatch.setattr(devicecheck, "_runtimes", known)
    assert devicecheck.toolkit(h100, EngineSite()).state == state
    only = h100.model_copy(update={"launch_profiles": h100.profiles[:1]})
    wanted = "missing" if state == "warning" else state
    assert devicecheck.toolkit(only, EngineSite()).state == wanted


def test_glibc_is_compared_where_the_manifest_tells_what_is_needed(h100: Device) -> None:
    def with_need(text: str) -> str:
        return devicecheck.glibc(h100.model_copy(update={"host_prerequisites": (text,)})).state

    assert with_need("glibc >= 2.5") == "ok"
    assert with_need("glibc >= 99.1") == "missing"
    assert with_need("a driver") == "not-run"


def test_device_files_are_looked_for(h100: Device, tmp_path: Path) -> None:
    (tmp_path / "x0").touch()
    raw = h100.profiles[1]

    def state(*files: str) -> str:
        given = raw.model_copy(update={"devices": files})
        device = h100.model_copy(update={"launch_profiles": (given,)})
        return devicecheck.device_files(device).state

    assert state(f"{tmp_path}/x{{index}}") == "ok"
    assert state(f"{tmp_path}/x{{index}}", f"{tmp_path}/ctl") == "missing"
    assert state() == "not-run"


def test_another_architecture_is_missing(h100: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert devicecheck.architecture(h100).state == "missing"
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert devicecheck.architecture(h100).state == "ok"


@pytest.mark.parametrize("name", sorted(PROJECT.devices))
def test_every_device_gets_its_looks_and_no_reason_is_missing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    # Not that of a checkout that ran the quickstart.
    (tmp_path / "site.yaml").write_text("kind: site\n")
    monkeypatch.setenv("RELFORGE_SITE", str(tmp_path / "site.yaml"))
    monkeypatch.chdir(builtin_root())
    code = dispatch("doctor", ["--device", name, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["device"] == name
    states = {finding["name"]: finding["state"] for finding in told["findings"]}
    assert code == (3 if "missing" in states.values() else 0)
    assert states["architecture"] in ("ok", "missing", "not-run")
    assert all(f["found"] for f in told["findings"])
    assert all(f["remedy"] for f in told["findings"] if f["state"] in ("missing", "warning"))
    if PROJECT.device(name).accelerator:
        assert {"device query", "driver", "device files", "container toolkit"} <= set(states)
        assert states["container toolkit"] == "not-run", "no engine answers here"
