"""Shell blocks and container commands are read as a shell and a container engine read them."""

from __future__ import annotations

import pytest

from relforge.card.lint.bash import unreadable
from relforge.card.lint.check import lint
from relforge.card.lint.dockerwords import Docker, Mount, calls, docker, inside
from relforge.card.lint.document import Block, parse
from relforge.card.lint.shell import commands, read_script, typed


def call(line: str, **values: str) -> Docker:
    """The one call of a container engine in a line."""
    (command,) = commands(line, 1)
    found = docker(command, values)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "line",
    [
        "docker run -itd --name one -p 80:8000 registry.example.org/a:1 bash -c 'serve --x'",
        "sudo -E docker run -dit --name=one -p80:8000 registry.example.org/a:1 bash -c 'serve --x'",
        "podman --log-level debug run --rm -it --publish 80:8000 --name one --gpus all"
        " registry.example.org/a:1 bash -c 'serve --x'",
        "DOCKER_HOST=tcp://h:1 docker container run --privileged --name one -p=80:8000"
        " --shm-size 8g registry.example.org/a:1 bash -c 'serve --x'",
        "docker run \\\n  --name one \\\n  -p 0.0.0.0:80:8000/tcp \\\n"
        "  registry.example.org/a:1 \\\n  bash -c 'serve --x'",
    ],
)
def test_a_run_is_read_option_by_option(line: str) -> None:
    run = call(line)
    assert run.starts
    assert run.subject is not None
    assert run.subject.text == "registry.example.org/a:1"
    assert run.value("name") == "one"
    assert [(port.host, port.container) for port in run.ports] == [("80", "8000")]
    assert [word.text for word in run.arguments] == ["bash", "-c", "serve --x"]
    assert [command.argv for command in inside(run)] == [("serve", "--x")]


def test_mounts_of_every_spelling() -> None:
    run = call(
        'docker run -v /a:/b:ro -v data:/c -v "$PWD/w":/w -v ${X:-/x}:/y --tmpfs /t:size=1g'
        " --mount type=bind,source=/d,target=/e,readonly --mount src=vol,dst=/f -v /anon image"
    )
    assert [(m.source, m.target, m.kind) for m in run.mounts] == [
        ("/a", "/b", "bind"),
        ("data", "/c", "volume"),
        ("$PWD/w", "/w", "bind"),
        ("${X:-/x}", "/y", "bind"),
        ("", "/t", "tmpfs"),
        ("/d", "/e", "bind"),
        ("vol", "/f", "volume"),
        ("", "/anon", "volume"),
    ]
    assert isinstance(run.mounts[0], Mount)


def test_a_variable_is_the_image_or_stands_for_options() -> None:
    assert call("docker run -it $IMAGE bash").subject is not None
    subject = call("docker run -it $DEVICE_OPTIONS --net=host image bash").subject
    assert subject is not None
    assert subject.text == "image"
    subject = call("docker run $MORE image", MORE="--rm -it").subject
    assert subject is not None
    assert subject.text == "image"
    subject = call("docker run $MORE sh", MORE="debian:12").subject
    assert subject is not None
    assert subject.text == "$MORE"


def test_a_glued_option_becomes_part_of_the_value_before_it() -> None:
    run = call('docker run -e "mode=fast"\\\n-dit image bash')
    assert run.value("env") == "mode=fast-dit"
    assert run.value("detach") is None


def test_other_verbs_name_containers_and_compose_is_none() -> None:
    found = calls(
        commands("docker logs -f one\ndocker exec -it -e A=1 -w /x two bash\ndocker cp a one:/b", 1)
    )
    assert [(c.verb, c.subject.text if c.subject else "") for c in found] == [
        ("logs", "one"),
        ("exec", "two"),
        ("cp", "a"),
    ]
    assert not calls(commands("docker compose up -d\necho docker run x", 1))


def test_prompts_are_not_typed_and_answers_neither() -> None:
    session = "$ ls -l \\\n  /data\nmodel.bin\n(env) user@host:~/x$ echo one\none\n"
    assert typed(session) == "  ls -l \\\n  /data\n\n" + " " * 21 + "echo one\n\n"
    assert [command.argv for command in commands(session, 5)] == [
        ("ls", "-l", "/data"),
        ("echo", "one"),
    ]
    assert typed("ls\npwd") == "ls\npwd"


