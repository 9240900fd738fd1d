"""Images, sources, containers and steps that harm the reader, or do not reach the end."""

from __future__ import annotations

import re

from tests.support.card_mutations import Mutation, appended, replaced, replaced_all
from tests.support.card_mutations.parts import (
    OF_A_MODEL,
    SERVES,
    block,
    both,
    to_docker_run,
    unless,
    where,
)

_COMMIT = "5b0e1f9a7c3d2e4f6a8b9c0d1e2f3a4b5c6d7e8f"
_EXTRAS = "https://github.com/example-lab/extras.git"


def _shell(code: str) -> str:
    return block("bash", code)


def _no_requests(text: str) -> str | None:
    pieces = re.split(r"(^```[\s\S]*?^```\n)", text, flags=re.M)
    kept = [p for p in pieces if not (p.startswith("```") and re.search("curl|openai", p))]
    changed = "".join(kept)
    return None if changed == text or "127.0.0.1:" in changed else changed


MUTATIONS = (
    Mutation(
        "supply-mutable-tag",
        "a tag",
        where(SERVES, replaced_all(r"(?::[\w.]+)?@sha256:\w{64}", ":1.0")),
    ),
    Mutation(
        "supply-mutable-tag",
        "no tag",
        where(SERVES, replaced_all(r"(?::[\w.]+)?@sha256:\w{64}", "")),
    ),
    Mutation(
        "supply-no-registry",
        "the name alone",
        where(
            SERVES,
            replaced_all(r"registry\.example\.org/[\w/-]+(?::[\w.]+)?(?=@)", "serving-base"),
        ),
    ),
    Mutation(
        "supply-internal-registry",
        "by name",
        where(SERVES, replaced_all(r"registry\.example\.org/", "registry.example-int.org/")),
    ),
    Mutation(
        "supply-internal-registry",
        "by address",
        replaced_all(r"(?:registry\.example\.org|ghcr\.io)/(?=[\w/-]+[:@])", "10.4.0.7:5000/"),
    ),
    Mutation(
        "supply-proxy-registry",
        "a mirror",
        replaced_all(
            r"(?:registry\.example\.org|ghcr\.io)/(?=[\w/-]+[:@])", "m.example.net/quay.io/"
        ),
    ),
    Mutation(
        "supply-proxy-url",
        "a file",
        appended("Mirror: <https://fast.example.net/https://example.org/file.tar>\n"),
    ),
    Mutation(
        "supply-proxy-url",
        "a clone",
        appended(
            _shell(
                "git clone https://fast.example.net/https://github.com/example-lab/extras.git\n"
                f"git -C extras checkout {_COMMIT}"
            )
        ),
    ),
    Mutation(
        "supply-clone-head",
        "no checkout",
        where(SERVES, appended(_shell(f"git clone {_EXTRAS}"))),
    ),
    Mutation(
        "supply-clone-head",
        "a branch",
        where(SERVES, appended(_shell(f"git clone --branch main {_EXTRAS}"))),
    ),
    Mutation(
        "supply-pip-head",
        "no commit",
        where(SERVES, appended(_shell(f"pip install git+{_EXTRAS}"))),
    ),
    Mutation(
        "supply-unexplained-commit",
        "an option",
        where(
            SERVES,
            appended(
                _shell(
                    f"git clone {_EXTRAS}\ngit -C extras checkout {_COMMIT}\n"
                    "python3 extras/build.py --commit-id 758e33e1"
                )
            ),
        ),
    ),
    Mutation("safety-privileged", "an option", to_docker_run("--privileged")),
    Mutation("safety-all-caps", "an option", to_docker_run("--cap-add=ALL")),
    Mutation("safety-host-namespace", "pid", to_docker_run("--pid=host")),
    Mutation(
        "safety-host-namespace",
        "ipc",
        where(SERVES, replaced(r"--shm-size \S+", "--ipc=host")),
    ),
    Mutation("safety-host-namespace", "uts", to_docker_run("--uts host")),
    Mutation("safety-host-folder", "settings", to_docker_run("-v /etc:/host-settings")),
    Mutation("safety-repeated-option", "twice", to_docker_run("--init --init")),
    Mutation("safety-repeated-option", "a value twice", to_docker_run("--user 1000 --user 1000")),
    Mutation(
        "safety-shm-unused",
        "the host's",
        where("--shm-size", to_docker_run("--ipc=host")),
        along=frozenset({"safety-host-namespace"}),
    ),
    Mutation(
        "safety-fabric-unused",
        "one machine",
        where(
            SERVES,
            unless(
                "--nnodes",
                both(
                    to_docker_run("--device /dev/infiniband"),
                    appended("All this runs on a single machine.\n"),
                ),
            ),
        ),
    ),
    Mutation(
        "safety-key-path",
        "an option",
        where(OF_A_MODEL, appended(_shell("python3 unseal.py --key-path ~/release_key"))),
    ),
    Mutation("safety-secret", "a token", appended("Use the token hf_" + "aB3" * 12 + " for it.\n")),
    Mutation(
        "safety-secret",
        "a private key",
        appended(block("text", "-----BEGIN " + "PRIVATE KEY-----\n" + "MIIBq7Z9" * 8)),
    ),
    Mutation(
        "safety-piped-shell",
        "curl",
        appended(_shell("curl -fsSL https://example.org/install.sh | sudo bash")),
    ),
    Mutation("site-mount", "a folder", where(SERVES, to_docker_run("-v /corpus7:/corpus7"))),
    Mutation(
        "site-interface",
        "an option",
        where(SERVES, unless("network interface", to_docker_run("-e NCCL_SOCKET_IFNAME=eth3"))),
    ),
    Mutation(
        "site-address",
        "an address",
        where(SERVES, unless("address", appended(_shell("ping -c 1 192.168.7.9")))),
    ),
    Mutation("steps-no-request", "none", where("vllm serve", _no_requests)),
    Mutation(
        "steps-no-weights",
        "no download",
        where(
            "vllm serve",
            both(
                replaced(r"\A---\n[\s\S]*?^---\n+", ""),
                replaced_all(r"^(?:hf|modelscope) download.*\n", ""),
                replaced_all(r"(?:/data|/srv/weights)/[\w.-]+", "/weights"),
            ),
        ),
        along=frozenset({"metadata-front-matter", "metadata-quantized-relation"}),
    ),
    Mutation(
        "steps-nodes",
        "machines",
        where(SERVES, unless("--nnodes", appended("Four machines share the work.\n"))),
    ),
    Mutation(
        "steps-nodes",
        "one rank",
        where(
            SERVES,
            unless(
                "--nnodes",
                appended(_shell("python3 -m server.launch_server --nnodes 2 --node-rank 0")),
            ),
        ),
    ),
    Mutation(
        "steps-identical-nodes",
        "word for word",
        appended(_shell("# node 1\nserver start --all\n\n# node 2\nserver start --all")),
    ),
    Mutation(
        "steps-export",
        "once not",
        appended(_shell("export PLACE=/srv/a\nexport PLACE=/srv/b\nPLACE=/srv/c")),
    ),
    Mutation(
        "steps-env-not-passed",
        "before the start",
        where(SERVES, replaced(r"^docker run", "export SERVER_THREADS=4\ndocker run")),
    ),
    Mutation(
        "steps-program-spelling",
        "with and without .sh",
        appended(_shell("start_engine now") + "\n" + _shell("bash start_engine.sh now")),
    ),
)  # fmt: skip
