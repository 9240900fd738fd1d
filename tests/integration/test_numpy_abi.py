"""A package that was compiled for NumPy 1, imported beside NumPy 2: what Python says of it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from relforge.serving.diagnosis import diagnose

PACKAGE = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <numpy/arrayobject.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "old", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_old(void) { import_array(); return PyModule_Create(&module); }
"""


@pytest.mark.skipif("RELFORGE_LONG" not in os.environ, reason="fetches NumPy 1; RELFORGE_LONG=1")
def test_a_package_built_for_another_numpy(tmp_path: Path) -> None:
    def run(*words: str | Path) -> str:
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    run(
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
        "--only-binary", ":all:", "--dest", tmp_path, "numpy==1.26.4",
    )  # fmt: skip
    (wheel,) = tmp_path.glob("numpy-1.26.4-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "numpy1")
    (tmp_path / "old.c").write_text(PACKAGE)
    headers = tmp_path / "numpy1" / "numpy" / "core" / "include"
    include = sysconfig.get_path("include")
    run("gcc", "-shared", "-fPIC", f"-I{include}", f"-I{headers}", "old.c", "-o", "old.so")
    said = run(sys.executable, "-c", "import old")
    assert "NumPy 2" in said, "the tests' environment has NumPy 2"
    cause = diagnose(said)
    assert cause is not None
    assert (cause.id, cause.field) == ("numpy-abi", "build.python.constraints")
