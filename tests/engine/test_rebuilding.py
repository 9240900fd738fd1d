"""Builds repeated in a real engine: what is the same, and how a planted change is named."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from relforge.engine.build_words import BuildRequest
from relforge.engine.buildx import build, build_layout
from relforge.engine.images import find_image
from relforge.engine.prune import prune_cache_mounts
from relforge.manifest.site import Site
from relforge.oci.copying import copy
from relforge.oci.layout_store import LayoutStore
from relforge.oci.reference import Repository
from relforge.oci.registry import RegistryStore
from relforge.rebuilding.compare import compare_images
from relforge.rebuilding.entries import opened
from relforge.rebuilding.image import from_layout, named
from relforge.rebuilding.text import lines
from tests.engine.conftest import Registry

Make = Callable[..., BuildRequest]
STEADY = "RUN echo steady > /steady && touch -d @315532800 /steady /\n"


def twice(request: BuildRequest, folder: Path) -> tuple[Path, Path]:
    """Two layouts of one request, each of whose steps really ran, more than a second apart."""
    layouts = (folder / "first", folder / "second")
    for layout in layouts:
        build_layout(request.model_copy(update={"layout": layout, "no_cache": True}))
        time.sleep(1.1)
    return layouts


def test_a_planted_time_is_named_with_layer_step_and_path(
    request_for: Make, tmp_path: Path
) -> None:
    request = request_for(f"FROM BASE\n{STEADY}RUN mkdir /a && date > /a/stamp\n{STEADY}")
    one, other = twice(request, tmp_path)
    found = compare_images(from_layout(one), from_layout(other))
    (layer,) = found.layers
    assert layer.created_by.startswith("RUN /bin/sh -c mkdir /a && date > /a/stamp")
    files = {file.path: file for file in layer.files}
    assert files["/a/stamp"].kinds == ("content", "mtime")
    assert "line 1 (a date)" in str(files["/a/stamp"].hint)
    assert files["/a"].kinds == ("mtime",)
    assert found.fields == (), "the configuration has no time of the build"
    report = "\n".join(lines(found))
    assert f"layer {layer.index}, RUN /bin/sh -c mkdir /a && date > /a/stamp" in report
    assert "/a/stamp: content, mtime" in report


def test_planted_random_bytes_are_named(request_for: Make, tmp_path: Path) -> None:
    steady_times = "touch -d @315532800 /random /"
    step = f"RUN head -c 8 /dev/urandom > /random && {steady_times}\n"
    one, other = twice(request_for(f"FROM BASE\n{STEADY}{step}"), tmp_path)
    (layer,) = compare_images(from_layout(one), from_layout(other)).layers
    (file,) = layer.files
    assert (file.path, file.kinds) == ("/random", ("content",))


def test_steps_that_settle_their_times_are_identical(request_for: Make, tmp_path: Path) -> None:
    one, other = twice(request_for(f"FROM BASE\n{STEADY}"), tmp_path)
    assert compare_images(from_layout(one), from_layout(other)).identical


def test_a_layout_alone_leaves_the_engines_image_as_it_is(
    request_for: Make, tmp_path: Path
) -> None:
    request = request_for(f"FROM BASE\nRUN echo {secrets.token_hex(8)} > /word && date >> /word\n")
    first = build(request)
    again = build_layout(
        request.model_copy(update={"layout": tmp_path / "again", "no_cache": True})
    )
    assert again.digest != first.image_digest
    kept = find_image(request.image_name)
    assert kept is not None
    assert kept.id == first.engine_image_id


def test_cache_mounts_of_a_rebuild_begin_empty_and_are_removed(
    request_for: Make, tmp_path: Path
) -> None:
    cache = f"/cache-{secrets.token_hex(4)}"
    namespace = f"relforge-test-{secrets.token_hex(6)}"

    def seen(**changes: object) -> int:
        """How often builds have written to the cache mount, this one included."""
        command = f"echo x >> {cache}/f && cat {cache}/f > /seen && echo {secrets.token_hex(8)}"
        request = request_for(f"FROM BASE\nRUN --mount=type=cache,target={cache} {command}\n")
        folder = tmp_path / secrets.token_hex(4)
        build_layout(request.model_copy(update={"layout": folder, **changes}))
        image = from_layout(folder)
        last = image.manifest["layers"][-1]["digest"]
        with opened(lambda: image.open_layer(last), "last") as layer:
            return sum(
                content.read().count(b"x")
                for entry, content in layer.members()
                if content is not None and entry.path == "/seen"
            )

    assert [seen(), seen()] == [1, 2]
    assert seen(no_cache=True, cache_mounts=namespace) == 1
    assert seen() == 3, "other builds' cache mounts stay as they are"
    assert prune_cache_mounts(namespace).removed == 1
    assert prune_cache_mounts(namespace).removed == 0
    assert seen() == 4


def test_images_of_a_registry_are_compared(
    request_for: Make, tmp_path: Path, registry: Registry
) -> None:
    target = Repository.parse(f"{registry.host}/team/rebuilt")
    first = build(request_for(f"FROM BASE\nRUN echo {secrets.token_hex(8)} > /word\n"))
    there_too = RegistryStore(target, site=Site())
    copy(LayoutStore(first.layout), there_too, first.image_digest, tag="one")
    there = named(f"{target}:one", Site())
    assert compare_images(there, from_layout(first.layout)).identical
    second = build(request_for(f"FROM BASE\nRUN echo {secrets.token_hex(8)} > /word\n"))
    found = compare_images(there, from_layout(second.layout))
    (layer,) = found.layers
    assert "/word" in {file.path for file in layer.files}
    assert found.first.place == f"{target}@{first.image_digest}"
