"""Builds: what a user gets from one, what a failing one says, what none may leave behind."""

from __future__ import annotations

import json
import secrets
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from relforge.cancel import CancelToken
from relforge.engine.build_words import BuildRequest
from relforge.engine.buildx import build
from relforge.engine.cli import DockerCli, EngineFacts, find_cli
from relforge.engine.images import find_image, load_into_engine, unpacked_bytes
from relforge.engine.layout import verify
from relforge.engine.prune import prune_source_cache
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.manifest.site import EngineSite
from tests.engine.conftest import docker

Make = Callable[..., BuildRequest]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "marker.txt").write_text(f"marker-{secrets.token_hex(16)}\n")
    return folder


def test_layout_and_engine_hold_the_same_image(
    request_for: Make, context: Path, cli: DockerCli
) -> None:
    request = request_for(
        "FROM BASE AS make\n"
        "ARG WORD\n"
        "RUN --mount=type=bind,from=source,target=/source cat /source/marker.txt > /out.txt"
        " && echo $WORD >> /out.txt\n"
        "FROM BASE\n"
        "COPY --from=make /out.txt /out.txt\n",
        contexts={"source": context},
        args={"WORD": "said, with comma"},
        labels={"org.opencontainers.image.title": "two words"},
    )
    lines: list[str] = []
    first = build(request, ctx_line=lines.append)

    facts = verify(first.layout)
    assert facts == first.image
    assert first.engine_image_id == first.image_digest
    assert facts.labels["org.opencontainers.image.title"] == "two words"
    assert facts.created == "2023-11-14T22:13:20Z"
    assert facts.layers[-1].media_type.endswith("tar+zstd")
    assert sum(path.stat().st_size for path in first.layout.glob("blobs/*/*")) == facts.size_bytes
    assert unpacked_bytes(first.image_name, first.engine_image_id, facts) > facts.size_bytes
    assert (first.steps_cached, first.steps_run) == (0, 2)
    assert any(line.startswith("[stage-1 2/2] COPY") for line in lines)
    said = docker(cli, "run", "--rm", request.image_name, "cat", "/out.txt").stdout
    assert said == (context / "marker.txt").read_text() + "said, with comma\n"

    again = build(request)
    assert again.image == first.image
    assert (again.steps_cached, again.steps_run) == (2, 0)
    repeated = subprocess.run(
        ["sh", str(request.log.parent / "rebuild.sh")], capture_output=True, text=True
    )
    assert repeated.returncode == 0, repeated.stderr
    assert first.image_digest in repeated.stderr + repeated.stdout
    assert sorted(p.name for p in request.layout.parent.iterdir()) == [
        "build.log",
        "layout",
        "rebuild.sh",
    ]


def test_a_failing_step_is_named_with_its_last_words(request_for: Make) -> None:
    request = request_for("FROM BASE\nRUN echo before\nRUN echo last words >&2; false_program\n")
    with pytest.raises(RelforgeError) as caught:
        build(request)
    error = caught.value
    assert error.code is ExitCode.BUILD
    assert error.where == f"{request.dockerfile}:3"
    assert "[3/3] RUN echo last words" in error.what
    assert error.why is not None
    assert "exit code: 127" in error.why
    assert "last words" in error.why
    assert error.log == str(request.log)
    assert "last words" in request.log.read_text()
    assert error.hint is not None
    assert "rebuild.sh" in error.hint
    assert not request.layout.exists()
    assert [p for p in request.layout.parent.iterdir() if p.name.startswith(".")] == []


def test_a_dockerfile_that_cannot_be_read_is_named_with_its_line(request_for: Make) -> None:
    request = request_for("FROM BASE\nRUNN echo\n")
    with pytest.raises(RelforgeError) as caught:
        build(request)
    assert caught.value.code is ExitCode.BUILD
    assert caught.value.where == f"{request.dockerfile}:2"
    assert "unknown instruction" in (caught.value.why or "")


def test_a_full_disk_is_told_from_a_broken_build(request_for: Make) -> None:
    # The kernel's own words, on a file system that is full: a tmpfs of 64 KiB.
    request = request_for(
        "FROM BASE\nRUN --mount=type=tmpfs,target=/small,size=65536 cp /bin/busybox /small/x\n"
    )
    with pytest.raises(RelforgeError) as caught:
        build(request)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "disk ran full" in caught.value.what


def test_cancelling_ends_the_build_and_leaves_nothing(request_for: Make) -> None:
    request = request_for(f"FROM BASE\nRUN echo {secrets.token_hex(8)} started && sleep 60\n")
    cancel = CancelToken()
    started = time.monotonic()

    def watch(line: str) -> None:
        if line.endswith("started"):
            threading.Timer(0.2, cancel.cancel, ["the test says so"]).start()

    with pytest.raises(Cancelled, match="the test says so"):
        build(request, ctx_line=watch, cancel=cancel)
    assert time.monotonic() - started < 30
    assert not request.layout.exists()
    assert [p for p in request.layout.parent.iterdir() if p.name.startswith(".")] == []


