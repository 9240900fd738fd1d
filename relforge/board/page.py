"""The files of the page: HTML with the index in it, scripts, styles, a script for each release.

A page that is opened from a file may not fetch anything, but it may load scripts: so details come
as scripts that hand over a value. All that comes from records and runs is JSON there, never markup.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relforge.board.model import Details, Index
from relforge.manifest.loader import load
from relforge.manifest.translations import Translations

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent
INDEX = "index.html"
SCRIPTS = (
    "base.js",
    "filter.js",
    "matrix.js",
    "parts.js",
    "release.js",
    "history.js",
    "live.js",
    "main.js",
)
"""In the order in which they are loaded."""
STYLES = ("board.css", "release.css")
ICON = "icon.svg"
_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_STATIC = "connect-src 'none'"
_SERVED = "connect-src 'self'"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; {connect}; "
    "base-uri 'none'; form-action 'none'"
)


def assets() -> dict[str, bytes]:
    """Scripts, styles and the icon, which are the same for every board."""
    return {name: (_FOLDER / "page" / name).read_bytes() for name in (*SCRIPTS, *STYLES, ICON)}


def html(index: Index, *, live: str | None = None) -> bytes:
    """The page. ``live``: it is served, and follows what happened after this."""
    template = _environment().get_template("board.html.j2")
    text = template.render(
        index=script_json(index.model_dump(mode="json")),
        words=script_json({"zh": words()}),
        scripts=SCRIPTS,
        styles=STYLES,
        policy=policy(live=live is not None),
        live=live,
        relforge=index.relforge,
    )
    return text.encode()


def policy(*, live: bool) -> str:
    """The Content-Security-Policy: nothing but the board's own files, and no inline script."""
    return _POLICY.format(connect=_SERVED if live else _STATIC)


def details_script(details: Details) -> bytes:
    """The script of a release."""
    name = script_json(details.release)
    return f"board.details({name}, {script_json(details.model_dump(mode='json'))});\n".encode()


def script_json(value: Any) -> str:
    """JSON that means the same inside a script element and in a script, whatever it holds."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char, escaped in _ESCAPES.items():
        text = text.replace(char, escaped)
    # Half a character of UTF-16 has no UTF-8.
    return text.encode("utf-8", "backslashreplace").decode()


@lru_cache(maxsize=1)
def words() -> Mapping[str, str]:
    """The page's texts in Chinese, by the English ones."""
    return load(_FOLDER / "words" / "zh.yaml", Translations).sentences


def _finite(value: Any) -> Any:
    """The same; a number that JSON does not have is None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [_finite(one) for one in value]
    return value


@lru_cache(maxsize=1)
def _environment() -> Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "page"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
