"""What five published pages tell people to type, row by row, and where the launch has it.

Each row is (as the page has it, where, what is looked for there). ``where`` is:

- ``argv``, ``env``: of every node's ``docker run`` command; ``argv@1``: of the second node's alone;
  ``not argv@1``: it must not be there
- ``script``: the text of files and scripts that the container gets
- ``client``: what ``relforge serve --print client`` prints
- ``local dynamic``, ``local export``, ``local static``: the same for inference without a server
- ``manifest``: PATH=VALUE in the release's manifest
- ``deviates``: the manifest lists it with a reason
"""

from __future__ import annotations

from collections.abc import Sequence

Row = tuple[str, str, str]

_32_GIB = "34359738368"


def _each(where: str, rows: dict[str, str]) -> list[Row]:
    return [(page, where, wanted) for page, wanted in rows.items()]


def _as_it_is(where: str, *texts: str) -> list[Row]:
    return [(text, where, text) for text in texts]


def _deviating(*texts: str) -> list[Row]:
    return [(text, "deviates", text) for text in texts]


ILUVATAR: list[Row] = [
    ("docker run --shm-size=32g", "argv", f"--shm-size {_32_GIB}"),
    ("git checkout ae859257", "manifest", "sources/flagscale/commit="
     "ae85925798358d95050773dfa66680efdb0c2b28"),
    ("unpatch --device-type bi_V150", "manifest", "device=bi_V150"),
    ("unpatch --commit-id 758e33e0", "manifest", "patches/0/path="
     "hardware/bi_V150/758e33e0/758e33e0.patch.encrypted"),
    ("the patch file", "manifest", "patches/0/sha256="
     "660e545f2d367ee598f59d4ad07648a9752b5957f40b053c65494ad9f1cff324"),
    ("cd FlagScale/vllm", "manifest", "build/packages/0/native/folder=vllm"),
    ("bash clean_vllm.sh", "manifest", "build/packages/0/native/commands/0/1=clean_vllm.sh"),
    ("bash build_vllm.sh", "manifest", "build/packages/0/native/commands/1/1=build_vllm.sh"),
    ("bash install_vllm.sh", "manifest", "build/packages/0/native/commands/2/1=install_vllm.sh"),
    ("max-num-seqs: 4", "script", '"max_num_seqs": 4'),
    ("flagscale serve deepseek_r1_int4", "script", "flagscale serve deepseek_r1_int4 "),
    ("config_deepseek_r1_int4.yaml", "script", "conf/config_deepseek_r1_int4.yaml"),
    ("serve/deepseek_r1_int4.yaml", "script", "conf/serve/deepseek_r1_int4.yaml"),
    ("USE_FLAGGEMS", "env", "USE_FLAGGEMS=1"),
    *_deviating(
        "docker pull baai_v4",
        "modelscope download --model deepseek-ai/DeepSeek-R1 --local_dir /nfs/DeepSeek-R1",
        "-v /dev:/dev", "-v /usr/src/:/usr/src", "-v /lib/modules:/lib/modules",
        "-v /home:/home", "-v /nfs:/nfs", "-v /mnt/share/:/data1", "--privileged",
        "--cap-add=ALL", "--pid=host", "--net=host", "--name baai_v4",
        "git clone https://ghfast.top/https://github.com/FlagOpen/FlagScale.git",
        "--dir build", "hostfile.txt", "pip install .",
    ),
]  # fmt: skip

