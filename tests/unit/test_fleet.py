"""The devices that this project knows: what each says, from where, and what nobody knows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.checking import check_project
from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.common import UNKNOWN
from relforge.manifest.device import Device
from relforge.manifest.facts import fact_at
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site

FLEET = {
    "ascend_a2": "huawei-atlas800ta2",
    "ascend_a3": "Huawei_Atlas800TA3",
    "bi_V150": "BI-V150",
    "cambricon_mlu": "Cambricon_MLU",
    "cpu_x86": "CPU-X86",
    "enflame": "Enflame_S60",
    "hygon_bw1000": "Hygon_BW1000",
    "kunlunxin": "Kunlunxin_R310p",
    "metax_c550": "Metax_C550",
    "mthreads_s5000": "MUSA_S5000",
    "nvidia_h100": "H100",
    "nvidia_h200": "H200",
    "spacemit": "SpacemiT",
    "sunrise": "Sunrise",
    "thead": "PPU-ZW810E",
    "tsingmicro": "Tsing_micro",
}
"""Every device, and another spelling that its users or FlagScale's catalogue have."""

# Facts of which two sources are known to say different things.
DISPUTED = {
    "hygon_bw1000": {"device_query/argv": "rocm-smi"},
    "enflame": {"device_query/argv": "none", "stacks/tops1.10.6/sdk": "TOPS ATen 3.8.20260710"},
    "kunlunxin": {
        "device_query/argv": "xpu_smi",
        "title": "R300p, R310p",
        "visible_devices/framework": "XPU_VISIBLE_DEVICES",
    },
    "metax_c550": {"flaggems/torch_device": "musa"},
    "bi_V150": {"visible_devices/framework": "ILUVATAR_VISIBLE_DEVICES"},
    "ascend_a2": {"visible_devices/framework": "NPU_VISIBLE_DEVICES"},
    "ascend_a3": {"visible_devices/framework": "NPU_VISIBLE_DEVICES"},
}


@pytest.fixture(scope="module")
def project() -> Project:
    return Project((builtin_root(),))


def test_the_fleet_is_whole_and_every_spelling_leads_to_it(project: Project) -> None:
    assert set(project.devices) == set(FLEET)
    for name, other in FLEET.items():
        assert project.device(other).name == name


@pytest.mark.parametrize("name", sorted(FLEET))
def test_the_manifest_is_what_its_model_says_and_holds_no_empty_word(
    project: Project, name: str
) -> None:
    device = project.device(name)
    content = device.model_dump(mode="json")
    assert device.stack == device.stacks[device.default_stack]
    for path in device.unknown:
        assert fact_at(content, path) in (UNKNOWN, "unresolved")
    assert "TODO" not in project.device_files[name].read_text()
    assert device.device_query is None or device.accelerator


@pytest.mark.parametrize("name", sorted(FLEET))
def test_where_sources_differ_both_stand_with_the_choice(project: Project, name: str) -> None:
    device = project.device(name)
    assert {one.fact: one.other for one in device.disagreements} == DISPUTED.get(name, {})
    content = device.model_dump(mode="json")
    for one in device.disagreements:
        chosen = fact_at(content, one.fact)
        assert one.other not in (chosen, *(chosen if isinstance(chosen, list) else ()))
        assert one.source != one.other_source


def test_profiles_begin_with_the_least_privilege(project: Project) -> None:
    order = ["toolkit", "raw", "privileged"]
    for device in project.devices.values():
        if device.launch_profiles == UNKNOWN:
            continue
        names = [profile.name for profile in device.profiles]
        assert names == sorted(names, key=order.index)
        assert [p.name for p in device.profiles if p.privileged] == [
            n for n in names if n == "privileged"
        ]


def content_of(project: Project, name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(project.device_files[name].read_text())
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device_query": None}, "an accelerator says device_query"),
        ({"sources": []}, "names `sources`"),
        ({"default_stack": "none"}, "names no stack"),
        ({"launch_profiles": [{"name": "raw"}]}, "names no source"),
        (
            {
                "disagreements": [
                    {
                        "fact": "nothing/here",
                        "source": "one",
                        "other": "x",
                        "other_source": "two",
                        "because": "test",
                    }
                ]
            },
            "name no fact",
        ),
    ],
)
def test_a_fact_is_told_or_said_to_be_unknown(
    project: Project, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Device.model_validate({**content_of(project, "bi_V150"), **change})


def test_a_release_takes_a_stack_of_its_device_or_is_refused(project: Project) -> None:
    device = project.device("ascend_a2")
    assert device.on(None) is device
    assert (device.python, device.on("cann8.5.0").stack.driver) == ("3.11", "25.5.0")
    with pytest.raises(RelforgeError, match="no stack 'cann7'") as caught:
        device.on("cann7")
    assert "cann8.5.0, cann9.0.0" in (caught.value.why or "")


def test_a_release_that_needs_what_nobody_knows_says_so_at_check(tmp_path: Path) -> None:
    """SpacemiT: no source tells how a container gets the device, nor which image to build on."""
    shutil.copytree(builtin_root() / "examples" / "hello", tmp_path, dirs_exist_ok=True)
    releases = tmp_path / "manifests" / "releases"
    for kind in ("yaml", "lock.yaml"):
        path = releases / f"hello-cpu_x86.{kind}"
        text = path.read_text().replace("cpu_x86", "spacemit")
        path.unlink()
        if kind == "yaml":
            (releases / "hello-spacemit.yaml").write_text(text)
    found = Project((tmp_path, builtin_root()))
    device = found.device("spacemit")
    with pytest.raises(RelforgeError) as caught:
        _ = device.base
    assert caught.value.what == "device spacemit: stacks/spacemit/base is unknown"
    assert caught.value.code is ExitCode.USAGE
    with pytest.raises(RelforgeError, match="launch_profiles is unknown"):
        _ = device.profiles
    faults = [f for f in check_project(found, Site()).faults if f.subject.endswith("spacemit")]
    (fault,) = faults
    assert "stacks/spacemit/base is unknown" in fault.message
    manifest = found.device_files["spacemit"]
    line = next(n for n, row in enumerate(manifest.read_text().splitlines(), 1) if "base:" in row)
    assert (fault.where or "").startswith(f"{manifest}:{line}:")


def test_show_tells_sources_unknown_facts_and_disagreements(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path))
    assert dispatch("devices", ["show", "BI-V150"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["name"] == "bi_V150"
    assert shown["stacks"]["corex4.4.0"]["source"] == "flagos-ai/build-infra:configs.yaml@6a65322"
    assert "memory_bytes" in shown["unknown"]
    assert shown["disagreements"][0]["other"] == "ILUVATAR_VISIBLE_DEVICES"
    assert dispatch("devices", []) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(FLEET)
    assert dispatch("devices", ["show", "bi_V15"]) == ExitCode.USAGE
    assert "did you mean 'bi_V150'?" in capsys.readouterr().err
