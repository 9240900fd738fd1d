"""Builds the C++ part; everything about the Python part stands in pyproject.toml.

``build_ext`` needs nothing but this file and csrc/. With OUT set it leaves the library in
$OUT/hello_server/, laid out as in the wheel, and writes nothing into the tree.
With HELLO_SERVER_WITHOUT_EXTENSION=1 the wheel is built without it, and without a compiler.
"""

import os
import tempfile

from setuptools import Extension, setup

extension = Extension(
    "hello_server._adder",
    ["csrc/_adder.cpp"],
    language="c++",
    # No debug information: it would hold the path of the build and change with it.
    extra_compile_args=["-std=c++17", "-O2", "-g0", "-Wall", "-Wextra"],
    extra_link_args=["-Wl,--build-id=none"],
)
without = os.environ.get("HELLO_SERVER_WITHOUT_EXTENSION") == "1"
options = {}
if out := os.environ.get("OUT"):
    options["build_ext"] = {"build_lib": out, "build_temp": tempfile.mkdtemp(prefix="hello-")}

setup(ext_modules=[] if without else [extension], options=options)
