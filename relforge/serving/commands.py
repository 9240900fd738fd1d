"""A node of a launch as commands: for Docker's client, for a shell, for inside a container."""

from __future__ import annotations

import csv
import io
import shlex
from typing import TYPE_CHECKING

from relforge.engine.container_spec import Mount

if TYPE_CHECKING:
    from relforge.serving.model import LaunchSpec, Node


def docker_argv(node: Node) -> tuple[str, ...]:
    """The ``docker run`` command that starts the node the way relforge does."""
    words = ["docker", *(("--host", node.context) if node.context else ()), "run", "--rm"]
    for words_of_option in _options(node):
        words += words_of_option
    return (*words, "--entrypoint", node.argv[0], node.image, *node.argv[1:])


def _options(node: Node) -> list[tuple[str, ...]]:
    """Each option with its value, in an order that does not change."""
    rows: list[tuple[str, ...]] = [("--name", node.name)]
    for port in node.ports:
        host = "" if port.host is None else str(port.host)
        rows.append(("--publish", f"{port.address}:{host}:{port.container}"))
    if node.network:
        rows.append(("--network", node.network))
    if node.shm_bytes is not None:
        rows.append(("--shm-size", str(node.shm_bytes)))
    if node.memory_bytes is not None:
        rows.append(("--memory", str(node.memory_bytes)))
    rows += [("--device", device) for device in node.devices]
    rows += [("--mount", _mount_word(mount)) for mount in node.mounts]
    rows += [("--tmpfs", f"{path}:{options}") for path, options in node.tmpfs.items()]
    rows += [("--env", f"{key}={value}") for key, value in node.env.items()]
    for option, text in (
        ("--user", node.user),
        ("--workdir", node.workdir),
        ("--runtime", node.runtime),
        ("--gpus", node.gpus),
        ("--ipc", node.ipc),
        ("--pid", node.pid),
        ("--uts", node.uts),
    ):
        if text:
            rows.append((option, text))
    for option, values in (
        ("--group-add", node.group_add),
        ("--cap-add", node.cap_add),
        ("--security-opt", node.security_opt),
        ("--ulimit", (f"{name}={value}" for name, value in node.ulimits.items())),
    ):
        rows += [(option, value) for value in values]
    if node.privileged:
        rows.append(("--privileged",))
    return rows


def exec_script(node: Node) -> str:
    """The same server as a shell script for inside a container that runs already."""
    exports = [f"export {key}={shlex.quote(value)}" for key, value in node.env.items()]
    folder = [f"cd {shlex.quote(node.workdir)}"] if node.workdir else []
    lines = ["#!/bin/sh", "set -eu", *exports, *folder, f"exec {shlex.join(node.argv)}", ""]
    if any("$" in line or "`" in line for line in lines):
        lines.insert(1, "# shellcheck disable=SC2016  # values are meant as they stand")
    return "\n".join(lines)


def shell_script(spec: LaunchSpec, node: Node) -> str:
    """A script that starts one node; every value is quoted, and no variable is read."""
    argv = docker_argv(node)
    head = argv[: argv.index("--name")]
    lines = [shlex.join(head)]
    lines += [shlex.join(words) for words in _options(node)]
    lines.append(shlex.join(("--entrypoint", node.argv[0])))
    lines.append(shlex.join((node.image, *node.argv[1:])))
    command = " \\\n  ".join(lines)
    return f"#!/bin/sh\n{comment(spec, node)}set -eu\n{command}\n"


def comment(spec: LaunchSpec, node: Node) -> str:
    """What a rendered file is, as comment lines of a shell script or of YAML."""
    number = spec.nodes.index(node) + 1
    named = f" ({node.host})" if node.host else ""
    where = f"through {node.context}" if node.context else "on the node itself"
    return (
        f"# {spec.release}: node {number} of {len(spec.nodes)}{named}. To be run {where}.\n"
        "# Written by relforge serve --print; change the release's manifest instead.\n"
    )


def with_files(argv: tuple[str, ...], files: dict[str, str]) -> tuple[str, ...]:
    """A command that writes *files* inside the container first, then becomes *argv*.

    The texts travel as arguments, so nothing has to lie on the host and nothing is quoted twice.
    """
    if not files:
        return argv
    steps = ["set -eu"]
    for folder in dict.fromkeys(path.rpartition("/")[0] for path in files):
        steps.append(f"mkdir -p {shlex.quote(folder)}")
    for path in files:
        steps += [f'printf %s "$1" >{shlex.quote(path)}', "shift"]
    steps.append('exec "$@"')
    return ("/bin/sh", "-c", "\n".join(steps), "relforge", *files.values(), *argv)


def _mount_word(mount: Mount) -> str:
    # The engine's client reads this word as one line of CSV, so a comma in a path is quoted.
    fields = ["type=bind", f"source={mount.host}", f"target={mount.container}"]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields + ["readonly"] * mount.read_only)
    return line.getvalue()
