"""Prefill and decode apart: several servers behind a proxy, each with its own nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from relforge.errors import RelforgeError
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.release import Release
from relforge.serving.doors import binds_of
from relforge.serving.model import LaunchSpec
from relforge.serving.place import example_hosts
from relforge.serving.rendering import only, write
from relforge.serving.spec import launch_spec

PROJECT = Project((builtin_root(),))
MOONCAKE = PROJECT.release("deepseek-r1-w8a8-ascend_a3-mooncake")


def launched(release: Release = MOONCAKE) -> LaunchSpec:
    return launch_spec(
        release,
        PROJECT.device(release.device),
        image="i",
        weights=Path("/w"),
        hosts=example_hosts(release),
    )


def changed(**serve: Any) -> Release:
    data = MOONCAKE.model_dump(mode="json")
    data["serve"] |= serve
    return Release.model_validate(data)


def test_the_proxy_answers_in_front_of_every_group() -> None:
    spec = launched()
    assert [(node.host, node.role) for node in spec.nodes] == [
        ("node0", "proxy"),
        ("node0", "prefill"),
        ("node1", "prefill"),
        ("node2", "decode"),
        ("node3", "decode"),
    ]
    assert len({node.name for node in spec.nodes[:2]}) == 2, "both run on one host"
    proxy = spec.nodes[0]
    words = " ".join(proxy.argv)
    assert "--host 198.18.0.1 --port 1999" in words
    assert "--prefiller-hosts 198.18.0.1 198.18.0.2 --prefiller-ports 7100 7100" in words
    assert "--decoder-hosts 198.18.0.3 --decoder-ports 7100" in words
    assert (spec.health_path, spec.health_port) == ("/healthcheck", None)
    assert proxy.devices == ()
    assert [mount.container for mount in proxy.mounts] == ["/proxy"]


def test_each_group_is_a_server_of_its_own() -> None:
    first, second, decode, headless = launched().nodes[1:]
    for node in (first, second):
        assert "--data-parallel-size 2" in " ".join(node.argv)
        assert "--tensor-parallel-size 8" in " ".join(node.argv)
        assert "--data-parallel-address" not in node.argv, "one node is all of its group"
        assert len([d for d in node.devices if d[-1].isdigit()]) == 16
    assert '"kv_port":"36000"' in " ".join(first.argv)
    assert '"kv_port":"36100"' in " ".join(second.argv)
    assert first.env["HCCL_BUFFSIZE"] == "256"
    assert decode.env["HCCL_BUFFSIZE"] == "600"
    assert decode.env["HCCL_IF_IP"] == "198.18.0.3", "what the groups share is filled in for each"
    assert "--headless" not in decode.argv
    words = " ".join(headless.argv)
    assert "--headless" in words
    assert "--data-parallel-start-rank 16" in words
    assert "--data-parallel-address 198.18.0.3" in words, "the first node of its own group"
    assert all("/proxy" not in [m.container for m in n.mounts] for n in (first, decode))
    assert (first.healthcheck, headless.healthcheck) == (True, False)


def test_two_servers_on_one_host_have_names_and_files_of_their_own(tmp_path: Path) -> None:
    spec = launched()
    names = ["node0-proxy", "node0-prefill-1", "node1", "node2", "node3"]
    assert [node["name"] for node in spec.as_json()["nodes"]] == names
    written = write(spec, spec.nodes, "shell", tmp_path)
    assert sorted(path.stem for path in written) == sorted(names)
    assert "load_balance_proxy" in (tmp_path / "node0-proxy.sh").read_text()
    assert "kv_producer" in (tmp_path / "node0-prefill-1.sh").read_text()
    assert only(spec, "node0-proxy") is spec.nodes[0]
    assert only(spec, "node3") is spec.nodes[4]
    with pytest.raises(RelforgeError, match="has several nodes 'node0'") as caught:
        only(spec, "node0")
    assert "node0-prefill-1" in str(caught.value.why)


def test_where_each_server_will_listen() -> None:
    spec = launched()
    found = [[(b.address, b.port) for b in binds_of(spec, node)] for node in spec.nodes]
    assert found == [
        [("198.18.0.1", 0), ("0.0.0.0", 1999)],
        [("198.18.0.1", 0), ("0.0.0.0", 7100)],
        [("198.18.0.2", 0), ("0.0.0.0", 7100)],
        [("198.18.0.3", 0), ("198.18.0.3", 12321), ("0.0.0.0", 7100)],
        [("198.18.0.4", 0)],
    ]


def test_roles_are_in_the_json_of_such_a_launch_alone() -> None:
    shown = launched().as_json()
    assert [node["role"] for node in shown["nodes"]] == ["proxy", *2 * ["prefill"], *2 * ["decode"]]
    other = PROJECT.release("deepseek-r1-w8a8-ascend_a2-throughput")
    assert all("role" not in node for node in launched(other).as_json()["nodes"])


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        ({"nodes": 3}, "groups have 4 nodes together"),
        ({"tensor_parallel": 2, "nodes": 4}, "leave out tensor_parallel"),
        ({"groups": []}, "proxy and groups belong together"),
        ({"proxy": None}, "proxy and groups belong together"),
    ],
)
def test_what_does_not_fit_together_is_refused(serve: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        changed(**serve)


def test_two_groups_of_one_name_are_refused() -> None:
    groups = MOONCAKE.model_dump(mode="json")["serve"]["groups"]
    groups[1]["name"] = groups[0]["name"]
    with pytest.raises(ValidationError, match="groups name stands twice: prefill-1"):
        changed(groups=groups)


def test_a_list_of_a_role_that_no_group_has_is_refused() -> None:
    groups = [
        g for g in MOONCAKE.model_dump(mode="json")["serve"]["groups"] if g["role"] == "decode"
    ]
    with pytest.raises(RelforgeError, match="no group has that role"):
        launched(changed(groups=groups, nodes=2))
