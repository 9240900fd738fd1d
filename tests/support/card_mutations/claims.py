"""Statements that the card itself contradicts."""

from __future__ import annotations

import re

from tests.support.card_mutations import Mutation, appended, replaced_all
from tests.support.card_mutations.parts import OF_A_MODEL, SERVES, block, where


def _other_tag(text: str) -> str | None:
    image = re.search(r"registry\.example\.org/[\w/-]+/([\w-]+):[\w.]+@", text)
    return appended(f"The results are those of `{image[1]}:0.0.1`.\n")(text) if image else None


def _many_devices(match: re.Match[str]) -> str:
    return f"--tensor-parallel-size {int(match[1]) * 4}"


_MODELS = "".join(f"| lab-x/Model-{n}B |\n" for n in range(1, 6))
_AT_LEAST = block("bash", 'pip install "tessera>=1.4.2"')
_NINTH = block("python", 'load("lab-x/Model-9B")')

MUTATIONS = (
    Mutation("claims-count", "a word", appended("It has three parts:\n\n- one\n- two\n")),
    Mutation("claims-count", "Chinese", appended("包含三个部分\uff1a\n\n- 镜像\n- 命令\n")),
    Mutation("claims-numbering", "a gap", appended("1. Read\n3. Write\n")),
    Mutation("claims-numbering", "within", appended("- Do:\n  1. Read\n  2. Write\n  4. Rest\n")),
    Mutation(
        "claims-uncounted-share",
        "about",
        where(SERVES, appended("About 70% of the kernels are written in Triton.\n")),
    ),
    Mutation(
        "claims-by-request",
        "image",
        where("docker pull", appended("The image is given out by e-mail.\n")),
    ),
    Mutation(
        "claims-by-request",
        "weights",
        where(r"(?:hf|modelscope) download", appended("Weights are available on request.\n")),
    ),
    Mutation(
        "claims-comment",
        "requests",
        appended(block("yaml", "max_num_seqs: 256  # 8 concurrent requests fit")),
    ),
    Mutation(
        "claims-comment",
        "devices",
        appended(block("yaml", "tensor_parallel_size: 4  # all 8 devices of the machine")),
    ),
    Mutation(
        "claims-superlative",
        "performance",
        where(SERVES, appended("## Outlook\n\nIt shows excellent performance.\n")),
    ),
    Mutation(
        "claims-setting",
        "larger",
        where(
            r"--max-model-len \d", appended("Set `--max-model-len` to at least 1000000.\n")
        ),
    ),
    Mutation(
        "claims-folder",
        "elsewhere",
        where(SERVES, appended("Download the weights to /mnt/elsewhere first.\n")),
    ),
    Mutation(
        "claims-devices",
        "four times as many ranks",
        where("--device /dev/", replaced_all(r"--tensor-parallel-size (\d+)", _many_devices)),
    ),
    Mutation("claims-version", "another tag", where(SERVES, _other_tag)),
    Mutation(
        "claims-version",
        "a range",
        where(
            OF_A_MODEL,
            appended("Made for tessera v1.4.2.\n\n" + _AT_LEAST),
        ),
    ),
    Mutation(
        "claims-version",
        "main branch",
        where(
            OF_A_MODEL,
            appended(
                "Takes the tessera main branch.\n\n"
                + block(
                    "bash",
                    "git clone https://github.com/example-lab/tessera.git\n"
                    "git -C tessera checkout 5b0e1f9a7c3d2e4f6a8b9c0d1e2f3a4b5c6d7e8f",
                )
            ),
        ),
    ),
    Mutation(
        "claims-variants",
        "memory",
        where(
            OF_A_MODEL,
            appended(
                block("bash", "vllm serve /weights --gpu-memory-utilization 0.9")
                + "\n"
                + block("bash", "vllm serve /weights --gpu-memory-utilization 0.8")
            ),
        ),
    ),
    Mutation(
        "claims-unlisted-model",
        "a sixth one",
        appended("| Models |\n|---|\n" + _MODELS + "\n" + _NINTH),
    ),
)  # fmt: skip
