"""What the test of a card reads out of it: steps, expectations, markers."""

from __future__ import annotations

import pytest

from relforge.card.execute.expected import (
    Expected,
    answer_text,
    difference,
    refusal,
    subset_difference,
)
from relforge.card.execute.links import known_variables, makes, uses
from relforge.card.execute.ready import Question, question
from relforge.card.execute.script import script
from relforge.card.execute.steps import Step, for_profiles, steps
from relforge.card.lint.document import parse
from relforge.errors import ExitCode, RelforgeError


def read(text: str) -> tuple[Step, ...]:
    return steps(parse(text, "card.md"))


def test_every_shell_block_is_a_step_and_other_code_is_one_that_does_not_run() -> None:
    found = read(
        "# Card\n\n```bash\nA=1\necho $A\n```\n\n```yaml\na: 1\n```\n\n```python\nprint(1)\n```\n\n"
        "## Ask\n\n```\ncurl -s http://localhost:1/\n```\n"
    )
    assert [(s.number, s.line, s.section, s.runs_here) for s in found] == [
        (1, 4, "Card", True),
        (2, 13, "Card", False),
        (3, 19, "Ask", True),
    ]


def test_statements_are_typed_one_by_one() -> None:
    text = (
        "# comment\nA=1 B=2\nserver --x &\necho a; echo b # c\ncat <<EOF > x\nhi\nEOF\n"
        "if true; then\n  echo c\nfi\ntar -C x -c . | docker load\n"
    )
    found = script(text, 10).statements
    assert [(s.line, s.text) for s in found] == [
        (11, "A=1 B=2"),
        (12, "server --x &"),
        (13, "echo a"),
        (13, "echo b"),
        (14, "cat <<EOF > x\nhi\nEOF"),
        (17, "if true; then\n  echo c\nfi"),
        (20, "tar -C x -c . | docker load"),
    ]
    assert found[0].assignments == (("A", "1"), ("B", "2"))
    assert found[4].writes == ("x",)
    assert [s.only_assigns for s in found] == [True, *[False] * 6]


def test_a_transcript_has_its_output_between_the_prompts() -> None:
    (step,) = read("# C\n\n```console\n$ echo a \\\n  b\na b\n$ echo c\nc\n```\n")
    assert [s.text for s in step.script.statements] == ["echo a \\\n  b", "echo c"]
    assert step.expected == Expected("a b\nc", 4)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The text of the answer is `124`.", "124"),
        ("This prints `ok`:", "ok"),
        ("You should see `ok`.", "ok"),
        ("Expected output: `ok`", "ok"),
        ("输出为 `124`。", "124"),
        ("应返回\uff1a`124`", "124"),
        ("回答的文本是 `124`。", "124"),
        ("The output goes to `logs/x`.", None),
        ("If it answers, the folder `x` is full.", None),
        ("Results are stored in `x`.", None),
        ("输出目录在 `x`。", None),
        ("See `docs`.", None),
    ],
)
def test_a_code_span_is_expected_only_right_after_the_word_that_says_so(
    sentence: str, expected: str | None
) -> None:
    (step,) = read(f"# C\n\n```bash\necho 124\n```\n\n{sentence}\n")
    assert (step.expected.text if step.expected else None) == expected


@pytest.mark.parametrize("words", ["It prints:", "Expected output", "输出\uff1a", "You should see"])
def test_a_block_below_words_of_output_is_what_is_expected(words: str) -> None:
    (step,) = read(f'# C\n\n```bash\ncurl x\n```\n\n{words}\n\n```json\n{{"a": 1}}\n```\n')
    assert step.expected == Expected('{"a": 1}', 10, is_json=True)


def test_a_block_without_such_words_is_no_output() -> None:
    (step,) = read('# C\n\n```bash\ncurl x\n```\n\nSettings:\n\n```json\n{"a": 1}\n```\n')
    assert step.expected is None


def test_markers_say_what_words_cannot() -> None:
    first, second = read(
        "# 卡片\n\n1. 启动\n\n"
        "   <!-- relforge:step start ready=http://127.0.0.1:$PORT/health needs=hardware -->\n\n"
        "   ```bash\n   docker run -d x\n   ```\n\n"
        "2. 请求\n\n   <!-- relforge:step request in=project terminal=new -->\n"
        "   ```bash\n   curl y\n   ```\n\n   <!-- relforge:expect contains -->\n"
        "   ```text\n   124\n   ```\n"
    )
    assert first.marker is not None
    assert (first.name, first.marker.ready) == ("start", "http://127.0.0.1:$PORT/health")
    assert first.marker.needs == ("hardware",)
    assert not first.new_terminal
    assert second.marker is not None
    assert (second.name, second.marker.place, second.new_terminal) == ("request", "project", True)
    assert second.expected == Expected("124", 20, contains=True)


@pytest.mark.parametrize(
    ("comment", "why"),
    [
        ("relforge:step", "a step has a name"),
        ("relforge:step Start", "a step has a name"),
        ("relforge:step start redy=x", "'redy' is no attribute"),
        ("relforge:step start ready", "'ready' takes a value"),
        ("relforge:step start background=yes", "'background' takes no value"),
        ("relforge:step start needs=luck", "needs=luck: there are"),
        ("relforge:step start in=home", "in=home: it is card or project"),
        ("relforge:step start ready='x", "No closing quotation"),
        ("relforge:expect exactly", "'exactly' is nothing"),
    ],
)
def test_a_marker_with_a_slip_is_refused_with_its_line(comment: str, why: str) -> None:
    with pytest.raises(RelforgeError) as caught:
        read(f"# C\n\n<!-- {comment} -->\n\n```bash\ntrue\n```\n")
    assert caught.value.code == ExitCode.USAGE
    assert caught.value.where == "card.md:3"
    assert why in (caught.value.why or "")


