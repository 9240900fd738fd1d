"""Cards that are run: against a real engine, whose containers serve files with busybox's httpd."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relforge.engine.cli import DockerCli
from tests.engine.conftest import Registry, docker, free_port
from tests.support.card_tests import START, Tried

ANSWER = {"object": "text_completion", "choices": [{"text": "124", "finish_reason": "stop"}]}


@dataclass(frozen=True)
class Bench:
    """A folder for a card, a home, an image that serves, and a port and a name of its own."""

    folder: Path
    home: Path
    site: Path
    image: str
    port: int
    name: str

    def card(self, text: str) -> Path:
        words = {"IMAGE": self.image, "PORT": str(self.port), "CONTAINER": self.name}
        for word, value in words.items():
            text = text.replace(f"@{word}@", value)
        path = self.folder / "README.md"
        path.write_text(text)
        return path

    def words(self, *options: str | Path) -> list[str]:
        start = [sys.executable, *START]
        return [*start, str(self.folder), "--site", str(self.site), *map(str, options)]

    def test(self, text: str, *options: str | Path) -> Tried:
        """Runs ``relforge card test`` on a card with this text."""
        self.card(text)
        done = subprocess.run(
            self.words("--json", "--yes", "--timeout", "30", *options),
            cwd=self.home.parent,
            capture_output=True,
            text=True,
            timeout=100,
        )
        return Tried(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def bench(tmp_path: Path, base: str, cli: DockerCli) -> Iterator[Bench]:
    folder, home = tmp_path / "release", tmp_path / "home"
    folder.mkdir()
    site = tmp_path / "site.yaml"
    site.write_text(json.dumps({"kind": "site", "home": str(home)}))
    made = Bench(folder, home, site, base, free_port(), f"card-{uuid.uuid4().hex[:10]}")
    yield made
    assert containers(cli, made.name) == [], "a container of a card was left behind"
    assert not list((home / "work").glob("card-test-*")), "a work folder was left behind"


def containers(cli: DockerCli, name: str) -> list[str]:
    """Those of one card; others may use the engine at the same time."""
    listed = docker(cli, "ps", "-a", "--filter", f"name={name}", "--format", "{{.Names}}")
    return listed.stdout.split()


def serving(*options: str, before: str = "", answer: Any = ANSWER) -> str:
    """A docker run of a server that answers at /health and /v1/completions."""
    script = (
        f"mkdir -p /www/v1 && echo ok > /www/health && echo '{json.dumps(answer)}' > "
        "/www/v1/completions && " + before + "exec busybox httpd -f -p 8000 -h /www"
    )
    words = " ".join(options)
    return (
        f"docker run {words} --name @CONTAINER@ -p 127.0.0.1:@PORT@:8000 @IMAGE@ \\\n"
        f"  sh -c {shlex.quote(script)}"
    )


REQUEST = "curl -sS http://127.0.0.1:@PORT@/v1/completions"

MARKED = f"""# A small server

<!-- relforge:step start ready=http://127.0.0.1:@PORT@/health -->

```bash
{serving("--rm")}
```

<!-- relforge:step request -->

```bash
{REQUEST}
```

<!-- relforge:expect -->

