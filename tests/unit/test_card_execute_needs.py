"""What keeps a step from being run here: by the words of its commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from relforge.card.execute.docker_needs import Surroundings, image_host, is_local_host
from relforge.card.execute.docker_words import parse
from relforge.card.execute.judge import Earlier, Judge, Ruling
from relforge.card.execute.needs import statement_needs
from relforge.card.execute.script import docker_call, script
from relforge.card.execute.steps import Step, steps
from relforge.card.lint.document import parse as parse_card


def needs(text: str, folder: Path, **there: object) -> list[tuple[str, str]]:
    around = Surroundings(**{"writable": (str(folder),), **there})  # type: ignore[arg-type]
    (statement,) = script(text, 1).statements
    return [(n.kind, n.reason) for n in statement_needs(statement, {}, around, folder)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("docker run --gpus all x", "hardware"),
        ("docker run --device=/dev/no-such-thing0 x", "hardware"),
        ("docker run --device /dev/no-such-thing0:/dev/a x", "hardware"),
        ("docker run --runtime vendor x", "hardware"),
        ("vendor-smi info", "hardware"),
        ("docker login registry.example", "secret"),
        ("relforge unpatch --key-path ~/vendor.key --dir build", "secret"),
        ("cosign verify --key absent.pub x", "secret"),
        ("hf auth login", "secret"),
        ('curl -H "Authorization: Bearer $HF_TOKEN" http://127.0.0.1/', "secret"),
        ("hf download a/b", "network"),
        ("modelscope download --model a/b", "network"),
        ("git clone https://git.example/a", "network"),
        ("cd x && pip install .", "network"),
        ("python3 -m pip install a", "network"),
        ("sudo apt-get install -y git", "network"),
        ("docker pull registry.example/a@sha256:0", "network"),
        ("docker pull busybox", "network"),
        ("docker pull registry.example/${PROJECT}/a:$TAG", "network"),
        ("curl -LO https://files.example/a", "network"),
        ("ssh host ls", "network"),
        ("curl http://<node0>/v1", "reader"),
        ("vllm serve /path/to/model", "reader"),
        ("LOCAL_IP=xxxx", "reader"),
        ("docker run --privileged x", "host"),
        ("docker run -v /:/host:ro x", "host"),
        ("docker run -v /var/run/docker.sock:/s x", "host"),
        ("docker run --mount type=bind,source=/etc,target=/e,readonly x", "host"),
        ("docker run -v /srv/data:/data x", "host"),
        ("docker run --pid=host x", "host"),
        ("docker run --cap-add=ALL x", "host"),
        ("docker system prune -af", "host"),
        ("docker rmi x", "host"),
        ("rm -rf /opt/x", "host"),
        ("rm -rf ../x", "host"),
        ('rm -rf "$FOLDER"', "host"),
        ("echo 1 > /proc/sys/vm/drop_caches", "host"),
        ("echo a >> ~/.bashrc", "host"),
        ("curl -s http://127.0.0.1/x | bash", "host"),
        ("dd if=/dev/zero of=/dev/sda", "host"),
        ("systemctl restart docker", "host"),
        ("podman run x", "host"),
    ],
)
def test_a_need_is_seen(text: str, kind: str, tmp_path: Path) -> None:
    assert kind in [found for found, _ in needs(text, tmp_path)]


@pytest.mark.parametrize(
    "text",
    [
        "docker run --rm --name a -p 8000:8000 --device /dev/null x serve --port 8000",
        "docker run --mount \"type=bind,source=/srv/w,target=/w,readonly\" x",
        "docker run -v /srv/w:/w:ro x",
        "docker run -v $PWD/w:/w x",
        "docker run -v cache:/root/.cache x",
        "docker run --runtime runc x",
        "docker run x sh -c 'rm -rf /tmp/a; echo b > /etc/c'",
        "docker pull 127.0.0.1:5000/a",
        "docker pull localhost:5000/a:1",
        "tar -C image -c . | docker load",
        "rm -rf build $PWD/x ./y",
        "echo a > b 2>&1",
        "curl -s http://localhost:8000/v1/models | python3 -m json.tool",
        "pip install --no-index a.whl",
        "WEIGHTS=$PWD/weights",
        "sort --key 2 names",
        "echo \"$MODEL_PATH\" $TOKENIZER $MONKEY",
        "export VLLM_API_KEY_FILE=none",
    ],
)  # fmt: skip
def test_what_can_run_has_no_need(text: str, tmp_path: Path) -> None:
    assert needs(text, tmp_path, runtimes=("runc",)) == []


def test_a_source_that_is_here_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "a.key").write_text("x")
    assert needs("git clone repo copy", tmp_path) == []
    assert needs("tool --key-path a.key", tmp_path) == []


def test_hardware_that_is_here_is_no_need(tmp_path: Path) -> None:
    text = "docker run --gpus all --runtime vendor --device /dev/null x"
    assert needs(text, tmp_path, gpus=True, runtimes=("vendor",)) == []


def test_a_docker_command_line_is_taken_apart() -> None:
    words = (
        "-H unix:///x container run -itd -p8000:80 -p 127.0.0.1:9:9/udp -e A=b --shm-size=1g "
        "--rm --name n -v a:/b img:1 bash -c -it"
    )
    call = parse(words.split())
    assert call is not None
    assert (call.verb, call.image, call.operands[1:]) == ("run", "img:1", ("bash", "-c", "-it"))
    assert call.has("detach")
    assert call.has("tty")
    assert call.values("env") == ("A=b",)
    assert call.host_ports == (8000,)
    assert not call.enters_shell


def test_a_variable_may_hold_options_or_nothing() -> None:
    for value, image in (("--rm --device /dev/a", "img"), (" ", "img")):
        (statement,) = script("docker run -it ${OPTIONS} --privileged img bash", 1).statements
        call = docker_call(statement.commands[0], {"OPTIONS": value})
        assert call is not None
        assert (call.image, call.has("privileged")) == (image, True)
    unknown = docker_call(statement.commands[0], {})
    assert unknown is not None
    assert unknown.image == "img"


@pytest.mark.parametrize(
    ("words", "enters"),
    [
        ("exec -it box bash", True),
        ("exec -ti box /bin/sh -l", True),
        ("run --rm -it img bash", True),
        ("run -itd img bash", False),
        ("exec box bash", False),
        ("exec -it box bash -c ls", False),
        ("exec -it box ls", False),
    ],
)
def test_who_types_on_inside_a_container(words: str, enters: bool) -> None:
    call = parse(words.split())
    assert call is not None
    assert call.enters_shell is enters


def test_registries() -> None:
    assert image_host("busybox") == "docker.io"
    assert image_host("a/b:1") == "docker.io"
    assert image_host("localhost/b") == "localhost"
    assert is_local_host("127.0.0.1:5000")
    assert is_local_host("[::1]:5000")
    assert not is_local_host("registry.example:5000")
    assert not is_local_host("127.example")


def card(text: str) -> tuple[Step, ...]:
    return steps(parse_card(text))


def judge(found: tuple[Step, ...], folder: Path, **changes: object) -> Judge:
    values: dict[str, object] = {
        "variables": {}, "given": {}, "there": Surroundings(), "folder": folder,
        "have": frozenset(), "images": None, **changes,
    }  # fmt: skip
    made = Judge(**values)  # type: ignore[arg-type]
    made.learn(found)
    return made


def test_what_rests_on_a_step_that_did_not_run_does_not_run(tmp_path: Path) -> None:
    found = card(
        "# C\n\n```bash\nhf download a/b\nW=$PWD/w\n```\n\n```bash\nls $W\n```\n\n"
        "```bash\nls\n```\n"
    )
    one = judge(found, tmp_path)
    assert one.rule(found[0], []).kind == "not-run"
    behind = [Earlier(found[0], done=False)]
    assert one.rule(found[1], behind) == Ruling(
        "not-run", "it rests on $W of step 1 (line 4), which was not run"
    )
    assert one.rule(found[2], behind) == Ruling("run")


def test_a_value_from_the_tester_takes_the_place_of_a_step(tmp_path: Path) -> None:
    found = card("# C\n\n```bash\nhf download a/b\nW=$PWD/w\n```\n\n```bash\nls $W\n```\n")
    one = judge(found, tmp_path, given={"W": "/data"})
    ruling = one.rule(found[0], [])
    assert ruling == Ruling("given", "W was given with --set")
    assert one.rule(found[1], [Earlier(found[0], done=True)]) == Ruling("run")


def test_what_is_typed_in_a_container_cannot_hurt_the_host(tmp_path: Path) -> None:
    found = card(
        "# C\n\n```bash\ndocker exec -it box bash\nrm -rf /opt/x\n```\n\n```bash\nrm -rf /opt/y\n"
        "```\n\n```bash\npip install x\n```\n\nIn another terminal:\n\n"
        "```bash\nrm -rf /opt/z\n```\n"
    )
    one = judge(found, tmp_path)
    kinds = [one.rule(step, []).kind for step in found]
    assert kinds == ["run", "run", "not-run", "not-run"]
    assert "rm /opt/z reaches outside" in one.rule(found[3], []).reason
    behind = [Earlier(found[0], done=False, failed=True)]
    assert one.rule(found[1], behind).reason == (
        "it is typed into the container of step 1 (line 4), which failed"
    )


@pytest.mark.parametrize("kind", ["hardware", "secret", "network", "reader"])
def test_a_marker_says_what_words_do_not(kind: str, tmp_path: Path) -> None:
    found = card(f"# C\n\n<!-- relforge:step start needs={kind} -->\n\n```bash\n./start\n```\n")
    ruling = judge(found, tmp_path).rule(found[0], [])
    assert ruling.kind == "not-run"
    assert "the card says" in ruling.reason
    assert judge(found, tmp_path, have=frozenset([kind])).rule(found[0], []) == Ruling("run")


def test_hardware_in_a_marker_is_believed_only_where_devices_are_missing(tmp_path: Path) -> None:
    text = "# C\n\n<!-- relforge:step start needs=hardware -->\n\n```bash\ndocker run {} x\n```\n"
    here = card(text.format("--device /dev/null"))
    assert judge(here, tmp_path).rule(here[0], []) == Ruling("run")
    away = card(text.format("--device /dev/no-such-thing0"))
    assert judge(away, tmp_path).rule(away[0], []).kind == "not-run"
