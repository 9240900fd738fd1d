"""Two images against each other: every kind of difference is named, with its layer and path."""

from __future__ import annotations

import gzip
import io
import json
import py_compile
import struct
import tarfile
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from relforge.cli import main
from relforge.errors import ExitCode, RelforgeError
from relforge.rebuilding.compare import compare_images
from relforge.rebuilding.files import LISTED
from relforge.rebuilding.hints import content_hint
from relforge.rebuilding.image import from_layout
from relforge.rebuilding.model import Comparison, FileDifference, LayerDifference
from relforge.rebuilding.text import lines
from tests.support.handmade import EPOCH_S, HandLayer, Member, layout

FILE = Member("opt/a.txt", b"one\n")
FOLDER = Member("opt", type=tarfile.DIRTYPE, mode=0o755)
LINK = Member("opt/link", type=tarfile.SYMTYPE, link="a.txt", mode=0o777)
NODE = Member("dev/null", type=tarfile.CHRTYPE, device=(1, 3))
CAPABLE = Member("bin/ping", b"\x7fELF", pax={"SCHILY.xattr.security.capability": "one"})
BASE = HandLayer([Member("etc/issue", b"base\n")], created_by="ADD rootfs.tar /")


def compared(folder: Path, first: HandLayer, second: HandLayer) -> Comparison:
    """Of two images on the same base, whose second layer differs."""
    one = layout(folder / "one", [BASE, first])
    other = layout(folder / "two", [BASE, second])
    return compare_images(from_layout(one), from_layout(other))


def only_layer(found: Comparison) -> LayerDifference:
    assert not found.identical
    assert found.fields == ()
    (layer,) = found.layers
    assert (layer.index, layer.created_by) == (1, "RUN make")
    return layer


def only_file(found: Comparison) -> FileDifference:
    layer = only_layer(found)
    assert layer.kind == "content"
    (file,) = layer.files
    assert layer.files_differ == 1
    assert layer.counts == dict.fromkeys(file.kinds, 1)
    return file


@pytest.mark.parametrize(
    ("left", "right", "kinds", "said"),
    [
        (FILE, replace(FILE, content=b"two\n"), ("content",), "(4 B) → "),
        (FILE, replace(FILE, mode=0o600), ("mode",), "mode 0644 → 0600"),
        (FILE, replace(FILE, mode=0o4644), ("mode",), "mode 0644 → 4644"),
        (FILE, replace(FILE, uid=10001), ("owner",), "owner 0:0 → 10001:0"),
        (FILE, replace(FILE, gid=43), ("owner",), "owner 0:0 → 0:43"),
        (FILE, replace(FILE, mtime=EPOCH_S + 1), ("mtime",), "1980-01-01T00:00:01Z"),
        (FILE, replace(FILE, mtime=EPOCH_S + 0.5), ("mtime",), "1980-01-01T00:00:00.5Z"),
        (FOLDER, replace(FOLDER, mtime=0), ("mtime",), "1970-01-01T00:00:00Z"),
        (LINK, replace(LINK, link="b.txt"), ("link",), "link a.txt → b.txt"),
        (NODE, replace(NODE, device=(1, 5)), ("device",), "device (1, 3) → (1, 5)"),
        (
            CAPABLE,
            replace(CAPABLE, pax={"SCHILY.xattr.security.capability": "two"}),
            ("xattrs",),
            "security.capability='one' → security.capability='two'",
        ),
        (CAPABLE, replace(CAPABLE, pax={}), ("xattrs",), "→ none"),
        (FILE, replace(FILE, pax={"atime": "7"}), ("headers",), "none → atime='7'"),
        (FILE, replace(LINK, path=FILE.path), ("type",), "type file → symbolic link"),
        (
            FILE,
            replace(FILE, content=b"longer\n", mode=0o755, mtime=0),
            ("content", "mode", "mtime"),
            "(7 B); mode 0644 → 0755; mtime ",
        ),
    ],
)
def test_every_kind_of_difference_of_a_file_is_named(
    tmp_path: Path, left: Member, right: Member, kinds: tuple[str, ...], said: str
) -> None:
    around = [Member("a"), Member("z")]
    found = compared(
        tmp_path,
        HandLayer([around[0], left, around[1]]),
        HandLayer([around[0], right, around[1]]),
    )
    file = only_file(found)
    assert (file.path, file.kinds) == (f"/{left.path}", kinds)
    assert said in file.detail
    report = "\n".join(lines(found))
    assert "layer 1, RUN make" in report
    assert f"  /{left.path}: {', '.join(kinds)}" in report