```json
{{"choices": [{{"text": "124"}}]}}
```
"""


def test_a_server_in_the_foreground_is_asked_from_another_terminal(bench: Bench) -> None:
    done = bench.test(MARKED)
    assert done.code == 0, done.stdout + done.stderr
    assert done.verdicts == ["pass", "pass"]
    start, request = done.report["steps"]
    assert (start["name"], request["name"]) == ("start", "request")
    assert json.loads(request["got"]) == ANSWER
    assert len(start["images"]) == 1


def test_another_answer_than_the_card_shows_fails(bench: Bench) -> None:
    wrong = bench.test(MARKED.replace('[{"text": "124"}]}\n', '[{"text": "125"}]}\n'))
    assert wrong.code == 6
    assert wrong.verdicts == ["pass", "fail"]
    assert wrong.reason(2) == '$.choices[0].text is "124", the card says "125"'


def test_an_unmarked_card_with_a_detached_server(bench: Bench) -> None:
    slow = serving("-d", "--rm", before="sleep 2 && ")
    done = bench.test(
        f"# Card\n\nStart it:\n\n```bash\n{slow}\n```\n\nAsk:\n\n```bash\n{REQUEST}\n```\n\n"
        "The text of the answer is `124`.\n"
    )
    assert done.code == 0, done.stdout
    assert done.report["steps"][1]["expected"] == "124"
    assert done.report["steps"][1]["seconds"] > 0.5, "it was asked before it was ready"


def test_a_path_in_words_says_when_it_is_ready(bench: Bench) -> None:
    done = bench.test(
        f"# Card\n\nStart it; it is ready when `/health` answers:\n\n```bash\n{serving('--rm')}\n"
        f"```\n\nAsk, from another terminal:\n\n```bash\n{REQUEST}\n```\n"
    )
    assert done.code == 0, done.stdout


def test_a_server_that_ends_is_not_waited_for(bench: Bench) -> None:
    begun = time.monotonic()
    done = bench.test(MARKED.replace("exec busybox httpd", "echo no licence >&2; exit 3; httpd"))
    assert done.code == 6
    assert done.verdicts == ["fail", "not-run"]
    assert "ended with status 3" in done.reason(1)
    assert "no licence" in done.reason(1)
    assert done.reason(2).startswith("it rests on the port")
    assert time.monotonic() - begun < 25, "it waited for the time limit"


def test_a_detached_server_that_ends_is_not_waited_for(bench: Bench) -> None:
    card = MARKED.replace("docker run --rm", "docker run -d")
    done = bench.test(card.replace("exec busybox httpd", "echo no licence >&2; exit 3; httpd"))
    assert done.verdicts == ["fail", "not-run"]
    assert "its container has ended\nno licence" in done.reason(1)


def test_a_port_that_is_taken_is_no_server_of_the_card(bench: Bench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", bench.port))
        taken.listen()
        done = bench.test(MARKED)
    assert done.code == 6
    assert done.reason(1) == f"port {bench.port} of this host is taken before the step begins"
    assert done.verdicts == ["fail", "not-run"]


def test_a_container_of_somebody_elses_stays(bench: Bench, cli: DockerCli) -> None:
    made = docker(cli, "run", "-d", "--name", bench.name, bench.image, "sleep", "100")
    assert made.returncode == 0, made.stderr
    try:
        done = bench.test(MARKED)
        assert done.verdicts == ["fail", "not-run"]
        assert "is already in use" in done.reason(1)
        stopped = bench.test("# Card\n\n```bash\nX=@CONTAINER@\ndocker stop $X\n```\n")
        assert stopped.verdicts == ["not-run"]
        assert "is not the card's" in stopped.reason(1)
        state = docker(cli, "inspect", "--format", "{{.State.Running}}", bench.name)
        assert state.stdout.strip() == "true"
    finally:
        docker(cli, "rm", "-f", bench.name)


def test_options_in_a_variable_are_seen_when_they_have_their_value(bench: Bench) -> None:
    card = """# Card

```bash
for word in --priv ileged; do options="$options$word"; done
docker run --rm --name @CONTAINER@ $options @IMAGE@ echo hello
```
"""
    done = bench.test(card)
    assert done.verdicts == ["not-run"]
    assert "--privileged gives the container the whole machine" in done.reason(1)
    assert done.code == 6, "nothing ran"
    allowed = bench.test(card, "--allow-host")
    assert allowed.code == 0
    assert allowed.report["steps"][0]["got"].strip() == "hello"


def test_what_follows_a_shell_in_a_container_is_typed_there(bench: Bench) -> None:
    done = bench.test(
        """# Card

```bash
NAME=@CONTAINER@
docker run -itd --name $NAME @IMAGE@ sh
docker exec -it $NAME sh
```

```bash
mkdir /inside
ls -d /inside
```

This prints `/inside`.

In another terminal:

