"""Causes that are a lack of memory: shared, of the device, of the KV cache."""

from __future__ import annotations

from relforge.serving.diagnosis.model import KnownCause, ended_with, patterns

CAUSES: tuple[KnownCause, ...] = (
    KnownCause(
        id="shm-too-small",
        explanation="shared memory (/dev/shm) in the container is too small for the server",
        remedy="raise serve.shm_bytes",
        field="serve.shm_bytes",
        seen=(
            "tests/e2e/test_real_causes.py::test_shared_memory_that_is_too_small",
            "https://github.com/open-mmlab/mmdetection/issues/6993",
        ),
        patterns=patterns(
            r"Insufficient space in /dev/shm .{0,80}?: (?P<needed>[\d.]{1,12} [KMG]iB) required, "
            r"(?P<available>[\d.]{1,12} [KMG]iB) free",
            r"insufficient shared memory",
            r"no space left on device.{0,120}(/dev/shm|shared memory|\bshm\b|psm_)",
            r"shared memory.{0,120}(no space left|too small|insufficient|exceeds)",
            r"/dev/shm.{0,120}(no space left|too small|insufficient|exceeds)",  # noqa: S108
            r"unable to (open|mmap|allocate).{0,40}shared memory",
            r"unable to write to file </torch_",
        ),
    ),
    KnownCause(
        id="device-memory-taken",
        explanation="something else holds memory of the accelerator: less is free than the server "
        "wants to reserve",
        remedy="stop what holds it, or lower serve.args.gpu-memory-utilization",
        field="serve.args.gpu-memory-utilization",
        seen=("https://github.com/pytorch/pytorch/issues/175666",),
        patterns=patterns(
            r"Free memory on device \S{0,20} ?\((?P<available>[\d.]{1,10})/(?P<total>[\d.]{1,10}) "
            r"GiB\).{0,40} is less than desired",
        ),
    ),
    KnownCause(
        id="device-out-of-memory",
        explanation="the memory of the accelerator does not hold the weights and what the server "
        "works with",
        remedy="spread the weights over more devices (serve.tensor_parallel), shorten "
        "serve.args.max-model-len or serve.args.max-num-seqs, or serve quantized weights (model)",
        field="serve.tensor_parallel",
        seen=(
            "https://github.com/vllm-project/vllm/issues/2140",
            "https://github.com/vllm-project/vllm-ascend/issues/1987",
            "https://github.com/PaddlePaddle/PaddleNLP/issues/7312",
        ),
        patterns=patterns(
            r"\b(CUDA|NPU|MUSA|HIP|XPU|MACA) out of memory\. Tried to allocate "
            r"(?P<needed>[\d.]{1,12} [KMG]iB)",
            r"\b(CUDA|NPU|MUSA|HIP|XPU|MACA) out of memory",
            r"Out of memory error on \w{1,8} \d{1,3}\. Cannot allocate "
            r"(?P<needed>[\d.]{1,16}[MG]B)",
            r"CUDA error: out of memory",
        ),
    ),
    KnownCause(
        id="no-kv-cache",
        explanation="after loading the weights no memory is left for the KV cache",
        remedy="raise serve.args.gpu-memory-utilization (sglang: mem-fraction-static), spread the "
        "weights (serve.tensor_parallel), or serve smaller ones (model)",
        field="serve.args.gpu-memory-utilization",
        seen=(
            "https://github.com/vllm-project/vllm/issues/10439",
            "https://github.com/sgl-project/sglang/issues/4330",
        ),
        patterns=patterns(
            r"No available memory for the cache blocks",
            r"Not enough memory\. Please try to increase --mem-fraction-static",
        ),
    ),
    KnownCause(
        id="kv-cache-too-small",
        explanation="the KV cache does not hold one request of the longest length",
        remedy="lower serve.args.max-model-len, or give the cache more "
        "(serve.args.gpu-memory-utilization; on a CPU serve.env.VLLM_CPU_KVCACHE_SPACE)",
        field="serve.args.max-model-len",
        seen=(
            "tests/e2e/test_real_causes.py::test_a_kv_cache_that_is_too_small",
            "https://github.com/QwenLM/Qwen3/issues/295",
            "https://github.com/vllm-project/vllm/issues/16118",
            "https://github.com/vllm-project/tpu-inference/pull/223",
        ),
        patterns=patterns(
            r"model'?s'?s? max seq len \((?P<length>\d{1,12})\) is larger than the maximum number "
            r"of tokens that can be stored in KV cache \((?P<fits>\d{1,12})\)",
            r"max seq len \((?P<length>\d{1,12})\), \(?(?P<needed>[\d.]{1,12} GiB) KV cache is "
            r"needed, which is larger than the available KV cache memory "
            r"\((?P<available>[\d.]{1,12} GiB)\)"
            r"(.{0,80}estimated maximum model length is (?P<fits>\d{1,12}))?",
        ),
    ),
    KnownCause(
        id="kv-cache-too-large",
        explanation="more memory is reserved for the KV cache than the host has free",
        remedy="lower serve.env.VLLM_CPU_KVCACHE_SPACE (GiB)",
        field="serve.env.VLLM_CPU_KVCACHE_SPACE",
        seen=("tests/e2e/test_real_causes.py::test_a_kv_cache_that_the_host_cannot_hold",),
        patterns=patterns(
            r"Available memory on node \d{1,4} \((?P<available>[\d.]{1,12})/[\d.]{1,12} GiB\) on "
            r"kv cache allocation is less than requested memory for kv "
            r"\((?P<needed>[\d.]{1,12}) GiB\)",
        ),
    ),
    KnownCause(
        id="bus-error",
        explanation="the server died of a bus error, as it does when shared memory runs full",
        remedy="raise serve.shm_bytes",
        field="serve.shm_bytes",
        seen=(
            "tests/engine/test_start_causes.py::test_shared_memory_that_runs_full",
            "https://github.com/vllm-project/vllm/issues/1771",
        ),
        patterns=patterns(
            r"Fatal python error: ?Bus error",
            r"\bBus error \(core dumped\)",
            r"died with .{0,20}SIGBUS",
        ),
        state=ended_with(135),
        kind="symptom",
    ),
)
