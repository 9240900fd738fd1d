"""Where a job goes is decided by pure rules, from what its stage and inputs declare."""

from __future__ import annotations

from typing import Any

import pytest

from relforge.executor.ray_placement import (
    ALL_SLOTS,
    Host,
    chosen,
    jobs_resource,
    key_resource,
    lacking,
    placement,
    why_nowhere,
)
from relforge.manifest.project import Project, builtin_root
from relforge.stage import Resources, StageInputs

ALICE, BOB = "a" * 64, "b" * 64


class Builds(StageInputs):
    architecture: str


class Serves(StageInputs):
    device: dict[str, Any]
    release: dict[str, Any]


def host(name: str, **resources: float) -> Host:
    own = {"relforge_slots": 1000.0, "CPU": 4.0, "memory": 8e9, **resources}
    return Host(node_id=f"id-{name}", name=name, alive=True, resources=own)


def test_what_needs_no_engine_no_device_and_no_key_stays_here() -> None:
    assert placement(Resources(cpu_cores=8, disk_bytes=1 << 40), StageInputs()) is None
    assert placement(Resources(), StageInputs(), secrets=("signing",)) is None


def test_a_build_goes_where_its_architecture_and_an_engine_are() -> None:
    needs = Resources(cpu_cores=2, memory_bytes=4, disk_bytes=3, engine=True)
    wanted = placement(needs, Builds(architecture="arm64"))
    assert wanted is not None
    assert (wanted.cpu_cores, wanted.memory_bytes) == (2, 4)
    assert lacking(wanted, host("one", arch_arm64=1, docker=2, disk_bytes=3)) is None
    assert lacking(wanted, host("two", arch_amd64=1, docker=2, disk_bytes=3)) == "arch_arm64"
    assert lacking(wanted, host("three", arch_arm64=1, disk_bytes=3)) == "docker"
    assert lacking(wanted, host("four", arch_arm64=1, docker=2, disk_bytes=2)) == "disk_bytes"
    small = host("five", arch_arm64=1, docker=2, disk_bytes=3, CPU=1)
    assert lacking(wanted, small) == "CPU"
    foreign = Host(node_id="6", name="six", alive=True, resources={"CPU": 64})
    assert lacking(wanted, foreign) == "relforge worker"


def test_a_launch_takes_its_accelerators_and_the_device_to_itself() -> None:
    project = Project((builtin_root(),))
    release = next(
        project.release(name)
        for name in project.release_files
        if project.release(name).serve.accelerators > 1
        and project.device(project.release(name).device).accelerator
    )
    device = project.device(release.device)
    inputs = Serves(device=device.model_dump(mode="json"), release=release.model_dump(mode="json"))
    wanted = placement(Resources(engine=True, device=device.name), inputs)
    assert wanted is not None
    per_node = release.serve.accelerators // release.serve.nodes
    assert wanted.resources[device.name] == per_node
    assert wanted.resources[jobs_resource(device.name)] == 1
    assert wanted.resources[f"arch_{device.architecture}"] < 0.01


def test_what_measures_has_its_host_to_itself() -> None:
    alone = placement(Resources(engine=True), StageInputs(), alone=True)
    beside = placement(Resources(engine=True), StageInputs())
    assert alone is not None
    assert beside is not None
    assert (alone.resources["relforge_slots"], beside.resources["relforge_slots"]) == (ALL_SLOTS, 1)


def test_a_sealed_set_sends_the_job_to_its_key() -> None:
    def asked(**words: Any) -> Any:
        return placement(Resources(), StageInputs(), secrets=("identities",), **words)

    wanted = asked(openers=[(ALICE, BOB)])
    has_bob = host("bob", identities=1, **{key_resource(BOB): 1})
    assert lacking(wanted, has_bob) is None
    assert lacking(wanted, host("nobody")) == "identities"
    assert lacking(wanted, host("other", identities=1)) == f"key_{'a' * 16} or key_{'b' * 16}"
    assert key_resource(BOB) in chosen(wanted, [host("nobody"), has_bob]).resources
    assert key_resource(ALICE) in chosen(wanted, []).resources, "somebody may still join"
    # The driver's own key: the job is not sent at all.
    assert asked(openers=[(ALICE, BOB)], opens_here=(BOB,)) is None
    assert asked(openers=[(ALICE,)], opens_here=(BOB,)) is not None
    # A format that names no recipient: any host with keys, or this one with one.
    assert lacking(asked(openers=[()]), host("any", identities=1)) is None


def test_a_sealed_build_never_stays_although_the_key_is_here() -> None:
    wanted = placement(
        Resources(engine=True), Builds(architecture="amd64"), secrets=("identities",),
        openers=[(ALICE,)], opens_here=(ALICE,),
    )  # fmt: skip
    assert wanted is not None
    assert lacking(wanted, host("one", arch_amd64=1, docker=1)) == "identities"


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ([], "no host has docker now"),
        ([host("one", docker=1)], "no host has npu now"),
        (
            [host("one", docker=1), host("two", npu=1, npu_jobs=1)],
            "no host has all that it needs: one lacks npu, two lacks docker",
        ),
    ],
)
def test_it_is_said_why_no_host_takes_a_job(hosts: list[Host], said: str) -> None:
    wanted = placement(Resources(engine=True, device="npu"), StageInputs())
    assert wanted is not None
    assert why_nowhere(wanted, hosts) == said


def test_a_lost_host_has_nothing() -> None:
    wanted = placement(Resources(engine=True), StageInputs())
    assert wanted is not None
    lost = host("one", docker=1).model_copy(update={"alive": False})
    assert why_nowhere(wanted, [lost]) == "no host has docker now"
