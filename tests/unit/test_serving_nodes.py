"""Launches on several nodes: who is told what, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.hosts import HostNode, Nodes
from relforge.manifest.release import Release
from relforge.serving.model import LaunchSpec
from relforge.serving.place import example_hosts, hosts_of
from relforge.serving.spec import docker_argv, launch_spec
from tests.unit.test_serving_spec import device, option, release

TWO = """\
kind: nodes
nodes:
  - {name: first, address: 10.0.0.1, interface: eth0, interfaces: {rdma: [eth1, eth1, eth2]}}
  - {name: second, address: 10.0.0.2, interface: bond0, interfaces: {rdma: [eth3]},
     context: "ssh://ops@second", weights: /data/weights}
"""
SHARED = {"nodes": 2, "network": "host", "data_parallel": 4, "tensor_parallel": 4}


def hosts(tmp_path: Path, of: Release, text: str = TWO) -> tuple[HostNode, ...]:
    (tmp_path / "hosts.yaml").write_text(text)
    return hosts_of(str(tmp_path / "hosts.yaml"), of)


def launch(tmp_path: Path, serve: dict[str, Any], **changes: Any) -> LaunchSpec:
    made = release({**SHARED, **serve}, **changes)
    return launch_spec(made, device(), image="i", weights=Path("/w"), hosts=hosts(tmp_path, made))


def test_the_data_parallel_roles_of_two_nodes(tmp_path: Path) -> None:
    first, second = launch(tmp_path, {"rendezvous_port": 13389, "args": {"seed": 1024}}).nodes
    for node, headless, start in ((first, False, []), (second, True, ["2"])):
        assert option(node.argv, "--data-parallel-size") == ["4"]
        assert option(node.argv, "--data-parallel-size-local") == ["2"]
        assert option(node.argv, "--data-parallel-start-rank") == start
        assert option(node.argv, "--data-parallel-address") == ["10.0.0.1"]
        assert option(node.argv, "--data-parallel-rpc-port") == ["13389"]
        assert option(node.argv, "--tensor-parallel-size") == ["4"]
        assert option(node.argv, "--seed") == ["1024"]
        assert ("--headless" in node.argv) is headless
        assert node.ports == (), "on the host's network nothing is published"


def test_where_the_ranks_meet_is_known_where_a_node_is_told(tmp_path: Path) -> None:
    def meet(spec: LaunchSpec) -> list[int | None]:
        return [node.rendezvous_port for node in spec.nodes]

    assert meet(launch(tmp_path, {"rendezvous_port": 13389})) == [13389, None]
    shared = {"tensor_parallel": 8, "data_parallel": 1}
    assert meet(launch(tmp_path, shared, engine="paddlenlp")) == [None, None]
    made = release({})
    assert meet(launch_spec(made, device(), image="i", weights=Path("/w"))) == [None]


def test_one_node_has_no_roles() -> None:
    made = release({"data_parallel": 4, "tensor_parallel": 4})
    argv = launch_spec(made, device(), image="i", weights=Path("/w")).nodes[0].argv
    assert option(argv, "--data-parallel-size") == ["4"]
    assert not [word for word in argv if word.startswith(("--data-parallel-", "--headless"))
                and word != "--data-parallel-size"]  # fmt: skip


def test_each_node_is_told_its_own_address_and_interfaces(tmp_path: Path) -> None:
    first, second = launch(
        tmp_path,
        {
            "env": {
                "HCCL_IF_IP": "{address}",
                "GLOO_SOCKET_IFNAME": "{interface}",
                "BKCL_RDMA_NICS": "{interfaces.rdma}",
                "PEERS": "{first_address};{addresses};{rank}/{node};{indices}",
                "JSON": '{"address": {"rank": 1}}',
                "LITERAL": "{{address}}",
            }
        },
    ).nodes
    assert first.env == {
        "HCCL_IF_IP": "10.0.0.1",
        "GLOO_SOCKET_IFNAME": "eth0",
        "BKCL_RDMA_NICS": "eth1,eth1,eth2",
        "PEERS": "10.0.0.1;10.0.0.1,10.0.0.2;0/first;0,1,2,3,4,5,6,7",
        "JSON": '{"address": {"rank": 1}}',
        "LITERAL": "{address}",
    }
    assert second.env["HCCL_IF_IP"] == "10.0.0.2"
    assert second.env["BKCL_RDMA_NICS"] == "eth3"
    assert second.env["PEERS"].startswith("10.0.0.1;10.0.0.1,10.0.0.2;1/second;")


def test_a_nodes_accelerators_are_its_share(tmp_path: Path) -> None:
    made = release(SHARED)
    raw = {"name": "raw", "devices": ["/dev/davinci{index}", "/dev/davinci_manager"]}
    made_spec = launch_spec(
        made, device(launch_profiles=[raw]), image="i", weights=Path("/w"),
        hosts=hosts(tmp_path, made),
    )  # fmt: skip
    for node in made_spec.nodes:
        assert node.devices == (*(f"/dev/davinci{i}" for i in range(8)), "/dev/davinci_manager")


def test_what_differs_between_hosts(tmp_path: Path) -> None:
    spec = launch(tmp_path, {})
    first, second = spec.nodes
    assert [str(n.mounts[0].host) for n in spec.nodes] == ["/w", "/data/weights"]
    assert docker_argv(first)[:2] == ("docker", "run")
    assert docker_argv(second)[:4] == ("docker", "--host", "ssh://ops@second", "run")
    assert [n["name"] for n in spec.as_json()["nodes"]] == ["first", "second"]


def test_a_single_host_has_its_name(tmp_path: Path) -> None:
    text = "kind: nodes\nnodes: [{name: far, context: 'tcp://far:2375'}]\n"
    made = release()
    spec = launch_spec(
        made, device(), image="i", weights=Path("/w"), hosts=hosts(tmp_path, made, text)
    )
    assert spec.as_json()["nodes"][0]["name"] == "far"
    alone = launch_spec(made, device(), image="i", weights=Path("/w"))
    assert alone.as_json()["nodes"][0]["name"] == "relforge-tiny-cpu_x86"


def test_what_no_nodes_file_tells_is_asked_for() -> None:
    for serve in ({"env": {"HCCL_IF_IP": "{address}"}}, SHARED):
        with pytest.raises(RelforgeError, match="needs address of node node0") as caught:
            launch_spec(release(serve), device(), image="i", weights=Path("/w"))
        assert caught.value.code == ExitCode.USAGE
        assert "--nodes" in (caught.value.hint or "")


def test_a_misspelt_placeholder_is_refused() -> None:
    with pytest.raises(RelforgeError, match=r"serve.env.A has an unknown placeholder \{adress\}"):
        launch_spec(release({"env": {"A": "{adress}"}}), device(), image="i", weights=Path("/w"))


def test_a_further_interface_that_a_host_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RelforgeError, match=r"needs interfaces\.storage of node first"):
        launch(tmp_path, {"env": {"A": "{interfaces.storage}"}})


def test_ranks_that_cannot_be_shared_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RelforgeError, match="2 nodes cannot share 3 data-parallel ranks"):
        launch(tmp_path, {"data_parallel": 3, "tensor_parallel": 2})
    with pytest.raises(ValidationError, match="cannot share evenly"):
        release({"nodes": 2, "tensor_parallel": 3})


def test_ranks_of_one_replica_meet_in_a_ray_cluster(tmp_path: Path) -> None:
    first, second = launch(tmp_path, {"data_parallel": 1, "tensor_parallel": 16}).nodes
    shell, flag, script = first.argv
    assert (shell, flag) == ("/bin/sh", "-c")
    head, _, server = script.partition(" && exec ")
    assert head == "ray start --head --port=29550"
    assert "--distributed-executor-backend ray" in server
    assert "--tensor-parallel-size 16" in server
    assert second.argv == ("ray", "start", "--address=10.0.0.1:29550", "--block")
    assert (first.healthcheck, second.healthcheck) == (True, False)


def test_nodes_without_the_hosts_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RelforgeError, match="cannot reach each other") as caught:
        launch(tmp_path, {"network": None})
    assert caught.value.hint == "set serve.network to host"


@pytest.mark.parametrize(
    "name", ["headless", "data_parallel_rpc_port", "data-parallel-address", "data-parallel-size"]
)
def test_roles_are_not_set_by_hand(name: str) -> None:
    with pytest.raises(RelforgeError, match=f"sets '{name}'"):
        launch_spec(release({"args": {name: 1}}), device(), image="i", weights=Path("/w"))


def test_the_number_of_hosts_must_be_the_releases(tmp_path: Path) -> None:
    with pytest.raises(RelforgeError, match="runs on 1 nodes, and 2 are given"):
        hosts(tmp_path, release())
    with pytest.raises(RelforgeError, match="runs on 2 nodes, and 3 are given"):
        hosts_of("3", release(SHARED))
    assert [host.name for host in hosts_of("2", release(SHARED))] == ["node0", "node1"]


def test_stand_in_hosts_have_all_that_a_launch_asks_for() -> None:
    made = release(
        {
            **SHARED,
            "env": {"A": "{address}", "B": "{interface}", "C": "{interfaces.rdma}"},
            "mounts": [{"name": "share", "container": "/share"}],
        }
    )
    spec = launch_spec(made, device(), image="i", weights=Path("/w"), hosts=example_hosts(made))
    assert [node.env["A"] for node in spec.nodes] == ["198.18.0.1", "198.18.0.2"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("address", "10.0.0.256", "IP address or a host name"),
        ("address", "a b", "IP address or a host name"),
        ("interface", "eth0;reboot", "pattern"),
        ("interface", "a-name-of-seventeen", "pattern"),
        ("context", "http://x", "ssh://"),
        ("context", "tcp://x", "tcp://host:port"),
        ("context", "ssh://u:secret@x", "no password"),
        ("context", "ssh://x/ y", "an address alone"),
        ("weights", "relative", "pattern"),
    ],
)
def test_a_nodes_file_with_a_fault(field: str, value: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        HostNode.model_validate({"name": "n", field: value})


@pytest.mark.parametrize("field", ["name", "address"])
def test_two_nodes_are_not_the_same(field: str) -> None:
    rows = [{"name": "a", "address": "10.0.0.1"}, {"name": "b", "address": "10.0.0.2"}]
    rows[1][field] = rows[0][field]
    with pytest.raises(ValidationError, match=f"two nodes have the {field}"):
        Nodes.model_validate({"kind": "nodes", "nodes": rows})


def test_a_fault_in_a_nodes_file_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(RelforgeError) as caught:
        hosts(tmp_path, release(SHARED), TWO.replace("10.0.0.2", "10.0.0.1"))
    assert "two nodes have the address 10.0.0.1" in caught.value.what
    with pytest.raises(RelforgeError) as caught:
        hosts(tmp_path, release(SHARED), TWO.replace("bond0", "bond 0"))
    assert f"{tmp_path}/hosts.yaml:4:" in (caught.value.where or "")
