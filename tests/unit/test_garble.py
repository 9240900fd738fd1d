"""Rubbish is found without a reference, and real text is let pass."""

# ruff: noqa: RUF001 (other scripts)

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from pydoc_data import topics

import pytest

from relforge.serving.garble import garble

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "Write two sentences about what a library is for."
WORDS = [
    word
    for text in topics.topics.values()
    for word in text.split()
    if word.isalpha() and len(word) > 2
]


def pieces(text: str, rng: random.Random) -> list[str]:
    return [
        text[at : at + rng.choice((60, 200, 500, 1200))] for at in range(0, len(text) - 200, 1500)
    ]


def real_texts() -> list[str]:
    rng = random.Random(0)
    found: list[str] = []
    for text in topics.topics.values():
        found += pieces(text, rng)
    # These two spell the very marks that garble is known by.
    spelling = {ROOT / "docs" / "smoke.md", ROOT / "relforge" / "serving" / "garble.py"}
    for path in (*ROOT.glob("docs/*.md"), *ROOT.glob("relforge/**/*.py"), ROOT / "LICENSE"):
        if path not in spelling:
            found += pieces(path.read_text(), rng)
    return found


def test_prose_code_and_tables_are_no_garble() -> None:
    texts = real_texts()
    assert len(texts) > 900
    wrong = [(found, text) for text in texts if (found := garble(text, languages=("en",)))]
    assert len(wrong) <= len(texts) / 500, wrong


@pytest.mark.parametrize(
    "text",
    [
        "4",
        "124",
        "3.14159265358979323846264338327950288419716939937510582097494459",
        "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n",
        "1000000000000000000000000000000",
        "Yes, yes, yes!",
        "```python\nfor i in range(10):\n    print(i)\n```",
        "La bibliothèque prête des livres ; c'est utile à tous. Où est-elle ?",
        "α + β = γ, and so σ² = 4.",
        "The film is called 千と千尋の神隠し and is by Hayao Miyazaki, of Studio Ghibli.",
        "Library 📚 means books, and 🙂 readers.",
    ],
)
def test_odd_but_sound_answers_are_no_garble(text: str) -> None:
    assert garble(text, languages=("en", "ja"), prompt=QUESTION) is None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda rng, n: f"{rng.choice(WORDS)} " * n, "over and over"),
        (lambda rng, n: " ".join(rng.sample(WORDS, 6) * n), "over and over"),
        (
            lambda rng, n: " ".join(rng.sample(WORDS, 5)) + f" {rng.choice(WORDS)}," * n,
            "over and over",
        ),
        (lambda _rng, n: "!" * n, "one sign over and over"),
        (lambda rng, n: rng.randbytes(n).decode("utf-8", "replace"), "invalid or control"),
        (
            lambda rng, n: "".join(
                rng.choice("abcdefgh") + chr(rng.choice((0x431, 0x56FE, 0xAC00, 0xE01)) + k % 16)
                for k in range(n)
            ),
            "letters in scripts",
        ),
        (lambda rng, n: "\u0120".join(rng.sample(WORDS, n)), "pieces of the tokenizer"),
        (lambda _rng, n: "<unk>" * n, "pieces of the tokenizer"),
        (lambda _rng, n: "请用两句话说明图书馆。" * (n // 8), "over and over"),
        (lambda _rng, _n: "这是一座图书馆，里面有许多书籍，供人借阅。", "letters in"),
        (lambda _rng, _n: "naÃ¯ve cafÃ© at the rÃ©sumÃ©", "another encoding"),
    ],
)  # fmt: skip
def test_what_no_working_model_writes_is_found(
    make: Callable[[random.Random, int], str], says: str
) -> None:
    rng = random.Random(1)
    for _ in range(50):
        text = make(rng, rng.choice((60, 100, 150)))
        found = garble(text, languages=("en",), prompt=QUESTION)
        assert found is not None, text
        assert says in found, text


def test_another_language_than_the_question_is_drift_only_where_it_is_most_of_the_answer() -> None:
    chinese = "图书馆是保存和借阅书籍的地方，人们在那里学习。"
    assert garble(chinese, languages=("en", "zh"), prompt="图书馆有什么用处？") is None
    found = garble(chinese, languages=("en", "zh"), prompt=QUESTION)
    assert found is not None
    assert "scripts that the question does not use, most Cjk" in found
    assert garble(f"In Chinese it is called 图书馆. {WORDS[0]}", languages=("en", "zh")) is None


def test_a_text_that_the_model_finds_unlikely_is_garble() -> None:
    salad = "A spoon under hats lends by the of a green between"
    assert garble(salad, languages=("en",), prompt=QUESTION) is None
    found = garble(salad, languages=("en",), prompt=QUESTION, logprobs=[-7.0] * 12)
    assert found == "the model itself finds it unlikely: 7.0 nats a token"
    assert garble(salad, languages=("en",), logprobs=[None, *[-0.4] * 30]) is None
    assert garble("ok", logprobs=[-9.0] * 3) is None, "three tokens prove nothing"
    assert garble("ok", logprobs=[float("nan")]) == "log-probabilities that are no numbers"
