"""Faults of host, engine and image, produced for real: each smoke report names the right cause.

What needs vLLM itself is produced in tests/e2e/test_real_causes.py.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from relforge.engine.containers import Mount, PublishedPort
from relforge.errors import ExitCode, RelforgeError
from relforge.serving.diagnosis import diagnose
from relforge.serving.report import Cause
from tests.engine.test_containers import PORT, engine, image, launch, node, run_id, smoke

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["engine", "image", "run_id"]

PYTHON = "/usr/bin/python3"
NOBODY = "10001:10001"


class Faulty:
    """Smoke tests of containers that are bound to fail."""

    def __init__(self, engine: DockerClient, image: str, run_id: str, tmp_path: Path) -> None:
        self.engine, self.image, self.run_id, self.tmp_path = engine, image, run_id, tmp_path

    def cause(self, *argv: str, on_line: Any = None, **changes: Any) -> Cause:
        """What the smoke report says."""
        spec = launch(node(self.image, self.run_id, *argv, **changes))
        report = smoke(spec, self.engine, self.run_id, self.tmp_path, on_line=on_line)
        assert report.verdict == "fail"
        assert report.cause is not None, report.reason
        return report.cause

    def python(self, program: str, **changes: Any) -> Cause:
        return self.cause(PYTHON, "-u", "-c", program, **changes)

    def refused(self, *argv: str, **changes: Any) -> Cause:
        """The cause in the engine's words when it does not start the container at all."""
        with pytest.raises(RelforgeError) as caught:
            self.cause(*argv, **changes)
        assert caught.value.code == ExitCode.ENVIRONMENT
        found = diagnose("", None, caught.value.why or "")
        assert found is not None, caught.value.why
        return found

    def built(self, name: str, source: str, *options: str) -> Path:
        """A program or library of C, compiled here."""
        code = self.tmp_path / f"{name}.c"
        code.write_text(source)
        out = self.tmp_path / name
        subprocess.run(
            ["gcc", code, "-o", out, *options], check=True, cwd=self.tmp_path, capture_output=True
        )
        return out

    def mounted(self, *files: Path) -> tuple[Mount, ...]:
        return (
            Mount(host=Path("/usr"), container="/usr"),
            *(Mount(host=file, container=f"/app/{file.name}") for file in files),
        )


@pytest.fixture
def faulty(engine: DockerClient, image: str, run_id: str, tmp_path: Path) -> Faulty:
    return Faulty(engine, image, run_id, tmp_path)


def test_a_program_that_the_image_lacks(faulty: Faulty) -> None:
    cause = faulty.cause("no-such-program")
    assert cause.id == "exec-not-found"
    assert cause.facts["program"] == "no-such-program"


def test_a_program_of_another_architecture(faulty: Faulty) -> None:
    program = faulty.built("program", "int main(void) { return 0; }\n")
    raw = bytearray(program.read_bytes())
    raw[18:20] = (243).to_bytes(2, "little")  # e_machine: RISC-V
    program.write_bytes(raw)
    cause = faulty.cause("/app/program", mounts=faulty.mounted(program))
    assert cause.id == "exec-format"


def test_a_device_file_that_is_not_there(faulty: Faulty) -> None:
    cause = faulty.refused(PYTHON, devices=("/dev/no-such-accelerator",))
    assert cause.id == "missing-device"
    assert cause.facts["file"] == "/dev/no-such-accelerator"


def test_a_device_file_of_somebody_else(faulty: Faulty) -> None:
    device = faulty.tmp_path / "accelerator"
    os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    cause = faulty.python(
        "open('/dev/accelerator0', 'rb')", devices=(f"{device}:/dev/accelerator0",), user=NOBODY
    )
    assert cause.id == "device-denied"
    assert cause.facts["file"] == "/dev/accelerator0"


def test_weights_of_somebody_else(faulty: Faulty) -> None:
    config = faulty.tmp_path / "config.json"
    config.write_text("{}")
    config.chmod(0o600)
    mounts = (*faulty.mounted(), Mount(host=config, container="/models/tiny/config.json"))
    cause = faulty.python("open('/models/tiny/config.json')", user=NOBODY, mounts=mounts)
    assert (cause.id, cause.facts["file"]) == ("weights-unreadable", "/models/tiny/config.json")


def test_an_engine_without_a_gpu_runtime(faulty: Faulty) -> None:
    assert faulty.refused(PYTHON, gpus="all").id == "no-gpu-runtime"
    cause = faulty.refused(PYTHON, runtime="no-such-runtime")
    assert (cause.id, cause.facts["name"]) == ("no-gpu-runtime", "no-such-runtime")


def test_a_port_of_the_host_that_is_taken(faulty: Faulty) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        cause = faulty.refused(PYTHON, ports=(PublishedPort(container=PORT, host=taken),))
    assert cause.id == "host-port-taken"


def test_a_port_that_another_server_of_the_container_has(faulty: Faulty) -> None:
    cause = faulty.python(
        "import http.server as h\n"
        "first = h.HTTPServer(('', 8000), h.BaseHTTPRequestHandler)\n"
        "h.HTTPServer(('', 8000), h.BaseHTTPRequestHandler)\n"
    )
    assert cause.id == "port-taken"


def test_memory_that_the_container_may_not_have(faulty: Faulty) -> None:
    cause = faulty.python("b = bytes(range(256)) * (1 << 20)", memory_bytes=48 << 20)
    assert cause.id == "out-of-memory"
    assert cause.evidence.startswith("container state: was killed for memory")