```bash
docker exec @CONTAINER@ ls -d /inside
ls /inside
```
"""
    )
    assert done.verdicts == ["pass", "pass", "fail"]
    assert done.report["steps"][2]["got"].strip() == "/inside"
    assert "line 20 ended with status 2" in done.reason(3)


def test_variables_do_not_reach_another_terminal(bench: Bench) -> None:
    card = MARKED.replace("```bash\ndocker", "```bash\nWHERE=127.0.0.1\ndocker")
    done = bench.test(card.replace("curl -sS http://127.0.0.1:", "curl -sS http://$WHERE:"))
    assert done.verdicts == ["pass", "fail"]
    assert "$WHERE was set in another terminal" in done.reason(2)


def test_each_launch_profile_is_started_and_asked(bench: Bench) -> None:
    second = serving("--rm", answer={"choices": [{"text": "7"}]})
    card = (
        MARKED.replace("step start", "step start profile=small")
        + "\n<!-- relforge:step stop -->\n\n```bash\ndocker stop -t 0 @CONTAINER@\n```\n"
    ).replace(
        "<!-- relforge:step request",
        "<!-- relforge:step start profile=large ready=http://127.0.0.1:@PORT@/health -->\n\n"
        f"```bash\n{second}\n```\n\n<!-- relforge:step request",
    )
    done = bench.test(card)
    steps = [(s["name"], s["profile"], s["verdict"]) for s in done.report["steps"]]
    assert steps == [
        ("start", "small", "pass"), ("request", "small", "pass"), ("stop", "small", "pass"),
        ("start", "large", "pass"), ("request", "large", "fail"), ("stop", "large", "pass"),
    ], done.stdout  # fmt: skip
    assert '$.choices[0].text is "7"' in done.reason(5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_survives_a_signal(bench: Bench, cli: DockerCli, number: signal.Signals) -> None:
    with begun(bench, cli) as child:
        child.send_signal(number)
        assert child.wait(30) == 130
    assert not _listens(bench.port)


def test_what_kill_9_left_is_removed_by_the_next_test(bench: Bench, cli: DockerCli) -> None:
    with begun(bench, cli) as child:
        child.kill()
        child.wait(10)
    assert len(containers(cli, bench.name)) == 1
    assert bench.test("# Card\n\n```bash\ndocker version\n```\n").code == 0
    assert containers(cli, bench.name) == []


@contextlib.contextmanager
def begun(bench: Bench, cli: DockerCli) -> Iterator[subprocess.Popen[bytes]]:
    """A test whose server runs and never gets ready."""
    bench.card(MARKED.replace("@PORT@/health", "@PORT@/never"))
    child = subprocess.Popen(
        bench.words("--yes"),
        cwd=bench.home.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not _listens(bench.port):
            assert child.poll() is None, "it ended"
            assert time.monotonic() < deadline, "its server does not start"
            time.sleep(0.05)
        assert len(containers(cli, bench.name)) == 1
        yield child
    finally:
        child.kill()
        child.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_image_has_to_be_the_one_that_is_asked_for(bench: Bench, cli: DockerCli) -> None:
    digest = image_id(cli, bench.image)
    other = f"sha256:{'0' * 64}"
    card = "# Card\n\n```bash\ndocker run --rm --name @CONTAINER@ @IMAGE@ echo hello\n```\n"
    good = bench.test(card, "--image", digest)
    assert good.code == 0, good.stderr
    assert good.report["image"] == digest
    bad = bench.test(card, "--image", other)
    assert (bad.code, bad.stdout) == (6, "")
    assert f"{bench.image} is {digest}, to be tested is {other}" in bad.stderr
    pinned = bench.test(card.replace("@IMAGE@", f"far.example/x@{digest}"), "--image", other)
    assert pinned.code == 6
    assert f"it runs far.example/x@{digest}" in pinned.stderr
    assert bench.test(card, "--image", "latest").code == 2


def test_a_pull_of_what_the_engine_has_is_not_needed(bench: Bench, cli: DockerCli) -> None:
    reference = f"far.example/x@{image_id(cli, bench.image)}"
    card = f"""# Card

```bash
docker pull {reference}
```

```bash
docker run --rm {reference} echo hello
```
"""
    done = bench.test(card, "--image", reference.partition("@")[2])
    assert done.verdicts == ["not-run", "pass"], done.stdout
    assert done.reason(1) == "the engine has this very image already; nothing was fetched"
    absent = bench.test(card.replace(reference, f"far.example/x@sha256:{'1' * 64}"))
    assert absent.verdicts == ["not-run", "not-run"]
    assert absent.reason(1).startswith("needs the network outside: docker pull from far.example")
    assert absent.reason(2).startswith("it rests on the image of step 1")
    assert absent.code == 6


def test_a_local_registry_is_not_outside(
    bench: Bench, cli: DockerCli, registry: Registry, image_name: Callable[[str], str]
) -> None:
    name = f"{registry.host}/{image_name('pulled')}"
    assert docker(cli, "tag", bench.image, name).returncode == 0
    assert docker(cli, "push", name).returncode == 0
    assert docker(cli, "image", "rm", name).returncode == 0
    try:
        done = bench.test(
            f"# Card\n\n```bash\ndocker pull {name}\ndocker run --rm {name} echo hello\n```\n"
        )
        assert done.code == 0, done.stdout
    finally:
        docker(cli, "image", "rm", name)


def image_id(cli: DockerCli, name: str) -> str:
    return docker(cli, "image", "inspect", "--format", "{{.Id}}", name).stdout.strip()


def test_the_stand_in_for_docker_looks_for_no_modules_beside_the_card(bench: Bench) -> None:
    for name in ("json.py", "relforge.py", "os.py"):
        (bench.folder / name).write_text("raise SystemExit('taken from the folder of the card')\n")
    done = bench.test(
        "# Card\n\n```bash\ndocker run --rm --name @CONTAINER@ @IMAGE@ echo hello\n```\n"
    )
    assert done.code == 0, done.stdout