def test_expansions_are_those_that_the_shell_makes() -> None:
    text = "echo \"$A\" '$B' ${C:-d} \\$D\n"
    text += "cat <<END\n$E\nEND\ncat <<'END'\n$F\nEND\nf() { echo $1; }\n"
    found = read_script(text, 1).expansions
    assert [(one.name, one.operator, one.line, one.within) for one in found] == [
        ("A", "", 1, ""),
        ("C", ":-d", 1, ""),
        ("E", "", 3, "heredoc"),
        ("1", "", 8, "function"),
    ]


def test_deep_nesting_is_read() -> None:
    deep = "( " * 3000 + "ls" + " )" * 3000
    card = parse(f"```bash\n{deep}\n```\n\n```yaml\n{'[' * 3000}{']' * 3000}\n```\n")
    assert [command.argv for command in card.commands] == [("ls",)]
    assert all(one.line for one in lint([card]))
    assert parse(f"---\na: {'[' * 3000}{']' * 3000}\n---\n").front_matter is not None


def test_bash_itself_says_what_it_cannot_read() -> None:
    good = ["echo one\n", "f() { :; }\n", "# nothing\n", "", "cat <<E\nx\nE\n", "echo one \\\n"]
    bad = {
        'echo "one\n': 1,
        "if true; then\n  echo\n": 2,
        "echo one\n(ls))\n": 2,
        "cat <<END\ntext\n": 2,
        "}\n{ echo; \n": 1,
    }
    found = unreadable([*good, *bad])
    assert {script: why.line for script, why in found.items()} == bad


def test_faults_of_neighbours_do_not_mend_each_other() -> None:
    halves = ["echo 'one\n", "two'\n", "if true; then\n", "fi\n", "{ echo\n", "}\n"]
    assert set(unreadable(halves)) == set(halves)


def test_nothing_that_is_read_is_run(tmp_path: object) -> None:
    mark = f"{tmp_path}/ran"
    scripts = [
        f"touch {mark}",
        f"}}; touch {mark}; {{",
        f"set +n\ntouch {mark}",
        f"set +n; touch {mark}",
        f'trap "touch {mark}" EXIT\n)',
        f"$(touch {mark})\nif",
        f'echo "`touch {mark}`\n',
        f"cat <<END\n$(touch {mark})\n",
        f"alias set='touch {mark}'\nset -n",
    ]
    unreadable(scripts)
    from pathlib import Path

    assert not Path(mark).exists()


def test_a_card_is_read_part_by_part() -> None:
    text = (
        "---\nlicense: mit\n---\n# One\n\n> ```bash\n> ls\n> ```\n\n- item `span`\n\n"
        "  ```{code-block} bash\n  :caption: x\n  ls $A\n  ```\n\n"
        "| a | b |\n|---|---|\n| 1 | [x](y) |\n\n<!-- note -->\n\n    docker ps\n"
    )
    card = parse(text)
    assert card.front_matter is not None
    assert card.front_matter.data == {"license": "mit"}
    assert [(h.level, h.text, h.line) for h in card.headings] == [(1, "One", 4)]
    assert [(b.language, b.first_line, b.closed, b.is_shell) for b in card.blocks] == [
        ("bash", 7, True, True),
        ("bash", 13, True, True),
        ("", 23, True, True),
    ]
    assert [command.argv for command in card.commands] == [("ls",), ("ls", "$A"), ("docker", "ps")]
    assert [(span.text, span.line) for span in card.spans] == [("span", 10)]
    assert card.tables[0].rows[0].cells == ("1", "x")
    assert [(link.target, link.line) for link in card.links] == [("y", 19)]
    assert [line.text for line in card.html] == ["<!-- note -->"]


def test_an_open_block_holds_no_commands() -> None:
    (block,) = parse("```bash\nls\n").blocks
    assert isinstance(block, Block)
    assert not block.closed
    assert not block.commands