KUNLUNXIN: list[Row] = [
    *[(f"--device=/dev/xpu{n}", "argv", f"--device /dev/xpu{n}") for n in range(8)],
    ("--device=/dev/xpuctrl", "argv", "--device /dev/xpuctrl"),
    ("--net=host", "argv", "--network host"),
    ("--uts=host", "argv", "--uts host"),
    ("--cap-add=SYS_PTRACE", "argv", "--cap-add SYS_PTRACE"),
    ("--security-opt seccomp=unconfined", "argv", "--security-opt seccomp=unconfined"),
    ("--tmpfs /dev/shm:rw,nosuid,nodev,exec,size=64g", "argv",
     "--tmpfs /dev/shm:rw,nosuid,nodev,exec,size=68719476736"),
    ("-w /workspace", "argv", "--workdir /workspace"),
    *_as_it_is(
        "env", "CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7", "XPU_FORCE_SHARED_DEVICE_CONTEXT=1",
        "BKCL_ENABLE_XDR=1", "BKCL_USE_RDMA=1", "BKCL_RDMA_FORCE_TREE=1", "BKCL_TREE_THRESHOLD=0",
        "BKCL_FORCE_L3_RDMA=0", "BKCL_RDMA_NICS=eth1,eth1,eth2,eth2,eth3,eth3,eth4,eth4",
        "BKCL_SOCKET_IFNAME=eth0", "GLOO_SOCKET_IFNAME=eth0", "USE_FLAGGEMS=1",
        "GEMS_VENDOR=kunlunxin",
    ),
    ("Verifiable on four machine", "manifest", "serve/nodes=4"),
    *_deviating(
        "docker pull iregistry.baidu-int.com/xmlir/xmlir_ubuntu_2004_x86_64:"
        "Flagrelease-DeepSeek-R1",
        "--privileged", "--ipc=host", "-v /ssd1/:/ssd1/", "-v /ssd2/:/ssd2/", "-v /ssd3/:/ssd3/",
        "-v /ssd4/:/ssd4/", "-v /share/:/share/", "--name Flagrelease-Kunlunxin", "/bin/bash",
        "flagscale serve deepseek_r1",
    ),
]  # fmt: skip

NVIDIA: list[Row] = [
    ("docker run --gpus all", "argv", "--gpus all"),
    ("--ulimit memlock=-1", "argv", "--ulimit memlock=-1"),
    ("the image", "manifest", "stack=flagrelease2025.04"),
    ("pip install . (FlagGems)", "manifest", "build/packages/0/distribution=flag_gems"),
    ("pip install . (FlagScale)", "manifest", "build/packages/1/distribution=flag_scale"),
    *_as_it_is(
        "script", "- _self_", "serve: deepseek_r1_distill_qwen_32b",
        "exp_name: deepseek_r1_distill_qwen_32b", "type: serve", "use_fs_serve: false",
        "ssh_port: 22", "source /root/miniconda3/bin/activate flagscale-inference", "action: run",
        "dir: ${experiment.exp_dir}/hydra", "serve_id: vllm_model", "engine: vllm",
        "served_model_name: deepseek-r1-distill-qwen-32b-flagos", "tensor_parallel_size: 8",
        "max_model_len: 32768", "pipeline_parallel_size: 1", "max_num_seqs: 256",
        "gpu_memory_utilization: 0.9", "port: 9010", "trust_remote_code: true",
        "enforce_eager: true", "enable_chunked_prefill: true",
        "flagscale serve deepseek_r1_distill_qwen_32b ",
    ),
    ("CUDA_DEVICE_MAX_CONNECTIONS: 1", "env", "CUDA_DEVICE_MAX_CONNECTIONS=1"),
    ("export USE_FLAGGEMS=1", "env", "USE_FLAGGEMS=1"),
    ("the weights' path, served", "script", "model: /models/deepseek-r1-distill-qwen-32b"),
    ("the weights' path, mounted", "argv", "target=/models/deepseek-r1-distill-qwen-32b,readonly"),
    *_deviating(
        "--privileged", "--net=host", "--ipc=host", "--device=/dev/infiniband", "--shm-size 512g",
        "--name flagrelease_nv",
        "-v /nfs/DeepSeek-R1-Distill-Qwen-32B:/nfs/DeepSeek-R1-Distill-Qwen-32B",
        "model: /models/DeepSeek-R1-Distill-Qwen-32B", "conda activate flagscale-inference",
        "git clone https://github.com/FlagOpen/FlagGems.git", "/bin/bash",
    ),
]  # fmt: skip