def test_a_server_that_was_killed(faulty: Faulty) -> None:
    name = f"relforge-{faulty.run_id}"
    cause = faulty.python(
        "import time; print('up'); time.sleep(60)",
        on_line=lambda _line: faulty.engine.api.kill(name),
    )
    assert cause.id == "killed"


def test_a_file_system_that_is_full(faulty: Faulty) -> None:
    cause = faulty.python(
        "open('/tmp/cache', 'wb', buffering=0).write(bytes(1 << 20)) == 1 << 20 or "
        "open('/tmp/more', 'wb', buffering=0).write(b'0')",
        tmpfs={"/tmp": "size=64k"},
    )
    assert cause.id == "disk-full"


def test_more_open_files_than_allowed(faulty: Faulty) -> None:
    cause = faulty.python(
        "kept = [open('/usr/bin/python3') for _ in range(99)]", ulimits={"nofile": 32}
    )
    assert cause.id == "too-many-open-files"


def test_more_threads_than_allowed(faulty: Faulty) -> None:
    cause = faulty.python(
        "import threading, time\n"
        "for _ in range(99): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n",
        ulimits={"nproc": 8},
        user="31417:31417",
    )
    assert cause.id == "too-many-processes"


def test_a_cache_that_cannot_be_written(faulty: Faulty) -> None:
    cause = faulty.python(
        "import pathlib; pathlib.Path('/.cache/vllm').mkdir(parents=True)", user=NOBODY
    )
    assert cause.id == "unwritable-folder"
    assert cause.facts["file"] == "/.cache"


def test_a_program_that_uses_unknown_instructions(faulty: Faulty) -> None:
    program = faulty.built("program", "int main(void) { __builtin_trap(); }\n")
    cause = faulty.cause("/app/program", mounts=faulty.mounted(program))
    assert cause.id == "illegal-instruction"
    assert "exit status 132" in cause.evidence


def test_a_crash_in_native_code(faulty: Faulty) -> None:
    cause = faulty.python("import ctypes, faulthandler; faulthandler.enable(); ctypes.string_at(0)")
    assert cause.id == "segfault"
    assert cause.evidence == "Fatal Python error: Segmentation fault"


def test_shared_memory_that_runs_full(faulty: Faulty) -> None:
    cause = faulty.python(
        "import faulthandler, mmap\n"
        "faulthandler.enable()\n"
        "f = open('/dev/shm/block', 'w+b')\n"
        "f.truncate(4 << 20)\n"
        "mmap.mmap(f.fileno(), 0).write(bytes(4 << 20))\n",
        shm_bytes=1 << 20,
    )
    assert cause.id == "bus-error"


def test_a_library_for_a_newer_glibc(faulty: Faulty) -> None:
    cause = faulty.python(
        "import ctypes; ctypes.CDLL('/app/needs.so')",
        mounts=faulty.mounted(versioned(faulty, "libc.so.6", "GLIBC_2.99")),
    )
    assert cause.id == "glibc-too-old"
    assert cause.facts == {"version": "2.99", "file": "/app/needs.so"}


def test_a_library_for_a_newer_libstdcxx(faulty: Faulty) -> None:
    cause = faulty.python(
        "import ctypes; ctypes.CDLL('/app/needs.so')",
        mounts=faulty.mounted(versioned(faulty, "libstdc++.so.6", "GLIBCXX_3.4.99")),
    )
    assert cause.id == "libstdcxx-too-old"
    assert cause.facts["version"] == "GLIBCXX_3.4.99"


def versioned(faulty: Faulty, soname: str, version: str) -> Path:
    """A library that needs a version of another one that only lies beside it while it is linked."""
    script = faulty.tmp_path / "version"
    script.write_text(f"{version} {{ global: of_tomorrow; }};\n")
    faulty.built(
        soname, "void of_tomorrow(void) {}\n", "-shared", "-fPIC", "-nostdlib",
        f"-Wl,-soname,{soname},--version-script,{script}",
    )  # fmt: skip
    return faulty.built(
        "needs.so", "void of_tomorrow(void); void f(void) { of_tomorrow(); }\n",
        "-shared", "-fPIC", "-nostdlib", f"{faulty.tmp_path}/{soname}",
    )  # fmt: skip


def test_a_library_that_is_missing(faulty: Faulty) -> None:
    faulty.built("libgone.so.1", "void gone(void) {}\n", "-shared", "-Wl,-soname,libgone.so.1")
    library = faulty.built(
        "needs.so", "void gone(void); void f(void) { gone(); }\n", "-shared", "-fPIC",
        f"{faulty.tmp_path}/libgone.so.1",
    )  # fmt: skip
    cause = faulty.python(
        "import ctypes; ctypes.CDLL('/app/needs.so')", mounts=faulty.mounted(library)
    )
    assert (cause.id, cause.facts["file"]) == ("library-missing", "libgone.so.1")


def test_a_library_that_was_built_against_another_one(faulty: Faulty) -> None:
    library = faulty.built(
        "needs.so", "void absent(void); void f(void) { absent(); }\n", "-shared", "-fPIC"
    )
    cause = faulty.python(
        "import ctypes, os; ctypes.CDLL('/app/needs.so', os.RTLD_NOW)",
        mounts=faulty.mounted(library),
    )
    assert cause.id == "undefined-symbol"
    assert cause.facts == {"file": "/app/needs.so", "symbol": "absent"}


def test_a_python_package_that_is_missing(faulty: Faulty) -> None:
    cause = faulty.python("import flag_gems")
    assert (cause.id, cause.facts["name"]) == ("module-missing", "flag_gems")
