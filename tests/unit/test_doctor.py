"""``doctor``: each look finds what is there, what is missing, or says why it cannot look.

Vendors' programs and docker are executables on PATH that print what the real ones print.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from relforge import devicecheck, devicequery, profilecheck
from relforge.cli.dispatch import dispatch
from relforge.devicequery import Asked, Need
from relforge.engine.cli import EngineFacts
from relforge.hostcheck import Finding
from relforge.manifest.device import Device
from relforge.manifest.facts import DeviceQuery
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import EngineSite
from relforge.patching.series import read_series
from tests.support.fleet import make_project
from tests.support.patching import make_world
from tests.support.smi import IXSMI, MTHREADS_GMI, NPU_SMI_A2, NPU_SMI_A3, NVIDIA_SMI

PROJECT = Project((builtin_root(),))


@pytest.fixture
def h100() -> Device:
    return PROJECT.device("nvidia_h100")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder on PATH; it has a shell, and what tests put there."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("sh", "cat", "setpriv"):
        (folder / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def prints(folder: Path, name: str, output: str) -> None:
    program(folder, name, f"cat <<'OUTPUT'\n{output}OUTPUT")


def query(device: Device, need: Need | None = None) -> Finding:
    return devicequery.query(device, devicequery.ask(device), need)


def facts(*runtimes: str, default: str = "runc") -> EngineFacts:
    return EngineFacts(
        host="unix:///x.sock",
        server_version="28.5.2",
        buildx_version="0.29.1",
        image_store="containerd",
        architecture="amd64",
        data_root="/x",
        free_disk_bytes=None,
        memory_bytes=1,
        cpus=1,
        runtimes=("runc", *runtimes),
        default_runtime=default,
    )


@pytest.mark.parametrize(
    ("script", "state", "said"),
    [
        ("printf '0, 12\\n1, 0\\n'", "ok", "lists 2"),
        ("echo none", "missing", "lists no device"),
        ("echo broken >&2; exit 3", "missing", "ended with 3: broken"),
    ],
)
def test_the_device_query_is_run_and_read(
    h100: Device, programs: Path, script: str, state: str, said: str
) -> None:
    program(programs, "nvidia-smi", script)
    found = query(h100)
    assert found.state == state
    assert said in found.found
    assert state == "ok" or found.remedy


@pytest.mark.parametrize(
    ("name", "shown", "count", "used", "driver"),
    [
        ("nvidia_h100", NVIDIA_SMI, 2, "in use: 12.6 MB, 5.2 MB", None),
        ("bi_V150", IXSMI, 2, "in use: 269.5 MB of each", "4.4.0"),
        ("mthreads_s5000", MTHREADS_GMI, 2, "in use: 69.9 GB, 10.5 MB", "3.3.5"),
        ("ascend_a2", NPU_SMI_A2, 2, "in use: 3.5 GB", "24.1.rc3.7"),
        ("ascend_a3", NPU_SMI_A3, 4, "in use: 3.6 GB, 3.4 GB, 60.5 GB, 3.3 GB", "26.0.rc2"),
    ],
)
def test_what_the_vendors_programs_print_is_read_with_the_manifests_patterns(
    programs: Path, name: str, shown: str, count: int, used: str, driver: str | None
) -> None:
    device = PROJECT.device(name)
    assert isinstance(device.device_query, DeviceQuery)
    prints(programs, device.device_query.argv[0], shown)
    asked = devicequery.ask(device)
    found = devicequery.query(device, asked)
    assert f"lists {count}, {used}" in found.found
    busy = any(word in used for word in ("69.9", "60.5"))
    assert found.state == ("warning" if busy else "ok")
    assert bool(found.remedy) == busy
    if driver is not None:
        assert devicequery.driver(device, asked).found.startswith(driver)


def test_a_release_that_takes_more_than_there_is_finds_too_few(
    h100: Device, programs: Path
) -> None:
    prints(programs, "nvidia-smi", NVIDIA_SMI)
    assert query(h100, Need("R", 2)).state == "ok"
    found = query(h100, Need("R", 8))
    assert found.state == "missing"
    assert "R takes 8 of a node" in found.found


def test_a_query_that_nobody_told_how_to_read_is_not_run(h100: Device, programs: Path) -> None:
    program(programs, "nvidia-smi", "echo 0")
    asked = h100.device_query
    assert isinstance(asked, DeviceQuery)
    silent = asked.model_copy(update={"count": "unknown"})
    found = query(h100.model_copy(update={"device_query": silent}))
    assert found.state == "not-run"
    assert "device_query.count of manifests/devices/nvidia_h100.yaml" in found.remedy
    unknown = h100.model_copy(update={"device_query": "unknown"})
    assert query(unknown).state == "not-run"
    bad = asked.model_copy(update={"count": "("})
    assert query(h100.model_copy(update={"device_query": bad})).state == "not-run"


def test_without_the_program_the_driver_is_missing(h100: Device, programs: Path) -> None:
    found = query(h100)
    assert found.state == "missing"
    assert "install the driver" in found.remedy


def test_a_query_that_hangs_is_ended(
    h100: Device, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devicequery, "QUERY_TIMEOUT_S", 0.3)
    program(programs, "nvidia-smi", f"exec {shutil.which('sleep', path='/bin:/usr/bin')} 60")
    found = query(h100)
    assert found.state == "missing"
    assert "did not finish within 0.3 s" in found.found


@pytest.mark.parametrize(
    ("version", "state"),
    [("610.43.02", "ok"), ("620.1", "ok"), ("550.54.15", "missing"), (None, "not-run")],
)
def test_the_driver_is_compared_with_the_stack(
    h100: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, state: str
) -> None:
    file = tmp_path / "version"
    if version:
        file.write_text(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Tue\n")
    monkeypatch.setattr(devicequery, "driver_files", lambda _device: (str(file),))
    found = devicequery.driver(h100, Asked(None))
    assert found.state == state
    assert str(file) in found.found or version in found.found  # type: ignore[operator]
    assert state == "ok" or found.remedy


def test_an_old_driver_is_told_the_stacks_that_it_fits() -> None:
    device = PROJECT.device("ascend_a3")
    asked = Asked(NPU_SMI_A3.replace("26.0.rc2", "25.5.0"))
    found = devicequery.driver(device, asked)
    assert found.state == "missing"
    assert found.found == "25.5.0 is loaded, stack cann9.0.0 needs 26.0.rc1"
    assert "name a stack in the release that fits: cann8.5.0" in found.remedy
    assert devicequery.driver(device.on("cann8.5.0"), asked).state == "ok"


@pytest.mark.parametrize(
    ("version", "wanted", "is_older"),
    [
        ("26.0.rc1", "26.0.rc2", True),
        ("26.0.rc2", "26.0.rc1", False),
        ("26.0.rc2", "26.0", True),
        ("26.0.0", "26.0", False),
        ("25.5.0", "26.0.rc1", True),
        ("24.1.rc3.7", "24.1.rc3.10", True),
        ("550.54.15", "610.43.02", True),
        ("6.3.30", "6.3.30", False),
    ],
)
def test_versions_are_ordered(version: str, wanted: str, is_older: bool) -> None:
    assert devicequery.older(version, wanted) == is_older


def test_version_files_are_those_that_profiles_mount(h100: Device) -> None:
    mounts = ("/opt/x/version.info:/x:ro", "/a:/a", "/opt/vendor/driver:/d")
    raw = h100.profiles[1].model_copy(update={"mounts": mounts})
    given = h100.model_copy(update={"launch_profiles": (raw,)})
    files = devicequery.driver_files(given)
    assert "/opt/x/version.info" in files
    assert "/opt/vendor/driver/version.info" in files
    assert not any(file.startswith("/a") for file in files)


@pytest.mark.parametrize(
    ("known", "state"), [(facts("nvidia"), "ok"), (facts(), "warning"), (None, "not-run")]
)
def test_the_engine_must_know_the_toolkits_runtime(
    h100: Device, programs: Path, known: EngineFacts | None, state: str
) -> None:
    assert profilecheck.toolkit(h100, known).state == state
    only = h100.model_copy(update={"launch_profiles": h100.profiles[:1]})
    wanted = "missing" if state == "warning" else state
    assert profilecheck.toolkit(only, known).state == wanted
    program(programs, "nvidia-container-runtime-hook", "exit 0")
    assert profilecheck.toolkit(h100, facts()).state == "ok"


def test_variables_alone_are_read_by_the_default_runtime_only() -> None:
    """Ascend's profile names no runtime: its toolkit makes itself the engine's default."""
    device = PROJECT.device("ascend_a3")
    found = profilecheck.toolkit(device, facts())
    assert found.state == "warning"
    assert "default runtime is runc, which does not read ASCEND_VISIBLE_DEVICES" in found.found
    assert "Ascend-docker-runtime" in found.remedy
    assert profilecheck.toolkit(device, facts("ascend", default="ascend")).state == "ok"


def test_glibc_is_compared_where_the_manifest_tells_what_is_needed(h100: Device) -> None:
    def with_need(text: str) -> str:
        return devicecheck.glibc(h100.model_copy(update={"host_prerequisites": (text,)})).state

    assert with_need("glibc >= 2.5") == "ok"
    assert with_need("glibc >= 99.1") == "missing"
    assert with_need("a driver") == "not-run"
    assert devicecheck.glibc(PROJECT.device("cpu_x86")).state == "ok"


def with_files(device: Device, *files: str, **changes: Any) -> Device:
    raw = device.profiles[1].model_copy(update={"devices": files, **changes})
    return device.model_copy(
        update={"launch_profiles": (device.profiles[0], raw, *device.profiles[2:])}
    )


def test_device_files_are_looked_for_and_counted(h100: Device, tmp_path: Path) -> None:
    for name in ("x0", "x1", "x11", "xctl"):
        (tmp_path / name).touch()

    def found(*files: str) -> Finding:
        return profilecheck.device_files(with_files(h100, *files))

    assert found(f"{tmp_path}/x{{index}}").found == f"3 of {tmp_path}/x{{index}}"
    missing = found(f"{tmp_path}/x{{index}}", f"{tmp_path}/ctl", f"{tmp_path}/y{{index}}")
    assert missing.state == "missing"
    assert missing.found == f"{tmp_path}/ctl, {tmp_path}/y0 are not there"
    assert found().state == "not-run"


def test_the_least_profile_that_would_work_is_named(
    h100: Device, programs: Path, tmp_path: Path
) -> None:
    (tmp_path / "x0").touch()
    here = with_files(h100, f"{tmp_path}/x{{index}}", mounts=(f"{tmp_path}:/x",))

    def least(device: Device, known: EngineFacts | None, listed: bool = True) -> Finding:
        return profilecheck.least(device, known, listed=listed)

    assert least(here, facts("nvidia")) == Finding(
        name="launch profile", state="ok", found="toolkit would work here"
    )
    second = least(here, facts())
    assert second.state == "warning"
    assert second.found.startswith("raw would work here, but not what needs less privilege: tool")
    assert "set `serve.profile: raw` in the release" in second.remedy
    assert "toolkit: cannot be told" in least(here, None).found
    bare = with_files(h100, f"{tmp_path}/x0", mounts=("/nowhere/lib:/lib",))
    assert least(bare, facts()).state == "missing", "privileged asks for the toolkit as well"
    assert "/nowhere/lib is not there" in least(bare, facts()).found
    absent = least(with_files(h100, "/dev/nothing{index}"), facts("nvidia"))
    assert absent.state == "missing"
    assert "/dev/nothing0 not there" in absent.found


def test_where_nobody_told_the_device_files_the_query_decides() -> None:
    device = PROJECT.device("sunrise")
    assert [profile.name for profile in device.profiles] == ["privileged"]
    assert profilecheck.least(device, facts(), listed=True).state == "ok"
    assert profilecheck.least(device, facts(), listed=False).state == "not-run"


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
    assert states["BuildKit"] in ("missing", "not-run"), "no engine answers here"
    assert all(f["found"] for f in told["findings"])
    without = ("keys",) if states["keys"] == "not-run" else ()
    assert all(
        f["remedy"] for f in told["findings"] if f["state"] != "ok" and f["name"] not in without
    )
    if PROJECT.device(name).accelerator:
        looks = {"device query", "driver", "device files", "container toolkit", "launch profile"}
        assert looks <= set(states)
        assert states["container toolkit"] == "not-run", "no engine answers here"


INFO = {
    "ServerVersion": "28.5.2",
    "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
    "DockerRootDir": "/var/lib/docker",
    "Architecture": "x86_64",
    "MemTotal": 1,
    "NCPU": 1,
    "Runtimes": {"runc": {}, "iluvatar": {}},
    "DefaultRuntime": "runc",
    "ClientInfo": {"Plugins": [{"Name": "buildx", "Version": "v0.29.1", "Path": "/x/buildx"}]},
}


def test_a_host_that_has_everything_is_told_so(
    programs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two BI-V150 with driver and toolkit, an engine that builds: every look of the list is ok."""
    prints(programs, "ixsmi", IXSMI)
    inspect = "printf 'Name: default\\nStatus:           running\\n'"
    info = f"cat <<'J'\n{json.dumps(INFO)}\nJ\n"
    program(programs, "docker", f"case $1 in info) {info};; *) {inspect} ;; esac")
    program(programs, "debootstrap", "exit 0")
    project = tmp_path / "project"
    devices = project / "manifests" / "devices"
    devices.mkdir(parents=True)
    (tmp_path / "iluvatar0").touch()
    text = (builtin_root() / "manifests" / "devices" / "bi_V150.yaml").read_text()
    text = text.replace("/dev/iluvatar", f"{tmp_path}/iluvatar")
    (devices / "bi_V150.yaml").write_text(text)
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.chdir(project)
    dispatch("doctor", ["--device", "BI-V150", "--json"])
    findings = {f["name"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    for name in ("engine", "BuildKit", "device query", "driver", "device files"):
        assert findings[name]["state"] == "ok", findings[name]
    assert findings["container toolkit"]["found"] == "the engine has the runtime iluvatar"
    assert findings["launch profile"]["found"] == "toolkit would work here"
    assert findings["driver"]["found"] == "4.4.0, 4.4.0 is needed"


def test_devices_of_another_host_are_looked_at_there(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = EngineSite(host="ssh://somebody@gpu-7")
    (found,) = devicecheck.looks(PROJECT.device("nvidia_h100"), site)
    assert found.state == "not-run"
    assert "ssh://somebody@gpu-7" in found.found
    assert found.remedy == "run it there: relforge doctor --device nvidia_h100"


def test_sealed_patch_sets_of_a_device_ask_for_a_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release whose patch set a site has as a bundle only, signed by a key it trusts."""
    vendor = make_world(tmp_path / "vendor")
    root = tmp_path / "project"
    make_project(root, 1, 1)
    name = "model-0-chip_0"
    manifest = root / "manifests" / "releases" / f"{name}.yaml"
    ref = "path: patches/main-0\n"
    manifest.write_text(manifest.read_text().replace(ref, f"{ref}    ships: binaries\n"))
    lock = manifest.with_name(f"{name}.lock.yaml")
    before = read_series(root / "patches" / "main-0").patch_set.content_sha256
    content = read_series(vendor.plain).patch_set.content_sha256
    lock.write_text(lock.read_text().replace(before, content))
    site = tmp_path / "site.yaml"
    settings = {
        "patch_sets": {"main-0": str(vendor.bundle)},
        "trusted_keys": [{"name": "v", "public_key": str(vendor.keys.signing_public)}],
    }
    site.write_text(json.dumps(settings))
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.chdir(root)

    def keys() -> dict[str, str]:
        dispatch("doctor", ["--device", "chip_0", "--site", str(site), "--json"])
        findings: list[dict[str, str]] = json.loads(capsys.readouterr().out)["findings"]
        return next(one for one in findings if one["name"] == "keys")

    found = keys()
    assert found["state"] == "warning"
    assert f"main-0 of {name}" in found["found"]
    assert "relforge keys new, ask its vendor, chips" in found["remedy"]
    site.write_text(json.dumps({**settings, "identities": [str(vendor.keys.identity)]}))
    assert keys()["state"] == "ok"
