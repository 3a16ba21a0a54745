"""Walks through the maps of Freedoom: rows, the walker's rule and refusals without the game, a few walks with it."""

import builtins
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from skipdit.data import doom, read_clips, write_clips

SMALL = doom.Shot(size=16, frames=3)


def seen(left: int, ahead: int, right: int) -> np.ndarray:
    """What the depth buffer (40, 60) shows of three walls, under a ceiling that touches the eye."""
    depth = np.zeros((40, 60), np.uint8)
    depth[16:24] = np.repeat([left, ahead, right], 20)
    return depth


def test_the_maps_take_turns_and_four_are_held_out_by_name(tmp_path: Path) -> None:
    rows = [doom.row(i) for i in range(64)]
    assert len(doom.MAPS) == len(set(doom.MAPS.values())) == 32
    assert rows[33] == {"label": "filtration tunnels", "map": "map02", "file": "map02/33", "held_out": False}
    write_clips(tmp_path, np.zeros((64, 2, 2, 2, 3), np.uint8), rows)
    train, held = read_clips(tmp_path).split()
    names = {"astronomy complex", "urban jungle", "abandoned teleporter lab", "not sure"}
    assert {held.class_names[y] for y in held.y} == names
    assert (len(train), len(held)) == (56, 8)


def test_the_walker_turns_from_a_wall_to_the_deeper_side() -> None:
    assert doom.steer(seen(3, doom.NEAR, 3), 0) == 0  # free, ceiling and floor don't count
    assert doom.steer(seen(9, doom.NEAR - 1, 30), 0) == 1
    assert doom.steer(seen(30, doom.NEAR - 1, 9), 0) == -1


def test_a_turn_is_kept_to_until_it_is_free() -> None:
    assert doom.steer(seen(30, 2, 9), 1) == 1
    assert doom.steer(seen(9, 2, 30), -1) == -1
    assert doom.steer(seen(9, 40, 30), -1) == 0


def test_a_view_is_cut_to_its_middle_square_and_brightened() -> None:
    view = np.zeros((6, 8, 3), np.uint8)
    view[:, 1:4], view[:, 4:7] = 50, 200
    view[:, [0, 7]] = 255  # cut off
    assert doom.square(view, 2)[..., 0].tolist() == [[doom.LIFT[50], doom.LIFT[200]]] * 2
    assert doom.LIFT[[0, 255]].tolist() == [0, 255]
    assert (np.diff(doom.LIFT.astype(int)) >= 0).all()


def test_a_view_is_drawn_at_least_twice_as_large() -> None:
    assert [doom.drawn_at(size) for size in (16, 60, 61, 64, 128, 480)] == [120, 120, 240, 240, 480, 960]
    with pytest.raises(ValueError, match="size=481: at most 480"):
        doom.drawn_at(481)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"clips": 0}, "clips=0: at least 1"),
        ({"shot": doom.Shot(frames=0)}, "frames=0: at least 1"),
        ({"shot": doom.Shot(interval=-1)}, "interval=-1: at least 1"),
        ({"seed": -1}, "seed=-1: 0 or more"),
    ],
)
def test_numbers_out_of_range_are_named(tmp_path: Path, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        doom.build_doom(tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_a_missing_game_is_one_error_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "vizdoom":
            raise ModuleNotFoundError("No module named 'vizdoom'", name="vizdoom")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=re.escape("pip install 'skipdit[doom]'")):
        doom.build_doom(tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()


def test_the_titles_are_freedooms_own() -> None:
    game = Path(pytest.importorskip("vizdoom").__file__).parent / "freedoom2.wad"
    titles = re.findall(rb"^HUSTR_\d+ = (MAP\d\d): (.+?)\r?$", game.read_bytes(), re.M)
    assert {number.decode().lower(): title.decode().lower() for number, title in titles} == doom.MAPS


def test_the_same_seed_gives_the_same_walks_and_more_begin_like_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vizdoom")
    monkeypatch.chdir(tmp_path)
    done: list[int] = []
    doom.build_doom(tmp_path / "fewer", 2, SMALL, seed=5, progress=done.append)
    built = doom.build_doom(tmp_path / "more", 3, SMALL, seed=5)
    doom.build_doom(tmp_path / "other", 1, SMALL, seed=6)
    fewer, more, other = (read_clips(tmp_path / name).x for name in ("fewer", "more", "other"))
    assert more.shape == (3, 3, 3, 16, 16)
    assert (more[:2] == fewer).all()
    assert (more[:1] != other).any()
    assert (more[:, 0] != more[:, -1]).flatten(1).any(1).all()  # every one moves
    assert done == [1, 2]
    assert dict(built) == dict.fromkeys(list(doom.MAPS.values())[:3], 1)
    assert "Freedoom" in (tmp_path / "more" / "LICENSES" / doom.LICENSE).read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fewer", "more", "other"]  # the game leaves nothing


def test_a_clip_depends_on_no_clip_before_it() -> None:
    pytest.importorskip("vizdoom")

    def third(first: int) -> np.ndarray:
        with doom.playing(SMALL.size) as game:
            for i in range(first, 4):
                clip = doom.film(game, doom.row(i)["map"], SMALL, np.random.default_rng([5, i]))
        return clip

    assert (third(1) == third(3)).all()


class Exits:
    """A game of which every third walk leaves the map at once."""

    def __init__(self) -> None:
        self.walks, self.episodes, self.finished = 0, 0, False

    def new_episode(self) -> None:
        self.episodes, self.finished = self.episodes + 1, False

    def send_game_command(self, command: str) -> None:
        if command.startswith("warp"):
            assert not self.finished
            self.walks += 1
            self.finished = self.walks % 3 == 1

    def get_state(self) -> Any:
        thing = SimpleNamespace(position_x=0.0, position_y=0.0, category="Ammo")
        view, deep = np.full((12, 16, 3), 90, np.uint8), np.full((12, 16), 60, np.uint8)
        where = np.array([float(self.walks), 0.0])
        return SimpleNamespace(objects=[thing] * 4, screen_buffer=view, depth_buffer=deep, game_variables=where)

    def is_episode_finished(self) -> bool:
        return self.finished

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None  # set_doom_map, set_seed, make_action


def test_a_walk_that_leaves_the_map_is_begun_again() -> None:
    game = Exits()
    clip = doom.film(game, "map01", doom.Shot(4, 2), np.random.default_rng(0))
    assert clip.shape == (2, 4, 4, 3)
    assert (game.walks, game.episodes) == (4, 3)  # the first and the fourth leave; nothing moves, so all four are tried


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    script = (
        "from pathlib import Path; from skipdit.data import doom\n"
        "doom.build_doom(Path('out'), 10**5, doom.Shot(8, 2), progress=lambda done: print(done, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "1\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the game too
    _, errors = process.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    assert list(tmp_path.iterdir()) == []