def ascend(*, nodes: int, max_model_len: int) -> list[Row]:
    """The page of vllm-ascend: one node of A3, or two of A2; for throughput or accuracy."""
    a3 = nodes == 1
    rows: list[Row] = [
        ("--net=host", "argv", "--network host"),
        ("--shm-size=1g", "argv", "--shm-size 1073741824"),
        *[
            (f"--device /dev/davinci{n}", "argv", f"--device /dev/davinci{n}")
            for n in range(16 if a3 else 8)
        ],
        *_as_it_is(
            "argv", "--device /dev/davinci_manager", "--device /dev/devmm_svm",
            "--device /dev/hisi_hdc",
        ),
        *[
            (f"-v {path}:{path}", "argv", f"source={path.rstrip('/')},target={path.rstrip('/')}")
            for path in (
                "/usr/local/dcmi", "/etc/hccn.conf", "/usr/bin/hccn_tool",
                "/usr/local/Ascend/driver/tools/hccn_tool", "/usr/local/bin/npu-smi",
                "/usr/local/Ascend/driver/lib64/", "/usr/local/Ascend/driver/version.info",
                "/etc/ascend_install.info",
            )
        ],
        *_as_it_is("env", "HCCL_OP_EXPANSION_MODE=AIV", "VLLM_ASCEND_ENABLE_MLAPO=1",
                   "VLLM_ASCEND_BALANCE_SCHEDULING=1"),
        ("export HCCL_IF_IP=$local_ip", "env@0", "HCCL_IF_IP=10.0.0.1"),
        *_each("env", {
            f"export {name}=$nic_name": f"{name}=eth0"
            for name in ("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME")
        }),
        *_as_it_is(
            "argv", "--host 0.0.0.0", "--port 8000", "--data-parallel-size 4",
            "--tensor-parallel-size 4", "--quantization ascend", "--seed 1024",
            "--served-model-name deepseek_r1", "--enable-expert-parallel", "--async-scheduling",
            "--max-num-seqs 16", "--max-num-batched-tokens 4096", "--trust-remote-code",
            f"--gpu-memory-utilization {0.92 if a3 else 0.94}", f"--max-model-len {max_model_len}",
        ),
        ("--speculative-config", "argv", "--speculative-config "
         f'{{"method":"mtp","num_speculative_tokens":{3 if a3 else 1}}}'),
        ("--compilation-config", "argv", '--compilation-config {"cudagraph_capture_sizes":'
         '[4,16,32,48,64],"cudagraph_mode":"FULL_DECODE_ONLY"}'),
        ("curl /v1/completions", "client", "http://10.0.0.1:8000/v1/completions"),
        ("the request", "client", '"prompt": "The future of AI is", "max_tokens": 50, '
         '"temperature": 0}'),
        *_as_it_is(
            "client", "--model local-completions", "tokenized_requests=False",
            "trust_remote_code=True", "--tasks gsm8k", "--output_path ./", "--dataset-name random",
            "--request-rate 1", "--save-result", "--result-dir ./",
        ),
        ("lm_eval, the model's name", "client", "--model_args model=deepseek_r1,"),
        ("--random-input 200", "client", "--random-input-len 200"),
        ("--num-prompt 200", "client", "--num-prompts 200"),
        *_deviating(
            "m.daocloud.io/quay.io/ascend/vllm-ascend:|vllm_ascend_version|",
            "export VLLM_USE_MODELSCOPE=True", "--name vllm-ascend", "bash",
            "--no-enable-prefix-caching",
            f"--max-model-len {35000 if max_model_len == 16384 else 16384}",
        ),
    ]  # fmt: skip
    if a3:
        return rows
    return [
        *rows,
        *_as_it_is("env", "PYTORCH_NPU_ALLOC_CONF=expandable_segments:True",
                   "HCCL_INTRA_PCIE_ENABLE=1", "HCCL_INTRA_ROCE_ENABLE=0"),
        ("export HCCL_IF_IP=$local_ip, node 1", "env@1", "HCCL_IF_IP=10.0.0.2"),
        *_as_it_is("argv", "--data-parallel-size-local 2", "--data-parallel-rpc-port 13389"),
        ("--data-parallel-address", "argv", "--data-parallel-address 10.0.0.1"),
        ("--headless, node 0", "not argv@0", "--headless"),
        ("--headless, node 1", "argv@1", "--headless"),
        ("--data-parallel-start-rank, node 1", "argv@1", "--data-parallel-start-rank 2"),
    ]  # fmt: skip


