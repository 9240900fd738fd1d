"""Causes that lie in the image: libraries, Python packages, compilers."""

from __future__ import annotations

from relforge.serving.diagnosis.model import KnownCause, patterns

CAUSES: tuple[KnownCause, ...] = (
    KnownCause(
        id="missing-cpu-kernels",
        explanation="the wheel in the image lacks the CPU kernels that fit this processor "
        "(vllm/_C_AVX2 or vllm/_C_AVX512): the operators were never registered",
        remedy="build from a tree whose setup.py takes all libraries of the precompiled wheel "
        "(patches: the release's vLLM patch set), or compile them (build.packages.native)",
        field="patches",
        seen=(
            "tests/e2e/test_vllm_patches.py::"
            "test_the_unpatched_tree_fails_smoke_with_the_right_cause",
        ),
        patterns=patterns(
            r"has no attribute '?init_cpu_memory_env'?", r"no attribute '?init_cpu_threads_env'?"
        ),
    ),
    KnownCause(
        id="slot-mapping-stand-in",
        explanation="the CPU stand-in of vLLM's slot-mapping kernel has another parameter list "
        "than its caller, so the first request kills the engine",
        remedy="add the patch that mends vllm/utils/cpu_triton_utils.py (patches)",
        field="patches",
        seen=(
            "tests/e2e/test_vllm_patches.py::"
            "test_the_unpatched_tree_fails_smoke_with_the_right_cause",
        ),
        patterns=patterns(r"Boolean value of Tensor with more than one value is ambiguous"),
    ),
    KnownCause(
        id="glibc-too-old",
        explanation="a library in the image was built for a newer glibc than its base image has",
        remedy="take a base image with that glibc (device manifest: stacks.base), or a wheel that "
        "was built for this one (sources)",
        field="device.stacks.base",
        seen=(
            "tests/engine/test_start_causes.py::test_a_library_for_a_newer_glibc",
            "https://github.com/vllm-project/vllm/issues/15592",
            "https://github.com/vllm-project/vllm/issues/6464",
        ),
        patterns=patterns(
            r"version [`']GLIBC_(?P<version>[\d.]{1,10})' not found"
            r"( \(required by (?P<file>[^)]{1,200})\))?",
        ),
    ),
    KnownCause(
        id="libstdcxx-too-old",
        explanation="a library in the image was built with a newer C++ compiler than the base "
        "image's libstdc++ knows",
        remedy="take a base image with a newer libstdc++ (device manifest: stacks.base), or build "
        "the library with the base image's compiler (build.packages.native: compiled)",
        field="device.stacks.base",
        seen=(
            "tests/engine/test_start_causes.py::test_a_library_for_a_newer_libstdcxx",
            "https://github.com/InternLM/xtuner/issues/365",
            "https://github.com/llm-d/llm-d-kv-cache/issues/445",
        ),
        patterns=patterns(
            r"version [`'](?P<version>(GLIBCXX|CXXABI)_[\d.]{1,10})' not found"
            r"( \(required by (?P<file>[^)]{1,200})\))?",
        ),
    ),
    KnownCause(
        id="driver-library-missing",
        explanation="the driver's own library is not in the container: the host's driver was not "
        "handed in",
        remedy="take the launch profile that mounts the driver or uses the vendor's runtime "
        "(serve.profile; device manifest: launch_profiles.mounts, .runtime, .gpus)",
        field="device.launch_profiles",
        seen=(
            "https://github.com/abetlen/llama-cpp-python/issues/1169",
            "https://github.com/vllm-project/vllm-ascend/issues/1440",
        ),
        patterns=patterns(
            r"(?P<file>lib(cuda|nvidia-ml|ascend_hal|dcmi|ixthunk|mxc-runtime64|xpurt|musa)"
            r"\.so[.\d]{0,10}): cannot open shared object file",
        ),
    ),
    KnownCause(
        id="library-missing",
        explanation="a library that a package needs is not in the image",
        remedy="add the Debian package that carries it (build.apt, or apt_runtime of the device's "
        "stack), or the wheel (build.python.requirements)",
        field="build.python.requirements",
        seen=(
            "tests/engine/test_start_causes.py::test_a_library_that_is_missing",
            "https://github.com/vllm-project/vllm/issues/36099",
            "https://github.com/vllm-project/vllm-ascend/issues/152",
        ),
        patterns=patterns(
            r"(?P<file>[\w+.-]{1,100}\.so[.\d]{0,12}): cannot open shared object file",
        ),
    ),
    KnownCause(
        id="undefined-symbol",
        explanation="a compiled package was built against another version of a library, mostly of "
        "torch, than the image has",
        remedy="pin both to versions that belong together (build.python.requirements and "
        "constraints), or compile the package in this image (build.packages.native: compiled)",
        field="build.python.constraints",
        seen=(
            "tests/engine/test_start_causes.py::test_a_library_that_was_built_against_another_one",
            "https://github.com/vllm-project/vllm/issues/13608",
            "https://github.com/vllm-project/vllm-ascend/issues/117",
        ),
        patterns=patterns(
            r"(?P<file>[^\s:'\"]{1,200}\.so[.\d]{0,12}): undefined symbol: ?"
            r"(?P<symbol>\w{1,120})",
        ),
    ),
    KnownCause(
        id="numpy-abi",
        explanation="a compiled package was built for another major version of NumPy",
        remedy="constrain numpy to the version it was built for (build.python.constraints: "
        "numpy<2, or numpy>=2), or take a newer release of the package",
        field="build.python.constraints",
        seen=(
            "tests/integration/test_numpy_abi.py::test_a_package_built_for_another_numpy",
            "https://github.com/seung-lab/igneous/issues/203",
            "https://github.com/jupyter/notebook/issues/7522",
        ),
        patterns=patterns(
            r"numpy\.(dtype|ndarray|ufunc) size changed",
            r"compiled using NumPy 1\.x cannot be run in",
            r"module compiled against API version 0x\w{1,4} but this version of numpy",
            r"numpy\.core\.multiarray failed to import",
        ),
    ),
    KnownCause(
        id="module-missing",
        explanation="a Python package that the server imports is not in the image",
        remedy="add it to build.python.requirements, or take it out of build.python.exclude",
        field="build.python.requirements",
        seen=(
            "tests/engine/test_start_causes.py::test_a_python_package_that_is_missing",
            "https://github.com/vllm-project/vllm/issues/9624",
        ),
        patterns=patterns(r"ModuleNotFoundError: No module named '(?P<name>[\w.]{1,100})'"),
    ),
    KnownCause(
        id="no-compiler",
        explanation="kernels are compiled when the server starts, and the image has no compiler",
        remedy="add gcc, or g++, to apt_runtime of the device's stack, or start without compiling "
        "(serve.args: enforce-eager: true)",
        field="serve.args.enforce-eager",
        seen=(
            "tests/e2e/test_real_causes.py::test_an_image_without_a_compiler",
            "https://github.com/apple/ml-cross-entropy/issues/5",
        ),
        patterns=patterns(
            r"Failed to find C compiler",
            r"InvalidCxxCompiler",
            r"No working C\+\+ compiler found",
        ),
    ),
    KnownCause(
        id="no-python-headers",
        explanation="kernels are compiled when the server starts, and the image has no headers of "
        "Python",
        remedy="add python3-dev (of the image's Python) to apt_runtime of the device's stack, or "
        "start without compiling (serve.args: enforce-eager: true)",
        field="serve.args.enforce-eager",
        seen=(
            "https://github.com/sgl-project/sglang/issues/1117",
            "https://github.com/gpustack/gpustack/issues/1242",
        ),
        patterns=patterns(r"fatal error: Python\.h: No such file or directory"),
    ),
    KnownCause(
        id="no-ninja",
        explanation="kernels are compiled when the server starts, and the image has no ninja",
        remedy="add ninja to build.python.requirements",
        field="build.python.requirements",
        seen=(
            "https://github.com/sgl-project/sglang/issues/2514",
            "https://github.com/anthony-chaudhary/fak/issues/923",
        ),
        patterns=patterns(
            r"Ninja is required to load C\+\+ extensions",
            r"No such file or directory: '(?P<name>ninja)'",
        ),
    ),
)