def test_missing_and_extra_files_are_named(tmp_path: Path) -> None:
    whiteout = Member("var/log/.wh.dpkg.log")
    found = compared(tmp_path, HandLayer([FOLDER, FILE]), HandLayer([FOLDER, LINK, whiteout]))
    layer = only_layer(found)
    assert {f.path: (f.kinds, f.detail) for f in layer.files} == {
        "/opt/a.txt": (("missing",), "file, 4 B"),
        "/opt/link": (("extra",), "symbolic link"),
        "/var/log/.wh.dpkg.log": (("extra",), "file, 0 B"),
    }
    assert layer.counts == {"missing": 1, "extra": 2}


def test_another_order_is_told_from_other_files(tmp_path: Path) -> None:
    found = compared(tmp_path, HandLayer([FOLDER, FILE, LINK]), HandLayer([FOLDER, LINK, FILE]))
    layer = only_layer(found)
    assert (layer.kind, layer.order, layer.files) == ("packing", "/opt/link", ())
    assert "every file is the same; the tar is not" in "\n".join(lines(found))


def test_a_path_that_a_layer_has_twice_is_compared_both_times(tmp_path: Path) -> None:
    again = replace(FILE, content=b"later\n")
    found = compared(tmp_path, HandLayer([FILE, again]), HandLayer([FILE, FILE]))
    assert only_file(found).kinds == ("content",)


def test_padding_of_the_tar_is_told_from_files(tmp_path: Path) -> None:
    layer = only_layer(compared(tmp_path, HandLayer([FILE]), HandLayer([FILE], padding=20)))
    assert (layer.kind, layer.order, layer.files) == ("packing", None, ())
    assert "padding" in layer.detail


@pytest.mark.parametrize(("how", "level"), [("gzip", 6), ("none", 0), ("zstd", 19)])
def test_compression_alone_is_told_from_content(tmp_path: Path, how: str, level: int) -> None:
    many = [Member(f"f{i}", b"some text %d\n" % i * 50) for i in range(30)]
    found = compared(tmp_path, HandLayer(many), HandLayer(many, compression=how, level=level))
    layer = only_layer(found) if how == "zstd" else next(iter(found.layers))
    assert layer.kind == "compression"
    assert f"→ {how}, " in layer.detail
    assert layer.files == ()


def test_layers_of_different_compression_are_compared_by_content(tmp_path: Path) -> None:
    other = replace(FILE, content=b"two\n")
    found = compared(tmp_path, HandLayer([FILE]), HandLayer([other], compression="gzip"))
    assert only_file(found).hint == "line 1: 'one' → 'two'"


def test_equal_images_are_identical_and_no_layer_is_read(tmp_path: Path) -> None:
    one = layout(tmp_path / "one", [BASE, HandLayer([FILE])])
    other = layout(tmp_path / "two", [BASE, HandLayer([FILE])])
    for blob in (other / "blobs" / "sha256").iterdir():
        if not blob.read_bytes().startswith(b"{"):
            blob.unlink()
    found = compare_images(from_layout(one), from_layout(other))
    assert found.identical
    assert list(lines(found)) == [f"identical, {from_layout(one).digest}"]


def test_fields_of_the_configuration_are_named(tmp_path: Path) -> None:
    one = layout(tmp_path / "one", [BASE])
    changed = {
        "config": {"Env": ["PATH=/sbin"], "Labels": {"title": "hand-made", "new": "x"}},
        "created": "2026-01-02T00:00:00Z",
        "history": [{"created": "2026-01-02T00:00:00Z", "created_by": "ADD rootfs.tar /"}],
    }
    other = layout(tmp_path / "two", [BASE], changed)
    found = compare_images(from_layout(one), from_layout(other))
    assert found.layers == ()
    assert {f.field: (f.first, f.second) for f in found.fields} == {
        "config.config.Env[0]": ('"PATH=/bin"', '"PATH=/sbin"'),
        "config.config.Labels.new": (None, '"x"'),
        "config.created": (None, '"2026-01-02T00:00:00Z"'),
        "config.history[0].created": ('"2026-01-01T00:00:00Z"', '"2026-01-02T00:00:00Z"'),
    }


def test_a_layer_more_is_named_by_its_step(tmp_path: Path) -> None:
    last = HandLayer([LINK], created_by="RUN last")
    one = layout(tmp_path / "one", [BASE, last])
    other = layout(tmp_path / "two", [BASE, HandLayer([FILE], created_by="RUN more"), last])
    found = compare_images(from_layout(one), from_layout(other))
    (layer,) = found.layers
    assert (layer.kind, layer.index, layer.created_by) == ("extra", 1, "RUN more")
    back = compare_images(from_layout(other), from_layout(one))
    assert [(layer.kind, layer.created_by) for layer in back.layers] == [("missing", "RUN more")]


