"""Causes that lie between the image and the accelerator: driver, runtime, what the chip can do."""

from __future__ import annotations

from relforge.serving.diagnosis.model import KnownCause, patterns

CAUSES: tuple[KnownCause, ...] = (
    KnownCause(
        id="driver-too-old",
        explanation="the host's driver is older than the SDK in the image needs",
        remedy="update the driver of the host, or build on an older SDK (release: stack; device "
        "manifest: stacks.base)",
        field="stack",
        seen=(
            "https://github.com/SYSTRAN/faster-whisper/issues/1278",
            "https://github.com/vllm-project/vllm/issues/5635",
            "https://github.com/zai-org/ChatGLM3/issues/100",
        ),
        patterns=patterns(
            r"CUDA driver version is insufficient for CUDA runtime version",
            r"driver on your system is too old \(found version (?P<version>\d{1,8})",
            r"requirement error: unsatisfied condition: (?P<needed>[a-z]{2,12}>=[\d.]{1,10})",
        ),
    ),
    KnownCause(
        id="driver-mismatch",
        explanation="the driver's kernel module and its libraries in the container are of "
        "different versions, or of different vendors",
        remedy="reboot the host, or reload the driver, after an update of it; build on the SDK "
        "that belongs to the driver (release: stack)",
        field="stack",
        seen=(
            "https://github.com/gpustack/gpustack/issues/3686",
            "https://github.com/mozilla/translations/issues/1167",
        ),
        patterns=patterns(
            r"Driver/library version mismatch",
            r"unsupported display driver / cuda driver combination",
        ),
    ),
    KnownCause(
        id="kernels-for-another-chip",
        explanation="the image's kernels were not compiled for this accelerator",
        remedy="compile them for it (build.packages.native: compiled, build.packages.env: "
        "TORCH_CUDA_ARCH_LIST), or take wheels that carry it (sources)",
        field="build.packages.env",
        seen=(
            "https://github.com/vllm-project/vllm/issues/16307",
            "https://github.com/vllm-project/vllm/issues/14452",
        ),
        patterns=patterns(r"no kernel image is available for execution on the device"),
    ),
    KnownCause(
        id="no-accelerator",
        explanation="the server sees no accelerator in its container",
        remedy="take a launch profile that hands it in (serve.profile), and see on the host "
        "whether the driver works: relforge doctor --device",
        field="serve.profile",
        seen=(
            "https://github.com/vllm-project/vllm/issues/13946",
            "https://github.com/vllm-project/vllm/issues/14413",
        ),
        patterns=patterns(
            r"Failed to infer device type",
            r"No CUDA GPUs are available",
            r"no CUDA-capable device is detected",
            r"No device were detected",
        ),
    ),
    KnownCause(
        id="too-few-accelerators",
        explanation="more accelerators are asked for than the container has",
        remedy="lower serve.tensor_parallel, or hand in more devices (device manifest: "
        "launch_profiles)",
        field="serve.tensor_parallel",
        seen=("https://github.com/vllm-project/vllm/issues/8984",),
        patterns=patterns(r"CUDA error: invalid device ordinal"),
    ),
    KnownCause(
        id="npu-start-failed",
        explanation="the Ascend runtime could not start the NPU: it is held by another container, "
        "or driver and CANN do not fit",
        remedy="see with npu-smi info on the host who holds the device; compare the host's driver "
        "with the CANN of the image (release: stack)",
        field="stack",
        seen=(
            "https://github.com/vllm-project/vllm-ascend/issues/4284",
            "https://github.com/vllm-project/vllm-ascend/issues/2698",
            "https://github.com/PaddlePaddle/Paddle/issues/72458",
        ),
        patterns=patterns(
            r"SetDevice\(device_id_\), error code is (?P<code>\d{1,8})",
            r"dcmi module initialize failed\. ret is (?P<code>-?\d{1,6})",
            r"Call aclInit\(nullptr\) failed : (?P<code>\d{1,8})",
        ),
    ),
    KnownCause(
        id="device-before-fork",
        explanation="a worker was forked from a process that had opened the accelerator already",
        remedy="set serve.env.VLLM_WORKER_MULTIPROC_METHOD to spawn",
        field="serve.env.VLLM_WORKER_MULTIPROC_METHOD",
        seen=("https://github.com/vllm-project/vllm/issues/7151",),
        patterns=patterns(r"Cannot re-initialize (CUDA|NPU|MUSA) in forked subprocess"),
    ),
    KnownCause(
        id="quantization-dtype",
        explanation="the weights' quantization does not work with this number format",
        remedy="set serve.args.dtype to one that the line names, or leave it out",
        field="serve.args.dtype",
        seen=("tests/e2e/test_real_causes.py::test_a_number_format_without_its_quantization",),
        patterns=patterns(
            r"(?P<dtype>torch\.\w{1,20}) is not supported for quantization method [\w-]{1,40}\. "
            r"Supported dtypes: \[torch\.(?P<supported>\w{1,20})",
        ),
    ),
    KnownCause(
        id="dtype-unsupported",
        explanation="the accelerator cannot compute in the number format of the weights",
        remedy="set serve.args.dtype to float16",
        field="serve.args.dtype",
        seen=("https://github.com/substratusai/vllm-docker/issues/37",),
        patterns=patterns(
            r"(?P<dtype>bfloat16) is only supported on GPUs with compute capability",
            r"(?P<dtype>(torch\.)?(bfloat16|float16|float8\w{0,12})) is not supported "
            r"(on|for|by) (this|the current|\w{1,20} )?\s?(device|GPU|NPU|platform|CPU)",
        ),
    ),
    KnownCause(
        id="quantization-unsupported",
        explanation="the accelerator has no kernels for the weights' quantization",
        remedy="serve weights quantized otherwise (model), or choose another kernel for them "
        "(serve.args.quantization)",
        field="model",
        seen=(
            "https://github.com/vllm-project/vllm/issues/4327",
            "https://github.com/vllm-project/vllm/issues/14040",
        ),
        patterns=patterns(
            r"quantization method (?P<method>[\w-]{1,40}) is not supported for the current GPU",
            r"Quantization scheme is not supported for",
        ),
    ),
)