def test_rewritten_timestamps_give_the_same_digest_twice(request_for: Make) -> None:
    request = request_for(
        "FROM BASE\nRUN mkdir -p /a/b && echo hi > /a/b/c\n",
        rewrite_timestamps=True,
        no_cache=True,
    )
    first = build(request)
    time.sleep(1.1)
    assert build(request).image_digest == first.image_digest


def test_a_secret_is_readable_in_the_build_and_nowhere_else(
    request_for: Make, tmp_path: Path
) -> None:
    secret = f"secret-{secrets.token_hex(16)}"
    (tmp_path / "with, comma").write_text(secret)
    request = request_for(
        "FROM BASE\nRUN --mount=type=secret,id=word,required=true "
        f"cat /run/secrets/word | head -c 7 > /start-{secrets.token_hex(8)}\n",
        secrets={"word": tmp_path / "with, comma"},
    )
    result = build(request)
    assert result.steps_run == 1
    for path in (request.log, request.log.parent / "rebuild.sh"):
        assert secret not in path.read_text()
    for blob in request.layout.glob("blobs/*/*"):
        assert secret.encode() not in blob.read_bytes()


def test_an_image_that_the_engine_lost_is_loaded_again(request_for: Make, cli: DockerCli) -> None:
    request = request_for(f"FROM BASE\nRUN echo {secrets.token_hex(8)} > /word\n")
    result = build(request)
    assert docker(cli, "image", "rm", "--force", request.image_name).returncode == 0
    assert find_image(request.image_name) is None
    loaded = load_into_engine(request.layout, request.image_name)
    assert loaded.loaded
    assert loaded.id == result.image_digest
    assert not load_into_engine(request.layout, request.image_name).loaded


def test_sealed_sources_leave_the_build_cache_and_the_rest_stays(
    request_for: Make, context: Path, facts: EngineFacts, tmp_path: Path
) -> None:
    since = tmp_path / "since"
    since.touch()
    marker = (context / "marker.txt").read_text().strip()
    name = f"sealed-{secrets.token_hex(4)}"
    request = request_for(
        "FROM BASE AS deps\n"
        f"RUN echo dependencies of {name} > /deps\n"
        "FROM deps AS bind\n"
        f"RUN --mount=type=bind,from={name},target=/source,rw --mount=type=tmpfs,target=/work"
        " cp /source/marker.txt /work/ && head -c 6 /work/marker.txt > /out\n"
        "FROM deps AS copied\n"
        f"COPY --from={name} / /source/\n"
        "RUN head -c 5 /source/marker.txt > /out2\n"
        "FROM deps\n"
        "COPY --from=bind /out /out\n"
        "COPY --from=copied /out2 /out2\n",
        contexts={name: context},
    )
    build(request)
    # A changed tree makes BuildKit keep the earlier state in a record of its own.
    (context / "another.txt").write_text("x")
    build(request)
    assert _holding(facts, marker, since)

    pruned = prune_source_cache([name])
    assert pruned.in_use == ()
    assert pruned.removed >= 4
    deadline = time.monotonic() + 20
    while (left := _holding(facts, marker, since)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []
    build(request)
    log = request.log.read_text()
    assert f"[deps 2/2] RUN echo dependencies of {name} > /deps: cached" in log
    prune_source_cache([name])
    assert prune_source_cache([name]).removed == 0


def test_an_engine_that_does_not_answer(request_for: Make) -> None:
    request = request_for("FROM BASE\n")
    started = time.monotonic()
    with pytest.raises(RelforgeError) as caught:
        build(request, site=EngineSite(host="unix:///nonexistent/docker.sock"))
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "/nonexistent/docker.sock" in str(caught.value)
    assert time.monotonic() - started < 5


def test_clients_without_buildx_are_passed_over(
    tmp_path: Path, cli: DockerCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "docker"
    info = json.dumps({"ClientInfo": {"Plugins": [{"Name": "buildx", "Version": "v0.12.1"}]}})
    old.write_text(f"#!/bin/sh\necho '{info}'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{cli.program.parent}:/usr/bin:/bin")
    assert find_cli().program == cli.program
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RelforgeError) as caught:
        find_cli()
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "0.12.1" in (caught.value.why or "")


def _holding(facts: EngineFacts, marker: str, since: Path) -> list[str]:
    """Files of the engine, changed since, that hold the marker."""
    roots = [Path(facts.data_root), Path(facts.data_root).parent / "containerd"]
    test = ("-type", "f", "-cnewer", str(since), "-exec", "grep", "-laF", marker, "{}", "+")
    found = subprocess.run(
        ["find", *(str(root) for root in roots if root.is_dir()), *test],
        capture_output=True,
        text=True,
    )
    return found.stdout.split()