def paddle(
    graph: str, *, ranks: int, nodes: int = 1, mtp: bool = False, local: Sequence[Row] = ()
) -> list[Row]:
    """PaddleNLP's one-click service with a static graph."""
    per_node = ",".join(str(n) for n in range(ranks // nodes))
    rows: list[Row] = [
        ("docker run --gpus all", "argv", "--gpus all"),
        ("--shm-size 32G", "argv", f"--shm-size {_32_GIB}"),
        ("--network=host", "argv", "--network host"),
        ("--cap-add=SYS_PTRACE", "argv", "--cap-add SYS_PTRACE"),
        ("-v $MODEL_PATH:/models", "argv", ",target=/models"),
        ("the image", "manifest", "build/image/registry/reference=ccr-2vdh3abv-pub.cnc.bj."
         "baidubce.com/paddlepaddle/paddlenlp:llm-serving-cuda124-cudnn9-v2.1"),
        ("-e model_name", "env", f"model_name={graph}"),
        ("export CUDA_VISIBLE_DEVICES", "env", f"CUDA_VISIBLE_DEVICES={per_node}"),
        ("export MP_NUM", "env", f"MP_NUM={ranks}"),
        ("start_server $model_name", "argv", f"start {graph}"),
        ("start_server", "script", 'start_server "$@"'),
        ("SERVICE_HTTP_PORT 9965", "env", "SERVICE_HTTP_PORT=9965"),
        ("curl ${ip}:9965/v1/chat/completions", "client",
         "http://10.0.0.1:9965/v1/chat/completions"),
        ("the request", "client",
         '"model": "default", "messages": [{"role": "user", "content": "Hello, how are you?"}]'),
        ("openai.Client(base_url", "client", 'base_url="http://10.0.0.1:9965/v1"'),
        ("completions.create, 50 tokens", "client", "prompt='Hello, how are you?', max_tokens=50)"),
        ("completions.create, streamed", "client", "max_tokens=100, stream=True"),
        *_deviating("--gpus all --privileged", "-dit",
                    "export MODEL_PATH=${MODEL_PATH:-$PWD}"),
    ]  # fmt: skip
    if mtp:
        rows += _deviating("speculative_decoding.md")
    if nodes > 1:
        rows += [
            ("export MP_NNODE", "env", f"MP_NNODE={nodes}"),
            ("export POD_0_IP", "env", "POD_0_IP=10.0.0.1"),
            ("export POD_IPS", "env", "POD_IPS=10.0.0.1,10.0.0.2"),
            *_deviating("ping 192.168.0.1"),
        ]
    if local:
        rows += [*local, *_deviating("cd llm", "OUTPUT_PATH=/path/to/exported_model")]
    return rows


def paddle_local(
    quantization: str, *, nodes: int, mla: bool, block: str = ""
) -> list[Row]:  # fmt: skip
    """Its inference without a server, in three steps."""
    rows: list[Row] = []
    for step in ("dynamic", "export", "static"):
        where = f"local {step}"
        script = "export_model.py" if step == "export" else "predictor.py"
        rows.append((f"{step}: {script}", where, f"/PaddleNLP/llm/predict/{script} "))
        rows += [
            (f"{step}: {words}", where, words)
            for words in (
                "--dtype bfloat16", "--inference_model 1", "--append_attn 1",
                *(() if step == "export" else (f"--mode {step}",)),
                *(("--mla_use_matrix_absorption 1", "--total_max_length 8192") if mla else ()),
                *(("--max_length 4096",) if mla and step != "export" else ()),
                *((f"--quant_type {quantization}",) if mla or step != "static" else ()),
                *((f"--weight_block_size {block}",) if block else ()),
                *(("-m paddle.distributed.launch --gpus 0,1,2,3,4,5,6,7 ",) if mla else ()),
                *(("--ips 10.0.0.1,10.0.0.2",) if nodes > 1 else ()),
                *(("--output_path /exported",) if step == "export" else ()),
                *(("--model_name_or_path /exported",) if step == "static" else ()),
            )
        ]  # fmt: skip
        if mla and step != "export":
            rows += [
                (f"{step}: {pair}", where, f"--env {pair}")
                for pair in (
                    "FLAGS_mla_use_tensorcore=1",
                    "FLAGS_cascade_attention_max_partition_size=8192",
                )
            ]
    return rows


VLLM: list[Row] = [
    ("VLLM_COMMIT", "manifest", "sources/vllm/commit=1253b1577408f7981d11495b1fda71cbcbe48dc4"),
    *_as_it_is("env", "VLLM_USE_FLASHINFER_SAMPLER=1", "VLLM_USE_V1=1",
               "VLLM_ATTENTION_BACKEND=FLASHMLA"),
    *_as_it_is("argv@0", "--tensor-parallel-size 16", "--trust-remote-code", "--max-num-seqs 256",
               "--max-model-len 4096", "--max-seq-len-to-capture 256", "--enforce-eager",
               "--disable-log-requests"),
    ("the second node", "argv@1", "start --address=10.0.0.1:29550 --block"),
    *_deviating("python3 setup.py bdsit_wheel", "vllm serve deepseek-ai/DeepSeek-R1",
                "bash run_benchmark_client.sh vllm"),
]  # fmt: skip

SGLANG: list[Row] = [
    ("the version", "manifest", "build/python/requirements/0=sglang[all]==0.4.3.post4"),
    ("python3 -m sglang.launch_server", "argv", "python3"),
    ("-m sglang.launch_server", "argv", "-m sglang.launch_server"),
    ("--tp 16", "argv", "--tp-size 16"),
    ("--dist-init-addr $IP", "argv", "--dist-init-addr 10.0.0.1:29550"),
    ("--node-rank 0", "argv@0", "--node-rank 0"),
    ("the second node", "argv@1", "--node-rank 1"),
    *_as_it_is("argv", "--nnodes 2", "--trust-remote-code", "--host 0.0.0.0", "--port 40000",
               "--enable-torch-compile", "--torch-compile-max-bs 256", "--disable-cuda-graph",
               "--quantization fp8", "--enable-flashinfer-mla"),
    *_deviating("sglang[all]>=0.4.3.post4", "--model-path deepseek-ai/DeepSeek-R1",
                "bash run_benchmark_client.sh sglang"),
]  # fmt: skip

_R1 = "deepseek-ai/DeepSeek-R1"

RELEASES: dict[str, list[Row]] = {
    "deepseek-r1-int4-bi_V150": ILUVATAR,
    "deepseek-r1-int8-kunlunxin": KUNLUNXIN,
    "deepseek-r1-distill-qwen-32b-nvidia_h100": NVIDIA,
    "deepseek-r1-w8a8-ascend_a3-throughput": ascend(nodes=1, max_model_len=16384),
    "deepseek-r1-w8a8-ascend_a3-accuracy": ascend(nodes=1, max_model_len=35000),
    "deepseek-r1-w8a8-ascend_a2-throughput": ascend(nodes=2, max_model_len=16384),
    "deepseek-r1-w8a8-ascend_a2-accuracy": ascend(nodes=2, max_model_len=35000),
    "deepseek-r1-wint4-nvidia_h100": paddle(
        f"{_R1}/weight_only_int4",
        ranks=8,
        local=[
            *paddle_local("weight_only_int4", nodes=1, mla=True),
            ("MODEL_TAG", "local dynamic", f"--model_name_or_path {_R1} "),
        ],
    ),
    "deepseek-r1-wint4-nvidia_h100-mtp": paddle(f"{_R1}-MTP/weight_only_int4", ranks=8, mtp=True),
    "deepseek-r1-wint8-nvidia_h100": paddle(
        f"{_R1}-2nodes/weight_only_int8",
        ranks=16,
        nodes=2,
        local=paddle_local("weight_only_int8", nodes=2, mla=True),
    ),
    "deepseek-r1-wint8-nvidia_h100-mtp": paddle(
        f"{_R1}-MTP-2nodes/weight_only_int8", ranks=16, nodes=2, mtp=True
    ),
    "deepseek-r1-a8w8-fp8-nvidia_h100": [
        *paddle(
            f"{_R1}-2nodes/a8w8_fp8",
            ranks=16,
            nodes=2,
            local=paddle_local("a8w8_fp8", nodes=2, mla=True, block="128 128"),
        ),
        *_deviating("MODEL_TAG=deepseek-ai/DeepSeek-R1-FP8"),
    ],
    "deepseek-r1-a8w8-fp8-nvidia_h100-mtp": paddle(
        f"{_R1}-MTP-2nodes/a8w8_fp8", ranks=16, nodes=2, mtp=True
    ),
    "deepseek-r1-distill-qwen-14b-wint8-nvidia_h100": [
        *paddle(
            f"{_R1}-Distill-Qwen-14B/weight_only_int8",
            ranks=1,
            local=paddle_local("weight_only_int8", nodes=1, mla=False),
        ),
        *_deviating("bash start_server.sh $model_name"),
    ],
    "deepseek-r1-nvidia_h100-vllm": VLLM,
    "deepseek-r1-nvidia_h100-sglang": SGLANG,
}

# Model, precision, MTP, nodes, and the name under which PaddleNLP hands the graph out.
STATIC_GRAPHS: list[tuple[str, str, bool | None, int | None, str]] = [
    ("deepseek-r1-wint4", "weight_only_int4", False, 1, f"{_R1}/weight_only_int4"),
    ("deepseek-r1-wint4", "weight_only_int4", True, 1, f"{_R1}-MTP/weight_only_int4"),
    ("deepseek-r1-a8w8-fp8-wint4", "a8w8_fp8_wint4", False, 1, f"{_R1}/a8w8_fp8_wint4"),
    ("deepseek-r1-a8w8-fp8-wint4", "a8w8_fp8_wint4", True, 1, f"{_R1}-MTP/a8w8_fp8_wint4"),
    ("deepseek-r1-wint8", "weight_only_int8", False, 2, f"{_R1}-2nodes/weight_only_int8"),
    ("deepseek-r1-wint8", "weight_only_int8", True, 2, f"{_R1}-MTP-2nodes/weight_only_int8"),
    ("deepseek-r1-a8w8-fp8", "a8w8_fp8", False, 2, f"{_R1}-2nodes/a8w8_fp8"),
    ("deepseek-r1-a8w8-fp8", "a8w8_fp8", True, 2, f"{_R1}-MTP-2nodes/a8w8_fp8"),
    *[
        (
            f"deepseek-r1-distill-{size.lower()}-wint8",
            "weight_only_int8",
            None,
            None,
            f"{_R1}-Distill-{size}/weight_only_int8",
        )
        for size in ("Qwen-1.5B", "Qwen-7B", "Qwen-14B", "Qwen-32B", "Llama-8B", "Llama-70B")
    ],
]

# Task and value as the pages report them: of the deployment, and of what it is compared with.
REPORTED: dict[str, dict[str, float]] = {
    "release deepseek-r1-int4-bi_V150": {
        "GSM8K": 95.07, "MMLU": 85.02, "C-Eval": 88.78, "AIME 2024": 76.67,
        "GPQA-Diamond": 69.7, "MATH-500": 94.2,
    },
    "release deepseek-r1-int8-kunlunxin": {
        "GSM8K": 95.38, "MMLU": 84.80, "C-Eval": 88.86, "AIME 2024": 76.67,
        "GPQA-Diamond": 72.73, "MATH-500": 94.20,
    },
    "reference deepseek-r1-nvidia_h100-cuda": {
        "GSM8K": 95.75, "MMLU": 85.34, "C-Eval": 89.00, "AIME 2024": 76.67,
        "GPQA-Diamond": 70.20, "MATH-500": 93.20,
    },
    "release deepseek-r1-distill-qwen-32b-nvidia_h100": {
        "GSM8K": 87.79, "MMLU": 79.35, "C-Eval": 83.21, "AIME 2024": 73.33,
        "GPQA-Diamond": 59.60, "MATH-500": 92.00,
    },
    "reference deepseek-r1-distill-qwen-32b-nvidia_h100-cuda": {
        "GSM8K": 87.64, "MMLU": 79.33, "C-Eval": 83.43, "AIME 2024": 73.33,
        "GPQA-Diamond": 59.60, "MATH-500": 92.80,
    },
    "release deepseek-r1-w8a8-ascend_a3-accuracy": {"AIME 2024": 80.00, "GPQA": 72.22},
    "release deepseek-r1-w8a8-ascend_a2-accuracy": {"AIME 2024": 80.00, "GPQA": 72.22},
}  # fmt: skip
