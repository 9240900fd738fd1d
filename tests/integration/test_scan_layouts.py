"""Layers as they are: packed in every way, with something planted in every place."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zstandard

from relforge.engine.blobs import blob_path
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.publishing import ContentPolicy
from relforge.scanning.hits import Hit, LayerReport, Searched
from relforge.scanning.image import layer_reports, search_config, shown_step
from relforge.scanning.places import home_rules
from relforge.scanning.seeking import Finder
from relforge.scanning.words import host_rules
from tests.support.scanned import Packing, finder, make_layout, pem, random_text, tar

TOKEN = "ghp_" + random_text(36)
KEY = pem("PRIVATE KEY").encode()
TEXT = f"first line\ntoken = {TOKEN}\n".encode()


def scanned(
    tmp_path: Path, looking: Finder, *layers: Mapping[str, bytes], **more: Any
) -> tuple[LayerReport, ...]:
    layout = tmp_path / f"layout-{len(list(tmp_path.iterdir()))}"
    make_layout(layout, *layers, **more)
    return tuple(layer_reports(layout, looking, cache=tmp_path / "cache", policy_key="k"))


def hits(reports: tuple[LayerReport, ...]) -> list[Hit]:
    return [hit for report in reports for hit in report.searched.hits]


@pytest.mark.parametrize("packing", ["zstd", "gzip", "plain"])
def test_a_secret_is_named_by_layer_step_path_and_line_and_never_shown(
    tmp_path: Path, packing: Packing
) -> None:
    reports = scanned(
        tmp_path,
        finder(),
        {"etc/hosts": b"127.0.0.1 localhost\n"},
        {"opt/app/settings.py": TEXT, "opt/app/fine.py": b"token = None\n"},
        packing=packing,
        steps=["ADD rootfs.tar /", "RUN |1 WHO=me /bin/sh -c set -eu\npip install app"],
    )
    (hit,) = hits(reports)
    assert (hit.path, hit.line, hit.rule) == ("/opt/app/settings.py", 2, "github-token")
    assert hit.layer == reports[1].digest
    assert hit.step == "pip install app"
    assert TOKEN not in json.dumps([r.model_dump(mode="json") for r in reports])
    assert TOKEN not in hit.shown()
    assert hit.layer[:19] in hit.shown()


def test_a_file_that_a_later_layer_deletes_is_still_in_its_layer(tmp_path: Path) -> None:
    reports = scanned(
        tmp_path, finder(), {"root/key.pem": KEY}, {"root/.wh.key.pem": b"", "root/x": b"x"}
    )
    assert [(hit.layer, hit.path) for hit in hits(reports)] == [
        (reports[0].digest, "/root/key.pem")
    ]


def packed_zip(files: Mapping[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "pack", "inside"),
    [
        ("x-1-py3-none-any.whl", packed_zip, "x/settings.py"),
        ("x.jar", packed_zip, "x/settings.py"),
        ("x.tar.gz", lambda files: gzip.compress(tar(files)), "x/settings.py"),
        ("x.tar.bz2", lambda files: bz2.compress(tar(files)), "x/settings.py"),
        ("x.tar.xz", lambda files: lzma.compress(tar(files)), "x/settings.py"),
        ("x.tar.zst", lambda files: zstandard.compress(tar(files)), "x/settings.py"),
        ("x.tar", tar, "x/settings.py"),
        ("settings.gz", lambda files: gzip.compress(files["x/settings.py"]), ""),
    ],
)
def test_archives_in_a_layer_are_opened_once(
    tmp_path: Path, name: str, pack: Callable[[Mapping[str, bytes]], bytes], inside: str
) -> None:
    files = {"x/settings.py": TEXT * 30}
    reports = scanned(tmp_path, finder(), {f"srv/{name}": pack(files)})
    found = [hit for hit in hits(reports) if "!" in hit.path]
    assert found
    assert {(hit.path, hit.rule) for hit in found} == {(f"/srv/{name}!{inside}", "github-token")}
    assert found[0].line == 2
    assert reports[0].searched.archives == 1


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    good = gzip.compress(b"x" * 100_000 + random_text(5000).encode())
    reports = scanned(
        tmp_path,
        finder(),
        {
            "a/cut.gz": good[: len(good) // 2],
            "a/odd.zip": b"PK\x03\x04" + bytes(50),
            "a/text": TEXT,
        },
    )
    searched = reports[0].searched
    assert [unread.path for unread in searched.unread] == ["/a/cut.gz", "/a/odd.zip"]
    assert [hit.path for hit in searched.hits] == ["/a/text"]


def test_a_layer_of_another_content_is_refused(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    facts = make_layout(layout, {"a": b"1"}, packing="plain")
    path = blob_path(layout, facts.layers[0].digest)
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(RelforgeError) as caught:
        tuple(layer_reports(layout, finder(), cache=tmp_path / "cache", policy_key="k"))
    assert caught.value.code is ExitCode.GATE
    path.write_bytes(b"no archive at all".ljust(path.stat().st_size))
    with pytest.raises(RelforgeError, match="cannot be searched"):
        tuple(layer_reports(layout, finder(), cache=tmp_path / "cache", policy_key="k"))
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_a_layer_that_was_searched_is_not_read_again(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    facts = make_layout(layout, {"a": TEXT}, {"b": b"fine"})
    first = tuple(layer_reports(layout, finder(), cache=tmp_path / "c", policy_key="k"))
    lines: list[str] = []
    again = tuple(
        layer_reports(layout, finder(), cache=tmp_path / "c", policy_key="k", line=lines.append)
    )
    assert again == first
    assert all("known" in line for line in lines)
    blob_path(layout, facts.layers[0].digest).write_bytes(
        bytes(
            facts.layers[0].size_bytes
        )  # it is not looked at with this policy, and is with another
    )
    assert tuple(layer_reports(layout, finder(), cache=tmp_path / "c", policy_key="k")) == first
    with pytest.raises(RelforgeError):
        tuple(layer_reports(layout, finder(), cache=tmp_path / "c", policy_key="other"))


def test_releases_side_by_side_search_a_layer_once(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    make_layout(layout, {f"f{n}": random_text(40).encode() * 2000 for n in range(30)})
    lines: list[str] = []

    def search(_number: int) -> tuple[LayerReport, ...]:
        return tuple(
            layer_reports(
                layout, finder(), cache=tmp_path / "c", policy_key="k", locks=tmp_path / "locks",
                line=lines.append,
            )
        )  # fmt: skip

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(search, range(4)))
    assert reports.count(reports[0]) == 4
    assert sum("searched" in line for line in lines) == 1


LOGINS = {
    "root/.netrc": b"machine a.dev login me password " + random_text(9).encode(),
    "home/x/.npmrc": b"//registry/:_authToken=" + random_text(12).encode(),
    "root/.docker/config.json": b'{"auths": {"r.dev": {"auth": "bWU6cGFzcw=="}}}',
    "root/.git-credentials": b"https://me:pw@git.dev\n",
    "src/x/.git/config": b'[remote "origin"]\n\turl = https://me:pw@git.dev/x\n',
    "etc/pip.conf": b"[global]\nindex-url = https://me:pw@pypi.dev/simple\n",
    "root/.pypirc": b"[pypi]\nusername = me\npassword = pw\n",
    "root/.aws/credentials": b"[default]\naws_secret_access_key = x\n",
    "root/.kube/config": b"users:\n- user:\n    token: abc\n",
    "root/.cache/huggingface/token": b"whatever",
    "root/.config/gh/hosts.yml": b"github.com:\n  oauth_token: abc\n",
    "run/secrets/token": b"abc",
}
HARMLESS = {
    "root/.netrc": b"# machine x login y\n",
    "home/x/.npmrc": b"registry=https://registry.dev/\n",
    "root/.docker/config.json": b'{"auths": {}, "credsStore": "pass"}',
    "src/x/.git/config": b'[remote "origin"]\n\turl = https://git.dev/x\n',
    "etc/pip.conf": b"[global]\nindex-url = https://pypi.dev/simple\n",
    "root/.cache/huggingface/token": b"",
    "run/secrets/token": b"",
    "usr/share/doc/netrc": b"machine a login b password c",
    "var/log/dpkg.log": b"status installed\n",
}


@pytest.mark.parametrize("path", LOGINS)
def test_logins_are_known_by_their_names(tmp_path: Path, path: str) -> None:
    found = hits(scanned(tmp_path, finder(), {path: LOGINS[path]}))
    assert [(hit.kind, hit.path) for hit in found] == [("credential-file", f"/{path}")]


def test_the_same_files_without_logins_are_none(tmp_path: Path) -> None:
    assert hits(scanned(tmp_path, finder(), HARMLESS)) == []


def test_caches_and_logs_of_the_build_are_named_once(tmp_path: Path) -> None:
    files = {f"root/.cache/pip/http/{n}": b"x" for n in range(20)}
    files |= {"tmp/build.log": b"gcc", "tmp/empty.log": b"", "opt/x/cache/pip.py": b""}
    found = hits(scanned(tmp_path, finder(), files))
    assert [(hit.kind, hit.path) for hit in found] == [
        ("leftover", "/root/.cache/pip"),
        ("leftover", "/tmp/build.log"),
    ]


def test_bytecode_and_git_objects_that_hold_a_secret(tmp_path: Path) -> None:
    import marshal

    code = marshal.dumps(compile(f"T = '{TOKEN}'", "x.py", "exec"))
    files = {"opt/x.pyc": bytes(16) + code, "opt/.git/objects/ab/" + "c" * 38: zlib.compress(TEXT)}
    assert {hit.path for hit in hits(scanned(tmp_path, finder(), files))} == {
        "/opt/x.pyc", "/opt/.git/objects/ab/" + "c" * 38 + "!",
    }  # fmt: skip


def test_keys_of_test_suites_are_let_through_and_listed(tmp_path: Path) -> None:
    path = "opt/venv/lib/python3.11/site-packages/tornado/test/test.key"
    (report,) = scanned(tmp_path, finder(), {path: KEY, "opt/venv/my.key": KEY})
    assert [hit.path for hit in report.searched.hits] == ["/opt/venv/my.key"]
    (let,) = report.searched.let
    assert (let.path, let.kind) == (f"/{path}", "private-key")
    assert "test suite" in let.reason


def test_a_token_in_a_test_suite_is_a_hit(tmp_path: Path) -> None:
    path = "opt/venv/lib/python3.11/site-packages/x/tests/test_a.py"
    assert [hit.path for hit in hits(scanned(tmp_path, finder(), {path: TEXT}))] == [f"/{path}"]


def test_the_policy_lets_paths_through_with_its_reason(tmp_path: Path) -> None:
    policy = ContentPolicy(allowed={"opt/demo/*": "keys of the demonstration"})
    files = {
        "opt/demo/a.key": KEY,
        "opt/demo2/a.key": KEY,
        "opt/demo/w.whl": packed_zip({"k": KEY}),
    }
    (report,) = scanned(tmp_path, finder(policy=policy), files)
    assert {hit.path for hit in report.searched.hits} == {"/opt/demo2/a.key"}
    assert {let.reason for let in report.searched.let} == {"keys of the demonstration"}


def test_paths_and_hosts_of_the_maker_in_files_and_names(tmp_path: Path) -> None:
    looking = finder(*home_rules(["/srv/maker"]), *host_rules(["corp.maker.dev"]))
    files = {
        "opt/a.py": b"# built in /srv/maker/x\n",
        "srv/maker/leftover": b"",
        "etc/apt/sources.list": b"deb http://apt.corp.maker.dev/debian stable main\n",
        "opt/b.py": b"# see /srv/makers and corp.maker.device\n",
    }
    found = {(hit.kind, hit.path) for hit in hits(scanned(tmp_path, looking, files))}
    assert found == {
        ("home-path", "/opt/a.py"),
        ("home-path", "/srv/maker/leftover"),
        ("host", "/etc/apt/sources.list"),
    }


def config_hits(tmp_path: Path, **more: Any) -> Searched:
    layout = tmp_path / "layout"
    facts = make_layout(layout, {"a": b"1"}, **more)
    return search_config(layout, finder(*host_rules(["corp.maker.dev"])), facts)


def test_configuration_history_labels_and_annotations_are_searched(tmp_path: Path) -> None:
    searched = config_hits(
        tmp_path,
        config={
            "Env": ["PATH=/usr/bin", f"HF={TOKEN}", "MY_API_KEY=swordfish", "DB_PASSWORD="],
            "Labels": {"vendor.build": "on ci3.corp.maker.dev"},
            "Cmd": ["serve", "--key", TOKEN],
        },
        steps=["RUN |2 PIP_PASSWORD=tiger WHO=me /bin/sh -c make # buildkit"],
        annotations={"note": TOKEN},
    )
    assert {(hit.path, hit.rule) for hit in searched.hits} == {
        ("config.config.Env[1]", "github-token"),
        ("config.config.Env[2]", "variable"),
        ("config.config.Labels.vendor.build", "denied-host"),
        ("config.config.Cmd[2]", "github-token"),
        ("config.history[0].created_by", "variable"),
        ("manifest.annotations.note", "github-token"),
    }
    assert all("tiger" not in hit.shown() and TOKEN not in hit.shown() for hit in searched.hits)


def test_a_configuration_without_secrets_has_no_hit(tmp_path: Path) -> None:
    searched = config_hits(
        tmp_path,
        config={"Env": ["TOKENIZERS_PARALLELISM=false", "HF_TOKEN_PATH=/x", "USE_TOKEN=$OTHER"]},
        steps=["RUN |1 MAX_JOBS=2 /bin/sh -c TOKEN=$(cat /run/secrets/token) make"],
    )
    assert searched.hits == ()


def test_a_step_is_shown_without_its_build_arguments() -> None:
    assert shown_step("RUN |1 TOKEN=abc /bin/sh -c pip install x # buildkit") == (
        "pip install x # buildkit"
    )
    assert shown_step("COPY /layers/python/ / # buildkit") == "COPY /layers/python/ / # buildkit"
    assert shown_step("") == "unknown step"