def test_names_that_are_no_text_are_shown_and_harmless(tmp_path: Path) -> None:
    odd = Member("opt/\udcff\x1b[31m\n", b"one")
    found = compared(tmp_path, HandLayer([odd]), HandLayer([replace(odd, content=b"two")]))
    file = only_file(found)
    assert file.path == "/opt/\\udcff\\x1b[31m\\n"
    assert json.loads(found.model_dump_json())["layers"][0]["files"][0]["path"] == file.path


def test_many_differences_are_counted_and_the_first_are_listed(tmp_path: Path) -> None:
    many = [Member(f"f{i:05}") for i in range(LISTED + 50)]
    moved = [replace(member, mtime=0) for member in many]
    found = compared(tmp_path, HandLayer(many), HandLayer(moved))
    layer = only_layer(found)
    assert (layer.files_differ, layer.counts) == (LISTED + 50, {"mtime": LISTED + 50})
    assert len(layer.files) == LISTED
    assert f"and {LISTED + 30} more" in "\n".join(lines(found))


def test_a_layer_that_is_not_what_its_image_says_is_refused(tmp_path: Path) -> None:
    liar = HandLayer([replace(FILE, content=b"evil\n")], diff_id="sha256:" + "0" * 64)
    with pytest.raises(RelforgeError, match="not what its image's configuration says") as caught:
        compared(tmp_path, HandLayer([FILE]), liar)
    assert caught.value.code is ExitCode.BUILD
    assert "layer 1" in (caught.value.where or "")


