"""Every way in which an image comes to be, with the hello server: scripts of the tree, images of
others as they are, bases with a Python of their own, overridden blocks, a vendor's settings."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.engine.cli import find_cli
from tests.e2e.conftest import CHECKOUT, SAID, Hello
from tests.e2e.test_hello import edited_files, edited_source, pin

pytestmark = pytest.mark.timeout(600)
BUILD_SH = "set -e\nrm -rf out\npython3 setup.py -q bdist_wheel -d out\n"
INSTALL_SH = "set -e\npip3 install -q out/*.whl\n"


def docker(*words: str) -> str:
    cli = find_cli()
    done = subprocess.run(
        cli.argv(*words), env={**os.environ, **cli.environment}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def change(hello: Hello, how: Callable[[dict[str, Any]], None], kind: str = "releases") -> None:
    name = "hello-cpu_x86" if kind == "releases" else "cpu_x86"
    path = hello.project / "manifests" / kind / f"{name}.yaml"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text((CHECKOUT / "manifests" / kind / f"{name}.yaml").read_text())
    data = yaml.safe_load(path.read_text())
    how(data)
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def built(hello: Hello) -> dict[str, Any]:
    done = hello.run("lock")
    assert done.code == 0, done.stderr
    done = hello.run("build", "--json")
    assert done.code == 0, done.stderr
    return dict(done.json)


@pytest.fixture
def image(hello: Hello) -> str:
    """The hello image, as somebody else's would be."""
    return str(built(hello)["image_digest"])


def with_scripts(hello: Hello, tmp_path: Path, install: str = INSTALL_SH) -> None:
    commit = edited_files(tmp_path, {"build.sh": BUILD_SH, "install.sh": install})

    def scripts(data: dict[str, Any]) -> None:
        (package,) = data["build"]["packages"]
        package["native"] = {
            "mode": "scripts",
            "commands": [["sh", "build.sh"], ["sh", "install.sh"]],
        }
        del package["env"]

    change(hello, scripts)
    pin(hello, commit)


def test_the_trees_own_scripts_build_and_install(hello: Hello, tmp_path: Path) -> None:
    with_scripts(hello, tmp_path)
    done = hello.run("release", "--json")
    assert done.code == 0, done.stderr
    assert done.json["verdicts"] == {"smoke": "pass", "evaluate": "pass", **SAID}
    record = json.loads((hello.dist / "hello-cpu_x86" / "release.json").read_text())
    (package,) = record["results"]["build"]["packages"]
    assert package["native"] == "scripts"
    card = (hello.dist / "hello-cpu_x86" / "README.md").read_text()
    assert "built by the tree's own scripts" in card


def test_scripts_that_touch_what_was_installed_fail_the_build(hello: Hello, tmp_path: Path) -> None:
    with_scripts(hello, tmp_path, INSTALL_SH + "echo >> $(dirname $(which python3))/activate\n")
    done = hello.run("build")
    assert done.code == 5
    assert "changed or removed files of packages that were installed before" in done.stderr


def test_an_image_of_a_registry_is_taken_as_it_is(hello: Hello, image: str, registry: str) -> None:
    docker("tag", image, f"{registry}/vendor/hello:1")
    docker("push", "--quiet", f"{registry}/vendor/hello:1")
    original = json.loads(docker("image", "inspect", image))[0]["Id"]
    docker("rmi", f"{registry}/vendor/hello:1")

    def given(data: dict[str, Any]) -> None:
        data["sources"] = {}
        data["build"] = {
            "image": {
                "registry": {"reference": f"{registry}/vendor/hello:1", "digest": "unresolved"},
                "source": "this test",
            }
        }

    change(hello, given)
    assert hello.run("lock").code == 0
    lock = yaml.safe_load(
        (hello.project / "manifests" / "releases" / "hello-cpu_x86.lock.yaml").read_text()
    )
    assert lock["image"]["digest"] == original
    done = hello.run("release", "--json")
    assert done.code == 0, done.stderr
    assert done.json["image_digest"] == original, "not one byte of it was changed"
    assert done.json["verdicts"] == {"smoke": "pass", "evaluate": "pass", **SAID}
    statuses = {stage["name"]: stage["status"] for stage in done.json["stages"]}
    assert statuses["render"] == "skipped"


