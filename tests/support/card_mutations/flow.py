"""Steps that do not go on from each other."""

from __future__ import annotations

import re

from tests.support.card_mutations import Mutation, replaced, replaced_all


def _unnamed(text: str) -> str | None:
    if text.count("docker run") != 1:
        return None
    match = re.search(r"^(docker run .*)--name (\S+) ((?:.*\\\n)*.*\n)", text, re.M)
    if match is None or match[2].startswith("$"):
        return None
    more = "" if "docker exec" in text else f"docker logs {match[2]}\n"
    return text[: match.start()] + match[1] + match[3] + more + text[match.end() :]


def _logs_of_another(text: str) -> str | None:
    match = re.search(r"^docker run .*--name (\S+) (?:.*\\\n)*.*\n", text, re.M)
    if match is None:
        return None
    return text[: match.end()] + f"docker logs -f {match[1]}-2\n" + text[match.end() :]


MUTATIONS = (
    Mutation(
        "flow-image",
        "another name is pulled",
        replaced(r"^docker pull (\S*?)([@:])", r"docker pull \1-base\2"),
    ),
    Mutation(
        "flow-image",
        "another digest is pulled",
        replaced(r"^(docker pull \S+@sha256:)....", r"\g<1>0000"),
    ),
    Mutation("flow-container", "logs of another", _logs_of_another),
    Mutation("flow-container", "the container has no name", _unnamed),
    Mutation(
        "flow-directory",
        "a linked repository",
        replaced(
            r"^```bash\n",
            "The operators are in https://github.com/example-lab/fastops.\n\n```bash\ncd fastops\n",
        ),
    ),
    Mutation(
        "flow-weights",
        "another folder is served",
        replaced(r"vllm serve /(?:models|weights)", "vllm serve /checkpoints"),
    ),
    Mutation(
        "flow-weights",
        "another folder is mounted",
        replaced_all(r"-v (?:/data|/srv/weights)/", "-v /mnt/other/old-"),
        along=frozenset({"site-mount"}),
    ),
    Mutation(
        "flow-weights",
        "another folder is downloaded to",
        replaced(r"(--local[-_]dir) /data/", r"\1 /scratch/new-"),
        along=frozenset({"site-mount"}),
    ),
    Mutation(
        "flow-port",
        "another port is asked",
        replaced(r"^curl (\S*?):\d{4}/v1", r"curl \1:7777/v1"),
    ),
    Mutation(
        "flow-port",
        "another port is published",
        replaced(r"-p (\d{4}):\1 (?=.*\\$)", "-p 7777:7777 "),
    ),
    Mutation(
        "flow-port",
        "another port is served",
        replaced(r"(vllm serve .*)--port \d{4}", r"\1--port 7777"),
    ),
    Mutation(
        "flow-model-name",
        "another name is asked for",
        replaced(r'"model": "', '"model": "the-'),
    ),
    Mutation(
        "flow-model-name",
        "another name is served",
        replaced_all(r"--served-model-name (\S+)", r"--served-model-name \1-fast"),
    ),
    Mutation(
        "flow-promised",
        "a variable",
        replaced(
            r"^```bash\n",
            "Fast kernels are enabled by setting FAST_KERNELS_ON in the following commands.\n\n"
            "```bash\n",
        ),
    ),
    Mutation(
        "flow-promised",
        "an option among others",
        replaced(
            r"^```bash\n(docker run .*--name .*--shm-size )",
            "The options mean, as explained by the engine:\n\n"
            "- `--name` names the container\n"
            "- `--shm-size` sizes its shared memory\n"
            "- `--cpu-shares` weighs it against others\n\n"
            r"```bash\n\1",
        ),
    ),
)