@pytest.mark.parametrize("how", ["zstd", "gzip", "none"])
def test_a_layer_cut_short_is_refused(tmp_path: Path, how: str) -> None:
    noise = Member("noise", bytes(range(256)) * 400)
    one = layout(tmp_path / "one", [HandLayer([noise], compression=how)])
    other = layout(tmp_path / "two", [HandLayer([FILE], compression=how)])
    blob = max((one / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    if blob.read_bytes().startswith(b"{"):
        blob = next(p for p in blob.parent.iterdir() if not p.read_bytes().startswith(b"{"))
    blob.write_bytes(blob.read_bytes()[: blob.stat().st_size // 2])
    with pytest.raises(RelforgeError, match="cannot be read") as caught:
        compare_images(from_layout(one), from_layout(other))
    assert caught.value.code is ExitCode.BUILD


def test_an_altered_manifest_is_refused(tmp_path: Path) -> None:
    one = layout(tmp_path / "one", [BASE])
    digest = json.loads((one / "index.json").read_text())["manifests"][0]["digest"]
    blob = one / "blobs" / "sha256" / digest.removeprefix("sha256:")
    blob.write_bytes(blob.read_bytes() + b" ")
    with pytest.raises(RelforgeError, match="the image is damaged"):
        from_layout(one)


def test_what_is_attached_to_an_image_is_not_taken_for_it(tmp_path: Path) -> None:
    one = layout(tmp_path / "one", [BASE])
    index = json.loads((one / "index.json").read_text())
    image = index["manifests"][0]
    image["annotations"] = {"org.opencontainers.image.ref.name": "zz"}
    other = {**image, "digest": "sha256:" + "1" * 64}
    signature = {
        **other,
        "annotations": {"org.opencontainers.image.ref.name": "sha256-abc.sig"},
    }
    attached = {**other, "artifactType": "application/vnd.x", "annotations": {}}
    index["manifests"] = [signature, image, attached]
    (one / "index.json").write_text(json.dumps(index))
    assert from_layout(one).digest == image["digest"]
    index["manifests"] = [image, other]
    (one / "index.json").write_text(json.dumps(index))
    with pytest.raises(RelforgeError, match="a layout of one image is wanted") as caught:
        from_layout(one)
    assert caught.value.code is ExitCode.USAGE


def _pyc(folder: Path, text: str, **how: object) -> bytes:
    source = folder / "m.py"
    source.write_text(text)
    made = py_compile.compile(str(source), cfile=str(folder / "m.pyc"), dfile="m.py", **how)  # type: ignore[arg-type]
    return Path(str(made)).read_bytes()


def test_hints_for_bytecode(tmp_path: Path) -> None:
    timed = _pyc(tmp_path, "a = 1\n")
    later = timed[:8] + struct.pack("<I", 1_700_000_000) + timed[12:]
    assert "embedded time in the header of the bytecode" in str(
        content_hint("/m.pyc", timed, later)
    )
    assert "2023-11-14T22:13:20Z" in str(content_hint("/m.pyc", timed, later))
    hashed = _pyc(
        tmp_path, "a = 1\n", invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    assert "checked in another way" in str(content_hint("/m.pyc", timed, hashed))
    other = _pyc(tmp_path, "a = 2\n")
    assert "the code itself" in str(content_hint("/m.pyc", timed, other))
    assert "another version of Python" in str(content_hint("/m.pyc", b"\0" + timed[1:], timed))


def _zip(*members: tuple[str, str, int]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text, year in members:
            archive.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), text)
    return buffer.getvalue()


def test_hints_for_archives() -> None:
    one = _zip(("a", "x", 2020), ("b", "y", 2020))
    assert content_hint("/w.whl", one, _zip(("a", "x", 2021), ("b", "y", 2021))) == (
        "times of 2 members of a zip"
    )
    assert content_hint("/w.whl", one, _zip(("b", "y", 2020), ("a", "x", 2020))) == (
        "order of the members of a zip"
    )
    assert content_hint("/w.whl", one, _zip(("a", "x", 2020), ("b", "z", 2020))) == (
        "content of 1 members of a zip: 'b'"
    )
    assert content_hint("/w.whl", one, _zip(("a", "x", 2020))) == "other members of a zip: 'b'"
    assert content_hint("/w.whl", one, one[:30]) == "a damaged zip"
    early, late = (gzip.compress(b"text", mtime=when) for when in (1, 2))
    assert content_hint("/x.gz", early, late) == (
        "embedded time in the header of a gzip file; its content is the same"
    )
    assert content_hint("/x.gz", early, gzip.compress(b"other")) == "the content of a gzip file"


def test_hints_for_text_and_binaries() -> None:
    assert content_hint("/t", b"a\nb\n", b"b\na\n") == "the same lines in another order"
    assert content_hint("/t", b"a\n", b"a\r\n") == "ends of lines"
    assert content_hint("/t", b"x\nmade 2026-01-01\n", b"x\nmade 2026-01-02\n") == (
        "line 2 (a date): 'made 2026-01-01' → 'made 2026-01-02'"
    )
    assert "(a time in seconds)" in str(content_hint("/t", b"t=1700000000\n", b"t=1700000001\n"))
    assert content_hint("/t", b"a\n", b"a\nmore\n") == "line 2: '' → 'more'"
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\n%s\n"
    assert "secret" not in str(content_hint("/k", (key % "secret1").encode(), (key % "x").encode()))
    elf = b"\x7fELF\xff" + b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0%s" + b"\xfe" * 9
    one, other = elf % (b"\x01" * 20), elf % (b"\x02" * 20)
    assert content_hint("/l.so", one, other) == "the build id alone"
    one, other = (b"\xff\0/tmp/build-%s/a.c\0\xff" % word for word in (b"abc", b"xyz"))
    assert "/tmp/build-abc/a.c" in str(content_hint("/l.so", one, other))
    status = "Package: libc6\nStatus: install ok installed\nVersion: 2.36-%d\n"
    assert (
        content_hint("/var/lib/dpkg/status", (status % 9).encode(), (status % 10).encode())
        == "other Debian packages: libc6 2.36-9 → 2.36-10"
    )


@pytest.mark.parametrize("text", ["a 1700000000 b", "plain"])
def test_hints_never_raise_on_rubbish(text: str) -> None:
    heads = (b"PK\x03\x04", b"\x1f\x8b\x08\0", b"\x7fELF", b"", b"\xff\xfe", text.encode())
    for path in ("/a.pyc", "/a.whl", "/a.gz", "/var/lib/dpkg/status", "/a"):
        for head in heads:
            for tail in (b"", b"\0" * 40, b"\xff" * 40):
                content_hint(path, head + tail, head + tail + b"x")


def test_the_command_compares_two_layouts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = layout(tmp_path / "one", [BASE, HandLayer([FILE])])
    other = layout(tmp_path / "two", [BASE, HandLayer([replace(FILE, content=b"two\n")])])
    with pytest.raises(SystemExit) as ended:
        main(["rebuild", "--compare", str(one), str(other), "--json"])
    assert ended.value.code == 5
    found = json.loads(capsys.readouterr().out)
    assert found["compared"]["layers"][0]["files"][0]["path"] == "/opt/a.txt"
    with pytest.raises(SystemExit) as ended:
        main(["rebuild", "--compare", str(one), str(one)])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("identical, sha256:")
    with pytest.raises(SystemExit) as ended:
        main(["rebuild", "--compare", str(one), str(tmp_path)])
    assert ended.value.code == 2
    assert "no OCI image layout" in capsys.readouterr().err


def test_a_large_layer_is_compared_in_little_memory(tmp_path: Path) -> None:
    big = Member("big", bytes(64 << 20))
    one = layout(tmp_path / "one", [HandLayer([big, FILE])])
    other = layout(tmp_path / "two", [HandLayer([big, replace(FILE, mode=0o600)])])
    tracemalloc.start()
    found = compare_images(from_layout(one), from_layout(other))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [f.path for f in found.layers[0].files] == ["/opt/a.txt"]
    assert most < 24 << 20, f"{most >> 20} MiB"
