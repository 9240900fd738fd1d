"""Causes that lie with the host, its engine and the limits of the container."""

from __future__ import annotations

from relforge.serving.diagnosis.model import KnownCause, ended_with, patterns

CAUSES: tuple[KnownCause, ...] = (
    KnownCause(
        id="out-of-memory",
        explanation="the kernel killed the server because its container ran out of memory",
        remedy="raise serve.memory_bytes, or lower what the server reserves (serve.args, "
        "serve.env: the KV cache)",
        field="serve.memory_bytes",
        seen=(
            "tests/e2e/test_real_causes.py::test_too_little_memory",
            "tests/engine/test_start_causes.py::test_memory_that_the_container_may_not_have",
        ),
        state=lambda state: state.oom_killed,
    ),
    KnownCause(
        id="exec-not-found",
        explanation="the image has no such program on its PATH, or its interpreter is missing",
        remedy="correct serve.command (engine 'command'), or build the package that carries the "
        "program into the image (build.packages)",
        field="serve.command",
        seen=("tests/engine/test_start_causes.py::test_a_program_that_the_image_lacks",),
        patterns=patterns(
            r"exec: \"(?P<program>[^\"]{1,200})\": executable file not found in \$PATH",
            r"exec: \"(?P<program>[^\"]{1,200})\": (?:stat [^:]{1,200}: )?no such file or dir",
            r"executable file not found in \$PATH",
            r"unable to start container process: exec: .{0,300}no such file or directory",
        ),
    ),
    KnownCause(
        id="exec-format",
        explanation="the program was built for another processor architecture",
        remedy="build for the device's architecture (device manifest: architecture, base)",
        field="device.architecture",
        seen=("tests/engine/test_start_causes.py::test_a_program_of_another_architecture",),
        patterns=patterns(r"exec format error"),
    ),
    KnownCause(
        id="missing-device",
        explanation="a device node that the launch profile names is not there on this host",
        remedy="see whether the driver is loaded; correct launch_profiles.devices of the device, "
        "or serve.devices",
        field="device.launch_profiles",
        seen=("tests/engine/test_start_causes.py::test_a_device_file_that_is_not_there",),
        patterns=patterns(
            r"error gathering device information while adding custom device "
            r"\"(?P<file>[^\"]{1,200})\"",
            r"error gathering device information",
        ),
    ),
    KnownCause(
        id="device-denied",
        explanation="the server may not open a device node: its user or group lacks the right",
        remedy="let the launch profile give the device's group (group_add), or take a profile "
        "with more rights (serve.profile)",
        field="device.launch_profiles",
        seen=("tests/engine/test_start_causes.py::test_a_device_file_of_somebody_else",),
        patterns=patterns(
            r"permission denied: '?\"?(?P<file>/dev/(?!shm)[^'\"\s]{1,100})",
            r"(?P<file>/dev/(?!shm)[\w/]{1,100})'?\"?: permission denied",
            r"(?P<file>/dev/(?!shm)[\w/]{1,100})'?\"?: operation not permitted",
        ),
    ),
    KnownCause(
        id="no-gpu-runtime",
        explanation="the engine of this host has no runtime that hands accelerators to containers",
        remedy="install the vendor's container toolkit on the host, or take a launch profile "
        "that names the device files (serve.profile: raw)",
        field="serve.profile",
        seen=(
            "tests/engine/test_start_causes.py::test_an_engine_without_a_gpu_runtime",
            "https://github.com/NVIDIA/nvidia-docker/issues/1352",
        ),
        patterns=patterns(
            r"could not select device driver .{0,40}with capabilities: \[\[gpu",
            r"unknown or invalid runtime name: (?P<name>[\w.-]{1,80})",
        ),
    ),
    KnownCause(
        id="host-port-taken",
        explanation="something on the host listens on the port that was to lead to the server",
        remedy="stop what listens there (ss -ltnp shows it), or leave the port to the engine",
        field="serve.port",
        seen=("tests/engine/test_start_causes.py::test_a_port_of_the_host_that_is_taken",),
        patterns=patterns(
            r"Bind for [\d.:\[\]]{1,60}:(?P<port>\d{1,5}) failed: port is already allocated",
            r"failed to bind host port for [^:]{0,60}:(?P<port>\d{1,5})",
            r"driver failed programming external connectivity.{0,300}address already in use",
        ),
    ),
    KnownCause(
        id="port-taken",
        explanation="something in the container listens on the server's port already",
        remedy="change serve.port, or see what the image starts besides the server",
        field="serve.port",
        seen=(
            "tests/e2e/test_real_causes.py::test_a_port_that_is_taken_in_the_container",
            "tests/engine/test_start_causes.py::test_a_port_that_another_server_of_the_container_has",
        ),
        patterns=patterns(
            r"attempting to bind on address \('[^']{0,60}', (?P<port>\d{1,5})",
            r"failed to bind to \S{1,80}:(?P<port>\d{1,5}) \(errno: 98",
            r"address already in use",
            r"Errno 98\b",
            r"port (?P<port>\d{1,5}) is already (in use|allocated)",
        ),
        unless=patterns(r"retry|trying (another|a different|port)|bootstrap listen"),
    ),
    KnownCause(
        id="too-many-open-files",
        explanation="the server used up the number of files that its container may open",
        remedy="set serve.ulimits.nofile, such as 1048576",
        field="serve.ulimits.nofile",
        seen=(
            "tests/e2e/test_real_causes.py::test_too_few_open_files",
            "tests/engine/test_start_causes.py::test_more_open_files_than_allowed",
            "https://github.com/psnc-qcg/QCG-PilotJob/issues/41",
        ),
        patterns=patterns(r"too many open files", r"\[?Errno 24\b"),
        unless=patterns(r"errors like"),
    ),
    KnownCause(
        id="too-many-processes",
        explanation="the container may not start as many threads or processes as the server wants",
        remedy="raise the engine's limit (serve.ulimits.nproc; default-pids-limit of the engine), "
        "or lower the threads (serve.env: OMP_NUM_THREADS, OPENBLAS_NUM_THREADS)",
        field="serve.ulimits.nproc",
        seen=(
            "tests/engine/test_start_causes.py::test_more_threads_than_allowed",
            "https://github.com/vllm-project/vllm/issues/5645",
            "https://github.com/vladmandic/sdnext/issues/2642",
        ),
        patterns=patterns(
            r"blas_thread_init: pthread_create",
            r"can't start new thread",
            r"fork: (retry: )?Resource temporarily unavailable",
            r"what\(\):\s{1,4}Resource temporarily unavailable",
        ),
    ),
    KnownCause(
        id="disk-full",
        explanation="a file system of the container, or the host's below it, is full",
        remedy="free space where the engine keeps its containers (docker system df), or mount a "
        "folder with room (serve.mounts, serve.tmpfs) where the server writes",
        field="serve.mounts",
        seen=(
            "tests/engine/test_start_causes.py::test_a_file_system_that_is_full",
            "https://github.com/modelscope/ms-swift/issues/3551",
        ),
        patterns=patterns(
            r"no space left on device(: '?(?P<file>/[^'\s]{1,200}))?",
            r"\[?Errno 28\b",
        ),
        unless=patterns(r"/dev/shm|\bshm\b|shared memory|psm_"),  # noqa: S108 (of a log)
    ),
    KnownCause(
        id="unwritable-folder",
        explanation="the server may not write a folder it keeps caches or settings in",
        remedy="give it one: an environment variable that names a writable folder (serve.env: "
        "HOME, VLLM_CACHE_ROOT, XDG_CACHE_HOME, TRITON_CACHE_DIR), or a serve.tmpfs there",
        field="serve.env.HOME",
        seen=(
            "tests/engine/test_start_causes.py::test_a_cache_that_cannot_be_written",
            "https://github.com/odysseus-dev/odysseus/issues/6157",
        ),
        patterns=patterns(
            r"permission denied: '(?P<file>/(?!dev/|models?/)[^']{0,200}"
            r"\.(cache|config|triton|local|nv|vllm|huggingface)\b[^']{0,200})'",
            r"read-only file system: '(?P<file>/(?!dev/|models?/)[^']{1,200})'",
        ),
    ),
    KnownCause(
        id="illegal-instruction",
        explanation="the image's libraries use instructions that this processor does not have",
        remedy="run it on a processor with them (AVX2 or AVX-512 on x86-64), or build for this "
        "one (build.packages.native: compiled)",
        field="build.packages",
        seen=(
            "tests/engine/test_start_causes.py::test_a_program_that_uses_unknown_instructions",
            "https://github.com/intel/ipex-llm/issues/12922",
        ),
        patterns=patterns(r"illegal instruction", r"died with .{0,20}SIGILL"),
        state=ended_with(132),
        kind="symptom",
    ),
    KnownCause(
        id="segfault",
        explanation="the server crashed in native code (segmentation fault)",
        remedy="the stack below it in the log names the library; most often it does not fit the "
        "driver or torch: rebuild it against them (build.packages)",
        field="build.packages",
        seen=(
            "tests/engine/test_start_causes.py::test_a_crash_in_native_code",
            "https://github.com/sgl-project/sglang/issues/3451",
        ),
        patterns=patterns(
            r"Fatal Python error: Segmentation fault",
            r"\bsegmentation fault\b",
            r"died with .{0,20}SIGSEGV",
        ),
        state=ended_with(139),
        kind="symptom",
    ),
    KnownCause(
        id="killed",
        explanation="the server was killed from outside (SIGKILL): most often the host ran out of "
        "memory",
        remedy="free memory on the host (dmesg names the victim), or lower what the server "
        "reserves",
        field="serve.memory_bytes",
        seen=("tests/engine/test_start_causes.py::test_a_server_that_was_killed",),
        state=lambda state: ended_with(137)(state) and not state.oom_killed,
        kind="symptom",
    ),
)