def test_an_image_on_request_is_loaded_from_its_archive(
    hello: Hello, image: str, tmp_path: Path
) -> None:
    archive = tmp_path / "image.tar"
    docker("tag", image, "vendor.example/hello:1")
    docker("save", "--output", str(archive), "vendor.example/hello:1")
    wanted = {
        "reference": "vendor.example/hello:1",
        "contact": "release@vendor.invalid",
        "ask_for": "the hello image",
    }

    def given(data: dict[str, Any]) -> None:
        data["sources"] = {}
        data["build"] = {"image": {"on_request": wanted, "source": "this test"}}

    change(hello, given)
    done = hello.run("lock")
    assert done.code == 4
    assert "ask release@vendor.invalid for the hello image" in " ".join(done.stderr.split())
    site = hello.other_site(tmp_path / "has.yaml", images={wanted["reference"]: str(archive)})
    done = hello.run("lock", site=site)
    assert done.code == 0, done.stderr
    done = hello.run("smoke", "--json", site=site)
    assert done.code == 0, done.stderr
    assert done.json["verdicts"] == {"smoke": "pass"}


def test_a_base_image_brings_its_own_python(hello: Hello, image: str, tmp_path: Path) -> None:
    """As FlagRelease's images do: packages go into the environment that is there."""
    archive = tmp_path / "base.tar"
    docker("tag", image, "vendor.example/base:1")
    docker("save", "--output", str(archive), "vendor.example/base:1")
    base = {
        "reference": "vendor.example/base:1",
        "contact": "release@vendor.invalid",
        "ask_for": "the base image",
    }

    def stack(data: dict[str, Any]) -> None:
        (found,) = data["stacks"].values()
        found["base"] = {"on_request": base}
        found["environment"] = {"prefix": "/opt/venv", "source": "this test"}
        found["as_root"] = "the environment belongs to root"
        found["apt_runtime"] = []

    change(hello, stack, "devices")
    site = hello.other_site(tmp_path / "has.yaml", images={base["reference"]: str(archive)})
    pin(hello, edited_source(tmp_path, "hello_server/__init__.py", 'OTHER = "second"\n'), site)
    done = hello.run("smoke", "--json", site=site)
    assert done.code == 0, done.stderr
    assert done.json["verdicts"] == {"smoke": "pass"}
    said = docker(
        "run", "--rm", "--entrypoint", "python3", done.json["image_digest"], "-c",
        "import hello_server, os; print(hello_server.OTHER, hello_server.__file__, os.getuid())",
    )  # fmt: skip
    assert said.split()[0] == "second"
    assert said.split()[1].startswith("/opt/venv/lib/python3.11/site-packages/")
    assert said.split()[2] == "0"


def test_a_release_overrides_blocks_and_servers_get_the_vendors_settings(hello: Hello) -> None:
    def blocks(data: dict[str, Any]) -> None:
        data["build"]["blocks"] = {
            "base": "{{ super() }}\nRUN mkdir -p /etc/profile.d"
            " && echo 'VENDOR_HOME=/opt/vendor' > /etc/profile.d/vendor.sh\n",
            "labels": "{{ super() }}\nLABEL org.example.made=here\n",
        }

    def activate(data: dict[str, Any]) -> None:
        (found,) = data["stacks"].values()
        found["activate"] = "/etc/profile.d/vendor.sh"
        found["apt_runtime"] = [*found["apt_runtime"], "bash"]

    change(hello, blocks)
    change(hello, activate, "devices")
    built(hello)
    done = hello.run("smoke", "--json")
    assert done.code == 0, done.stderr
    (shown,) = json.loads(docker("image", "inspect", done.json["image_digest"]))
    assert shown["Config"]["Labels"]["org.example.made"] == "here"
    assert "HEALTHCHECK" not in str(shown["Config"]["Labels"])
    assert shown["Config"]["Healthcheck"]["Test"][:2] == ["CMD", "/opt/venv/bin/python"]
    said = docker(
        "run", "--rm", "--entrypoint", "python3", done.json["image_digest"], "-c",
        "import os, sys; print(os.environ['VENDOR_HOME'], sys.prefix)",
    )  # fmt: skip
    assert said == "/opt/vendor /opt/venv"
