"""What was wrong with the five published documents, and what must be seen in cards of ours instead.

Each row: the document, the number in the list of its defects, what was wrong, and what is looked
for in the cards of its releases. ``lacks`` and ``has`` are regular expressions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

Check = Callable[[str], bool]
SHELL = re.compile(r"^```bash\n(.*?)^```", re.M | re.S)

RELEASES = {
    "000": ("deepseek-r1-int4-bi_V150",),
    "001": ("deepseek-r1-int8-kunlunxin",),
    "002": ("deepseek-r1-distill-qwen-32b-nvidia_h100",),
    "003": (
        "deepseek-r1-w8a8-ascend_a3-throughput", "deepseek-r1-w8a8-ascend_a3-accuracy",
        "deepseek-r1-w8a8-ascend_a2-throughput", "deepseek-r1-w8a8-ascend_a2-accuracy",
    ),
    "004": (
        "deepseek-r1-wint4-nvidia_h100", "deepseek-r1-wint8-nvidia_h100",
        "deepseek-r1-a8w8-fp8-nvidia_h100", "deepseek-r1-distill-qwen-14b-wint8-nvidia_h100",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Defect:
    """One defect, and how its absence is seen."""

    number: str
    what: str
    gone: Check


def lacks(pattern: str) -> Check:
    return lambda card: re.search(pattern, card, re.M) is None


def has(pattern: str) -> Check:
    return lambda card: re.search(pattern, card, re.M) is not None


def shell_lacks(pattern: str) -> Check:
    return lambda card: all(not re.search(pattern, b, re.M) for b in SHELL.findall(card))


def shell_has(pattern: str) -> Check:
    return lambda card: any(re.search(pattern, b, re.M) for b in SHELL.findall(card))


def all_of(*checks: Check) -> Check:
    return lambda card: all(check(card) for check in checks)


def headings_once(card: str) -> bool:
    found = re.findall(r"^#+ .*$", re.sub(r"^```.*?^```", "", card, flags=re.M | re.S), re.M)
    return len(found) == len(set(found)) and len(found) > 8


def levels_without_a_jump(card: str) -> bool:
    text = re.sub(r"^```.*?^```", "", card, flags=re.M | re.S)
    levels = [len(found) for found in re.findall(r"^(#+) ", text, re.M)]
    return levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))


def counted_features(card: str) -> bool:
    found = re.search(r"What is in it \((\d+)\):\n\n((?:- .*\n)+)", card)
    return found is not None and int(found[1]) == found[2].count("\n")


def two_decimals(card: str) -> bool:
    rows = re.findall(r"^\| [^|]+\((?:EM|Acc\.|Pass@1|accuracy)\) \|.*$", card, re.M)
    cells = [cell.strip() for row in rows for cell in row.split("|")[3:-2]]
    return len(cells) > 0 and all(re.fullmatch(r"[+-]?\d+\.\d\d|not stated", c) for c in cells)


def no_empty_cell(card: str) -> bool:
    return re.search(r"^\|(.*\|)?[ \t]*\|", card, re.M) is None


def one_container_name(card: str) -> bool:
    """The container that is started is the one that is stopped, and no other is named."""
    started = set(re.findall(r"--name (\S+)", card))
    return bool(started) and set(re.findall(r"docker stop (\S+)", card)) == started


def one_served_name(card: str) -> bool:
    """Requests name the model as the table says that the server calls it."""
    served = re.search(r"Name of the model in requests \| `([^`]+)`", card)
    asked = set(re.findall(r'"model": "([^"]+)", "(?:prompt|messages)"', card))
    return served is not None and asked == {served[1]}


def weights_reach_the_server(card: str) -> bool:
    """One folder: it is set, mounted, and is where the server is told to look."""
    target = re.search(r'source=\$WEIGHTS,target=([^",]+)', card)
    return (
        target is not None
        and re.search(r"^WEIGHTS=", card, re.M) is not None
        and card.count(target[1]) >= 2
    )


NO_MOJIBAKE = lacks(
    "\u00e2\u20ac|\u00f0\u0178|\u00ef\u00bc|\u00c2\u00b1|\u201a\u00c4|\u221a|\ufffd"
)
NO_DOUBLE_BLANK = lacks(r"^(?![|`\s]).*[a-z]  [a-z]")
NO_RELATIVE_IMAGE = lacks(r"!\[[^\]]*\]\((?!https?://|evidence/)")
NO_TAG_PULLED = shell_lacks(r"docker pull (?!\S+@|\"\$IMAGE\")\S+")
FRONT_MATTER = has(r"\A---\n(.*\n)*license: mit\n(.*\n)*---\n")
NOT_CLAIMED = all_of(lacks(r"70 ?%"), has("is not claimed here"))
REPORTED = all_of(has("### Reported figures"), has("so no verdict is given"))
QUANTIZED = has(r"^base_model_relation: quantized$")
MIT = has(r"The weights are under MIT \(")
NOT_PRIVILEGED = shell_lacks(r"--privileged|--cap-add[= ]ALL|--pid[= ]host")
VERSIONS = has("### Environment")
NO_PROSE_IN_SHELL = shell_lacks(r"^(NOTE|Ensure|Modify|#Modify|┌|├|└)")
A_REQUEST = shell_has(r"^curl --fail --silent http://127\.0\.0\.1:\d+/v1/")

DEFECTS: dict[str, tuple[Defect, ...]] = {
    "000": (
        Defect("1", "two sections stand twice", headings_once),
        Defect("2", "three spellings of the chip", all_of(lacks("ILUVATAR|BI150"), has("BI-V150"))),
        Defect("3", "three features announced, two listed", counted_features),
        Defect("4", "double blanks", NO_DOUBLE_BLANK),
        Defect("5", "mojibake, and a share that nobody measured", all_of(NO_MOJIBAKE, NOT_CLAIMED)),
        Defect("6", "a variable promised and never set", shell_has(r"--env USE_FLAGGEMS=1")),
        Defect("7", "another vendor in a header, an empty cell",
               all_of(lacks("Cambricon"), no_empty_cell)),
        Defect("8", "by request, and pulled from nowhere",
               all_of(shell_lacks("docker pull"), has("handed out on request"))),
        Defect("9", "glued contact that is no link",
               all_of(lacks("comContact"), has("<services@iluvatar.com>"))),
        Defect("10", "reference of other weights, unsaid",
               has("from which these weights were made, and not of the weights themselves")),
        Defect("11", "a spread without meaning", lacks("±")),
        Defect("12", "mixed decimals", two_decimals),
        Defect("13", "mixed metrics, no n, no settings",
               all_of(has(r"C-Eval \(Acc\.\)"), has(r"\| 1319 † \|"), REPORTED)),
        Defect("14", "original weights downloaded, never used",
               all_of(shell_lacks("modelscope download"), weights_reach_the_server)),
        Defect("15", "how to ask for the weights", has("ask for the INT4 weights")),
        Defect("16", "pulled image is not the image that runs",
               all_of(lacks("baai_v4|baai:v4"), one_container_name)),
        Defect("17", "all privileges and mounts of one machine",
               all_of(NOT_PRIVILEGED, lacks("/mnt/share|/home:|/nfs"))),
        Defect("18", "clone through a stranger's proxy", lacks("ghfast")),
        Defect("19", "two commits, unrelated",
               has("The patch set `bi_V150-758e33e0` changes `flagscale`")),
        Defect("20", "no word on who has the key",
               has(r"The key is handed out by <services@iluvatar\.com>")),
        Defect("21", "prose in a shell block", NO_PROSE_IN_SHELL),
        Defect("22", "working directory unclear", shell_lacks(r"^cd ")),
        Defect("23", "a directory tree in a shell block", shell_lacks("[├└│]")),
        Defect("24", "a limit under two spellings", shell_has('"max_num_seqs": 4')),
        Defect("25", "no variable, port, check or request",
               all_of(shell_has("USE_FLAGGEMS"), has("It is ready when"), A_REQUEST)),
        Defect("26", "broken emoji and jumping headings",
               all_of(NO_MOJIBAKE, levels_without_a_jump)),
        Defect("27", "a broken contact section", has(r"^## Contact\n\n- ")),
        Defect("28", "an image that is not there", NO_RELATIVE_IMAGE),
        Defect("29", "the wrong licence, quantizing unsaid", all_of(MIT, QUANTIZED)),
        Defect("30", "no head, no versions, no digest",
               all_of(FRONT_MATTER, VERSIONS, has("Base image, digest"))),
        Defect("31", "addresses of an old organisation are pinned, not suggested",
               has(r"FlagScale\.git@ae85925798358d95050773dfa66680efdb0c2b28")),
    ),
    "001": (
        Defect("1", "the model without its precision",
               all_of(has("DeepSeek-R1-INT8 on four nodes"), lacks("Kunlunxin GPU"))),
        Defect("2", "features numbered 1 and 3", counted_features),
        Defect("3", "a sentence cut in two", shell_has("USE_FLAGGEMS=1")),
        Defect("4", "by request, and a public pull", shell_lacks("docker pull")),
        Defect("5", "a link to another vendor's card",
               all_of(lacks("mailto%3A|Cambricon|MiniCPM"), has("<kunlunxin-support@baidu.com>"))),
        Defect("6", "precisions compared in silence", has("The weights here are int8")),
        Defect("7", "fraction among percentages", two_decimals),
        Defect("8", "better than the reference, without uncertainty",
               has(r"GPQA-Diamond \(Pass@1\) \| 198 † \|.*\+2\.53 \| -\d")),
        Defect("9", "unset variables and an internal registry",
               shell_lacks(r"\$\{PROJECT\}|baidu-int")),
        Defect("10", "a default that is none", shell_lacks(r"\$\{\w+:[^-=+?]|=\$1$")),
        Defect("11", "an empty name swallows an option", one_container_name),
        Defect("12", "readonly in a block to paste", shell_lacks("^readonly ")),
        Defect("13", "options twice, and all privileges",
               all_of(NOT_PRIVILEGED, lambda card: "SYS_PTRACE --cap-add" not in card)),
        Defect("14", "folders of one host", lacks("/ssd1|/share/")),
        Defect("15", "network interfaces of one cluster", shell_has(r"^NICS_RDMA=")),
        Defect("16", "which shell a step runs in", has("^On `node3`:")),
        Defect("17", "four machines and no command for each",
               all_of(NO_MOJIBAKE, *(has(f"^On `node{n}`:") for n in range(4)))),
        Defect("18", "no weights, no configuration",
               all_of(weights_reach_the_server, shell_has("tensor_parallel_size: 8"))),
        Defect("19", "no port, check, versions, head",
               all_of(FRONT_MATTER, has("It is ready when"), A_REQUEST)),
        Defect("20", "the licence without a source", MIT),
        Defect("21", "an image that is not there", all_of(NO_RELATIVE_IMAGE, NO_MOJIBAKE)),
        Defect("22", "no newline at the end", lambda card: card.endswith("\n")),
    ),
    "002": (
        Defect("1", "mojibake", all_of(NO_MOJIBAKE, NOT_CLAIMED)),
        Defect("2", "the model under four names", one_served_name),
        Defect("3", "weights where the server does not look", weights_reach_the_server),
        Defect("4", "a tag that many cards share", NO_TAG_PULLED),
        Defect("5", "operators from whatever is newest",
               all_of(shell_lacks("git clone"), has(r"FlagGems\.git@[0-9a-f]{40}|flag_gems=="))),
        Defect("6", "YAML that does not parse", shell_has(r"^ *'defaults:\n- _self_\n- serve: ")),
        Defect("7", "a folder that was never cloned", shell_lacks(r"^cd ")),
        Defect("8", "a comment that contradicts its value",
               all_of(shell_has("max_num_seqs: 256"), lacks("8 concurrent"))),
        Defect("9", "no n, and equality without an interval",
               has(r"AIME 2024 \(Pass@1\) \| 30 \|.*\+0\.00 \| -\d+\.\d\d to \+\d")),
        Defect("10", "privileges for one node",
               all_of(NOT_PRIVILEGED, shell_lacks("infiniband|512g"))),
        Defect("11", "no request, no check",
               all_of(shell_has("127.0.0.1:9010"), has("It is ready when"))),
        Defect("12", "own run called official",
               all_of(lacks("official"), has("Nobody here measured these"))),
        Defect("13", "the wrong licence", MIT),
        Defect("14", "an image that is not there, no head",
               all_of(NO_RELATIVE_IMAGE, FRONT_MATTER)),
    ),
    "003": (
        Defect("1", "a name with a blank in it", lacks("deepseek- R1|DeepSeek Company")),
        Defect("2", "a slip of grammar", lacks("You can using")),
        Defect("3", "directives of another format", lacks(r":::|\{code-block\}|\|vllm_ascend")),
        Defect("4", "a comment twice", shell_lacks("Update the")),
        Defect("5", "weights where nothing is mounted",
               all_of(weights_reach_the_server, lacks(r"/root/\.cache"))),
        Defect("6", "half of the devices",
               lambda card: "ascend_a3" not in card or "/dev/davinci15" in card),
        Defect("7", "too little shared memory, unsaid", shell_has("--shm-size")),
        Defect("8", "a proxy's mirror, no digest", all_of(lacks("daocloud"), NO_TAG_PULLED)),
        Defect("9", "double blanks and a missing word", NO_DOUBLE_BLANK),
        Defect("10", "placeholders", shell_lacks(r"xxxx|<node")),
        Defect("11", "an option that no command has",
               lambda card: "no-enable-prefix-caching" not in card or "docker run" in card),
        Defect("12", "figures of another command than the one shown",
               lambda card: "### Reported" not in card or "accuracy" not in card.split("\n")[0]),
        Defect("13", "speculative tokens, unexplained", shell_has("num_speculative_tokens")),
        Defect("14", "figures of another version",
               lambda card: "AIME" not in card or "vllm-ascend 0.11.0rc2" in card),
        Defect("15", "no subset, no n",
               lambda card: "AIME" not in card or re.search(r"\| 30( †)? \|", card) is not None),
        Defect("16", "a redirect in an address", shell_lacks(r"http://<")),
        Defect("17", "a request for a model that is not served", one_served_name),
        Defect("18", "a result promised and not given", lacks("After execution")),
        Defect("19", "unquantified praise", lacks("excellent")),
        Defect("20", "three of one kind", lacks("three `vllm bench`")),
        Defect("21", "relative links", lacks(r"\]\((?!https?://|#|evidence/)[^)]+\)")),
        Defect("22", "no licence", MIT),
    ),
    "004": (
        Defect("1", "prose in a shell block", NO_PROSE_IN_SHELL),
        Defect("2", "addresses that are not those of the variables",
               shell_lacks(r"192\.168\.|master_ip")),
        Defect("3", "variables that never reach the container",
               lambda card: "NODE0" not in card or "--env \"POD_0_IP=$NODE0\"" in card),
        Defect("4", "a continuation glued to a word", shell_lacks(r'[^ \n]\\\n')),
        Defect("5", "a folder without its dollar", weights_reach_the_server),
        Defect("6", "a command called two ways", shell_has("start_server")),
        Defect("7", "an undefined variable, the wrong payload",
               all_of(shell_lacks(r"\$\{?(ip|IP)\b|\"text\":"), A_REQUEST)),
        Defect("8", "broken client code", lacks("base_url")),
        Defect("9", "a misspelt architecture", lacks(r"Amper\b")),
        Defect("10", "a model that nobody verified", lacks("DeepSeek-R1-FP8")),
        Defect("11", "two versions of one tool", lacks("main branch")),
        Defect("12", "a misspelt command", lacks("bdsit")),
        Defect("13", "only the first node",
               lambda card: "On `node0`" not in card or "On `node1`" in card),
        Defect("14", "a folder that was never cloned", shell_lacks(r"^cd ")),
        Defect("15", "a benchmark without results", lacks(r"^#+ .*Benchmark")),
        Defect("16", "a tag, all privileges", all_of(NO_TAG_PULLED, NOT_PRIVILEGED)),
        Defect("17", "the same command on both nodes",
               lambda card: "NODE0" not in card or "POD_0_IP" in card),
        Defect("18", "four names for two nodes", lacks("Two-[Nn]ode|Dual-node|2-Node")),
        Defect("19", "table cells that run together", no_empty_cell),
        Defect("20", "links to one home page, and a company's wrong name",
               lacks("DeepSeek Inc|github.com/deepseek-ai\\)")),
        Defect("21", "no accuracy, no licence", all_of(MIT, has("evaluate: not run"))),
    ),
}  # fmt: skip