def test_an_expectation_without_a_command_is_refused() -> None:
    with pytest.raises(RelforgeError, match="stands nowhere"):
        read("# C\n\n<!-- relforge:expect -->\n\n```text\n1\n```\n")


def test_profiles_are_started_in_turn_and_each_is_asked() -> None:
    blocks = [
        "step weights", "step start profile=a", "step start profile=b", "step request",
        "step stop", "step verify",
    ]  # fmt: skip
    found = read("".join(f"<!-- relforge:{b} -->\n\n```bash\ntrue\n```\n\n" for b in blocks))
    assert [(s.name, s.profile) for s in for_profiles(found)] == [
        ("weights", None), ("start", "a"), ("request", "a"), ("stop", "a"), ("start", "b"),
        ("request", "b"), ("stop", "b"), ("verify", None),
    ]  # fmt: skip


def test_where_a_server_is_asked() -> None:
    run = "docker run -p 127.0.0.1:8000:80 x"
    ask = "# C\n\n{words}\n\n```bash\n" + run + "\n```\n\n```bash\n{request}\n```\n"

    def where(words: str = "Start:", request: str = "curl localhost:8000/v1/models") -> object:
        first, *later = read(ask.format(words=words, request=request))
        return question(first, later, {})

    assert where("Ready when `/health` answers:") == Question("http://localhost:8000/health", False)
    assert where() == Question("http://localhost:8000/", True)
    assert where(request="echo") == Question("http://127.0.0.1:8000/", True)
    assert where(request="curl http://localhost:9/") == Question("http://127.0.0.1:8000/", True)


def test_what_a_step_makes_and_what_another_uses() -> None:
    first, second = read(
        "# C\n\n```bash\nPORT=8000\nNAME=box\nhf download a/b --local-dir w\n"
        "docker run -d --name $NAME -p 127.0.0.1:$PORT:80 img\n```\n\n"
        "```bash\ncd w\ndocker exec $NAME ls\ncurl http://127.0.0.1:$PORT/\n```\n"
    )
    variables = known_variables((first, second), {})
    assert variables == {"PORT": "8000", "NAME": "box"}
    assert makes(first, variables) == {
        "$PORT", "$NAME", "folder w", "container box", "port 8000",
    }  # fmt: skip
    assert uses(second, variables) == {
        "$PORT", "$NAME", "folder w", "container box", "port 8000",
    }  # fmt: skip


ANSWER = '{"id": "x", "choices": [{"index": 0, "text": "124", "logprobs": null}], "usage": {}}'
CHAT = '{"choices": [{"message": {"role": "assistant", "content": " 124\\n"}}]}'
STREAM = (
    'data: {"choices": [{"delta": {"role": "assistant"}}]}\n\n'
    'data: {"choices": [{"delta": {"content": "12"}}]}\n\n'
    'data: {"choices": [{"delta": {"content": "4"}}]}\n\ndata: [DONE]\n'
)


@pytest.mark.parametrize("printed", [ANSWER, CHAT, STREAM, "124\n"])
def test_the_text_of_an_answer_is_compared(printed: str) -> None:
    assert difference(Expected("124", 1), printed) is None
    said = difference(Expected("125", 1), printed)
    assert said is not None
    assert "'124', the card says '125'" in said


def test_text_that_only_contains_what_is_expected_is_another_text() -> None:
    assert difference(Expected("124", 1), "1245") is not None
    assert difference(Expected("124", 1, span=True), ANSWER.replace("124", "1245")) is not None
    assert difference(Expected("ok", 1, span=True), "first\nok\n") is None
    assert difference(Expected("ok", 1), "first\nok\n") is not None
    assert difference(Expected("24", 1, contains=True), ANSWER) is None


def test_a_line_of_dots_stands_for_any_lines() -> None:
    wanted = Expected("begin\n...\nend", 1)
    assert difference(wanted, "begin\na\nb\nend\n") is None
    assert difference(wanted, "begin\na\nb\n") is not None


@pytest.mark.parametrize(
    ("wanted", "got", "said"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, None),
        ({"a": [{"b": "x"}]}, {"a": [{"b": "x", "c": 1}]}, None),
        ({"a": "..."}, {"a": {"b": 1}}, None),
        ([1, "..."], [1, 2, 3], None),
        ({"a": 1}, {"b": 1}, "$ has no 'a'"),
        ({"a": [1]}, {"a": [1, 2]}, "$.a has 2 items, the card says 1"),
        ({"a": {"b": 2}}, {"a": {"b": 3}}, "$.a.b is 3, the card says 2"),
        ({"a": True}, {"a": 1}, "$.a is 1, the card says true"),
        ({"a": 1}, [1], "$ is [1], no object"),
    ],
)
def test_json_is_compared_by_what_the_card_shows(
    wanted: object, got: object, said: str | None
) -> None:
    assert subset_difference(wanted, got) == said


def test_json_that_is_none_is_said() -> None:
    assert "is no JSON" in str(difference(Expected("{a", 3, is_json=True), "{}"))
    assert "is no JSON" in str(difference(Expected("{}", 3, is_json=True), "hello"))
    assert difference(Expected('{"a": 1}', 3, is_json=True), 'log line\n{"a": 1}\n') is None


def test_an_error_object_is_a_refusal() -> None:
    assert refusal('{"error": {"message": "no such model"}}') == "no such model"
    assert refusal('{"object": "error", "message": "bad"}') == "bad"
    assert refusal('{"detail": "Not Found"}') == "Not Found"
    assert refusal(ANSWER) is None
    assert refusal("plain") is None
    assert answer_text('{"data": []}') is None
