"""Causes that lie between processes and hosts: collectives, clusters, hubs."""

from __future__ import annotations

from relforge.serving.diagnosis.model import KnownCause, patterns

CAUSES: tuple[KnownCause, ...] = (
    KnownCause(
        id="hub-access-denied",
        explanation="the hub refuses the model: it is gated or private, and the server has no "
        "token for it",
        remedy="let relforge fetch the weights (model.weights) and serve them from the mounted "
        "folder (serve.model_path), instead of naming a model of the hub",
        field="serve.model_path",
        seen=(
            "https://github.com/McGill-NLP/llm2vec/issues/130",
            "https://github.com/huggingface/optimum-neuron/issues/535",
        ),
        patterns=patterns(
            r"Cannot access gated repo for url (?P<url>https?://\S{1,200})",
            r"You are trying to access a gated repo",
            r"(GatedRepoError|RepositoryNotFoundError): 40[13] Client Error",
        ),
    ),
    KnownCause(
        id="hub-unreachable",
        explanation="the server looks for files on a model hub, and none is reachable from the "
        "container",
        remedy="name the mounted folder, not a model of the hub (serve.model_path, serve.args); "
        "what the folder lacks belongs in model.weights",
        field="serve.model_path",
        seen=(
            "tests/e2e/test_real_causes.py::test_a_hub_that_cannot_be_reached",
            "https://github.com/vllm-project/vllm/issues/1432",
            "https://github.com/modelscope/modelscope/issues/924",
            "https://github.com/flagos-ai/vllm-plugin-FL/issues/185",
            "https://github.com/vllm-project/vllm/issues/3719",
        ),
        patterns=patterns(
            r"couldn'?t connect to 'https://(?P<name>[\w.-]{1,80})' to load",
            r"Cannot reach (?P<url>https?://\S{1,200}): offline mode is enabled",
            r"host='(?P<name>(www\.)?(huggingface\.co|hf-mirror\.com|modelscope\.cn))', "
            r"port=\d{1,5}\): (Max retries|Read timed out)",
            r"cannot find the requested files in the (local|disk) cache",
            r"\bLocalEntryNotFoundError\b",
            r"\bOfflineModeIsEnabled\b",
        ),
    ),
    KnownCause(
        id="collective-failed",
        explanation="the processes of the server could not set up their communication (NCCL, HCCL, "
        "XCCL)",
        remedy="raise serve.shm_bytes, name the network interface (serve.env: NCCL_SOCKET_IFNAME, "
        "HCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME: '{interface}'), and see that the nodes reach each "
        "other (relforge serve does)",
        field="serve.env.NCCL_SOCKET_IFNAME",
        seen=(
            "https://github.com/vllm-project/vllm/issues/7800",
            "https://github.com/vllm-project/vllm-ascend/issues/2712",
            "https://github.com/vllm-project/vllm-ascend/issues/486",
            "https://github.com/baidu/vLLM-Kunlun/issues/382",
        ),
        patterns=patterns(
            r"NCCL error( in)?: (?P<name>[^,(]{1,80})",
            r"\bncclSystemError\b",
            r"\bncclUnhandledCudaError\b",
            r"\bncclInternalError\b",
            r"\bncclRemoteError\b",
            r"\bncclInvalidUsage\b",
            r"HCCL function error: ?(?P<name>\w{1,60})",
            r"\bHcclCommInitRootInfo failed",
            r"\bEI0006: .{0,80}Getting socket times out",
            r"\[XCCL\].{0,120}(check failed|not properly set)",
        ),
    ),
    KnownCause(
        id="ray-lacks-resources",
        explanation="the Ray cluster has fewer accelerators than the server asks for, or its nodes "
        "have joined under other addresses",
        remedy="lower serve.tensor_parallel and serve.pipeline_parallel, see with ray status which "
        "nodes have joined, and give each its address (serve.env.VLLM_HOST_IP: '{address}')",
        field="serve.env.VLLM_HOST_IP",
        seen=(
            "https://github.com/rllm-org/rllm/issues/35",
            "https://github.com/VITA-MLLM/VITA/issues/42",
            "https://github.com/vllm-project/vllm/issues/14111",
        ),
        patterns=patterns(
            r"No available node types can fulfill resource request (?P<needed>.{1,120})",
            r"number of required \w{2,6} exceeds the total number of available",
        ),
    ),
    KnownCause(
        id="rendezvous-timeout",
        explanation="not all processes of the server came together in time",
        remedy="see in the logs of the other nodes why they did not come; they meet on "
        "serve.rendezvous_port of the first node",
        field="serve.rendezvous_port",
        seen=(
            "https://github.com/xorbitsai/inference/issues/2486",
            "https://github.com/vllm-project/vllm/issues/19670",
            "https://github.com/vllm-project/vllm/issues/52907",
        ),
        patterns=patterns(
            r"DistStoreError: Timed out after (?P<seconds>\d{1,6}) seconds waiting for clients\. "
            r"(?P<joined>\d{1,4}/\d{1,4}) clients joined",
            r"DistStoreError: wait timeout after \d{1,9}ms",
            r"client socket has timed out after \d{1,9}ms while trying to connect to "
            r"\((?P<address>[^)]{1,80})\)",
        ),
        kind="symptom",
    ),
)
