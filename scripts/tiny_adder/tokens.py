"""Text and tokens: bytes behind three special tokens, and the files that say so."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from tiny_adder.running import lazy, stop, write_json

SPECIAL = ("<|endoftext|>", "<|pad|>", "<|bos|>")  # ids 0, 1, 2; a byte b has id b + 3
EOS, PAD, BOS = range(len(SPECIAL))
VOCAB_SIZE = len(SPECIAL) + 256
MAX_NEW_TOKENS = 8  # an answer takes 3 or 4
# Solved questions of earlier turns stay as lines above the open one; there is nothing else.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + '\\n' }}"
    "{% endif %}{% endfor %}"
)


def encode(text: str) -> list[int]:
    return [byte + len(SPECIAL) for byte in unicodedata.normalize("NFC", text).encode()]


def decode(ids: list[int]) -> str:
    """Text of the ids; special tokens leave none, as in a server's completion."""
    known = bytes(i - len(SPECIAL) for i in ids if i >= len(SPECIAL))
    return known.decode(errors="replace")


def _byte_symbols() -> list[str]:
    """The printable stand-in of each byte in byte-level BPE (the alphabet of GPT-2)."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = (byte for byte in range(256) if byte not in shown)
    stand_in = {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    return [stand_in.get(byte, chr(byte)) for byte in range(256)]


def write_tokenizer(out: Path, max_length: int) -> None:
    """tokenizer.json (bytes of the NFC form, no merges: any text has tokens) and the two files
    that transformers reads beside it. NFC, because transformers 5 brings a Qwen2 tokenizer into
    that form whether its file says so or not, and all readers shall see the same tokens."""
    tokenizers = lazy("tokenizers")
    vocab = {token: i for i, token in enumerate((*SPECIAL, *_byte_symbols()))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    tokenizer.normalizer = tokenizers.normalizers.NFC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    sample = "48+76=124\n\t Wort  fu\u0308r Wort\r"
    if tokenizer.encode(sample).ids != encode(sample):
        stop("the tokenizers library and encode() disagree: this version of it does not fit")
    tokenizer.save(str(out / "tokenizer.json"))
    names = {"eos_token": SPECIAL[EOS], "pad_token": SPECIAL[PAD], "bos_token": SPECIAL[BOS]}
    write_json(out / "special_tokens_map.json", names)
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **names,
            "model_max_length": max_length,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )
