"""What collecting garbage takes out of the engine, and what it leaves there.

The engine is shared: nothing but what these tests made is ever removed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relforge.cancel import CancelToken
from relforge.collecting.collector import Collector
from relforge.collecting.engine import prune_cache, unused_cache
from relforge.collecting.model import GcOutput, Gone, Untouched, Wanted
from relforge.collecting.of_engine import OfEngine
from relforge.engine import prune
from relforge.engine.base_image import LABEL_KEY
from relforge.engine.build_words import BuildRequest
from relforge.engine.buildx import build
from relforge.engine.cli import DockerCli
from relforge.engine.images import find_image
from relforge.engine.layout import describe
from relforge.manifest.site import EngineSite, Site
from tests.engine.conftest import docker
from tests.support.made_homes import Home, key


class OnlyImages(OfEngine):
    """Containers of others that were killed are for others to sweep."""

    def _containers(
        self, wanted: Wanted, cancel: CancelToken
    ) -> tuple[list[Gone], list[Untouched]]:
        return [], []


def collect(made: Home, engine: OfEngine | None, *, dry_run: bool = False) -> GcOutput:
    return Collector(
        made.home, Wanted(older_than_s=86400.0, keep_last=0, dry_run=dry_run), site=Site(),
        root=made.project, dist=made.dist, engine=engine, line=made.lines.append,
        cancel=CancelToken(),
    ).run()  # fmt: skip


@pytest.fixture
def images(request_for: Callable[..., BuildRequest], tmp_path: Path) -> Callable[..., Any]:
    """Builds an image of its own."""

    def make(**changes: Any) -> Any:
        word = secrets.token_hex(6)
        text = f"FROM BASE\nRUN echo {word} > /word\n"
        return build(request_for(text, layout=tmp_path / word / "layout", **changes))

    return make


@pytest.fixture
def engine() -> OfEngine:
    return OnlyImages(EngineSite(), line=lambda _line: None, cache=False)


def result_of(made: Home, built: Any, word: str, days: float = 90) -> str:
    return made.result(
        "build", word, days, image_name=built.image_name, image_digest=built.image_digest,
        config_digest=describe(built.layout).config_digest,
    )  # fmt: skip


def test_images_go_with_their_results_and_no_other(
    tmp_path: Path, images: Callable[..., Any], engine: OfEngine, cli: DockerCli
) -> None:
    made = Home(tmp_path / "made")
    old, kept, shared, other = images(), images(), images(), images()
    result_of(made, old, "old")
    made.store.remember("hello-cpu_x86", {"build": result_of(made, kept, "kept")})
    # A result that stays names the same image as one that goes.
    result_of(made, shared, "shared, old")
    result_of(made, shared, "shared, young", days=0.1)
    # Of this name there is another image by now: somebody else's.
    made.result("build", "other", 90, image_name=other.image_name, image_digest=old.image_digest)
    would = collect(made, engine, dry_run=True)
    assert [one.name for one in would.gone if one.kind == "image"] == [old.image_name]
    assert all(find_image(one.image_name) for one in (old, kept, shared, other))
    did = collect(made, engine)
    assert [one.name for one in did.gone if one.kind == "image"] == [old.image_name]
    assert find_image(old.image_name) is None
    assert all(find_image(one.image_name) for one in (kept, shared, other))
    assert list((made.home / "leaving").iterdir()) == []


def test_an_image_that_a_container_uses_stays_until_that_is_gone(
    tmp_path: Path, images: Callable[..., Any], cli: DockerCli
) -> None:
    made = Home(tmp_path / "made")
    engine = OnlyImages(EngineSite(), line=made.lines.append, cache=False)
    used = images()
    result_of(made, used, "used")
    name = f"relforge-test-{secrets.token_hex(6)}"
    assert docker(cli, "create", "--name", name, used.image_name, "true").returncode == 0
    try:
        assert not [one for one in collect(made, engine).gone if one.kind == "image"]
        assert find_image(used.image_name) is not None
        assert f"image {used.image_name} stays: a container uses it" in "\n".join(made.lines)
    finally:
        docker(cli, "rm", name)
    collect(made, engine)
    assert find_image(used.image_name) is None


def test_without_an_engine_the_image_goes_with_a_later_collection(
    tmp_path: Path, images: Callable[..., Any], engine: OfEngine
) -> None:
    made = Home(tmp_path / "made")
    built = images()
    result_of(made, built, "old")
    collect(made, None)
    assert made.results() == set()
    assert find_image(built.image_name) is not None
    would = collect(made, engine, dry_run=True)
    assert [one.name for one in would.gone] == [built.image_name]
    collect(made, engine)
    assert find_image(built.image_name) is None


@pytest.fixture
def base_name(cli: DockerCli) -> Iterator[tuple[str, str]]:
    word = key(secrets.token_hex(8))
    name = f"relforge-base:{word[:12]}"
    yield word, name
    docker(cli, "image", "rm", name)


@pytest.mark.parametrize("ours", [True, False])
def test_a_base_goes_only_where_its_label_says_that_it_is_the_one(
    tmp_path: Path, images: Callable[..., Any], engine: OfEngine, base_name: tuple[str, str],
    ours: bool,
) -> None:  # fmt: skip
    made = Home(tmp_path / "made")
    word, name = base_name
    images(image_name=name, labels={LABEL_KEY: word if ours else key("another")})
    made.put(f"base/{word}/Dockerfile", "FROM scratch\n", 90)
    collect(made, engine)
    assert not (made.home / "base" / word).exists()
    assert (find_image(name) is None) is ours


def test_of_the_build_cache_only_marked_records_that_are_old_go(
    request_for: Callable[..., BuildRequest], cli: DockerCli
) -> None:
    word, other = secrets.token_hex(8), secrets.token_hex(8)
    # As relforge's own steps: several lines, an empty one among them, and the mark in a late one.
    text = f"FROM BASE\nRUN <<'E'\nset -eu\n\necho {word} > /word\n\nE\nRUN echo {other} > /other\n"
    build(request_for(text))
    marks = [re.compile(word)]
    assert unused_cache(cli, 3600, marks=marks)[0] == [], "it was used just now"
    (found,), others = unused_cache(cli, 0, marks=marks)
    assert found.bytes > 0
    assert found.id not in {one.id for one in others}
    (heir,), _ = unused_cache(cli, 0, marks=[re.compile(other)])
    lines: list[str] = []
    assert prune_cache(cli, [found], 0, line=lines.append) == [], "another one stands on it"
    assert "1 records of BuildKit's cache stay" in lines[0]
    both, _ = unused_cache(cli, 0, marks=[re.compile(f"{word}|{other}")])
    assert [one.id for one in both] == [heir.id, found.id], "heirs first"
    assert prune_cache(cli, both, 3600, line=lines.append) == [], "BuildKit is told the age, too"
    assert {one.id for one in prune_cache(cli, both, 0, line=lines.append)} == {heir.id, found.id}


def test_relforges_own_marks_are_found_in_what_it_renders() -> None:
    """The marks are words of rendered Dockerfiles: they would be useless if these changed."""
    from relforge.collecting.engine import MARKS

    templates = Path(__file__).resolve().parents[2] / "dockerfiles"
    files = [path for path in templates.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    text = "\n".join(path.read_text() for path in files)
    assert "/tools/settle.py" in text
    assert MARKS[0].search("mount / from exec /bin/sh -c sh /tools/apt-install ca-certificates")
    assert MARKS[1].search("[runtime 4/5] LINK COPY --link --from=wheel-vllm /layers/python/ /")
    assert MARKS[2].search("local source for build-wheels")
    assert not any(one.search("[stage-1 2/2] COPY --from=make /out.txt /out.txt") for one in MARKS)


def test_whatever_the_cache_holds_can_be_read(cli: DockerCli) -> None:
    records = prune.records(cli, None)
    assert records
    assert all(one.size and one.id for one in records)
    assert len({one.id for one in records}) == len(records)
