"""Walks through the maps of Freedoom as clips, drawn by ViZDoom: as many as one likes, with whole maps held out."""

import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from skipdit.data.clips import write_clips

INSTALL = "pip install 'skipdit[doom]'"
LICENSE = "BSD-3-Freedoom.txt"
SIDES = {120: "RES_160X120", 240: "RES_320X240", 480: "RES_640X480", 960: "RES_1280X960"}  # what the game is drawn at
LYING = frozenset({"Health", "Armor", "Ammo", "Weapon", "Key"})  # things where a player would come by
TRIES = 8  # starts that are tried until one leads somewhere
REST = 20  # tics that the game holds a player still after putting him elsewhere
WARM_UP = 6  # frames walked before the film: the walker turns away from what he was put in front of
STRIDE = 4  # units of the map that a walk makes a tic at least; a free one makes 8
WALK, TURN, SWAY = 25, 3.0, 1.5  # the game's walking speed; degrees a tic away from a wall, and at most where it's free
DIM = 12  # of 255: a darker walk than this on average is only filmed where there is no other
LIFT = np.round(255 * (np.arange(256) / 255) ** (1 / 1.6)).astype(np.uint8)  # (256,) a gamma of 1.6: the maps are dark
NEAR = 16  # as the depth buffer counts, 7 or 8 units each: nearer than this ahead is a wall to turn away from

MAPS = {  # Freedoom: Phase 2, its own titles
    "map01": "hydroelectric plant",
    "map02": "filtration tunnels",
    "map03": "crude processing center",
    "map04": "containment bay",
    "map05": "sludge burrow",
    "map06": "janus terminal",
    "map07": "logic gate",
    "map08": "astronomy complex",
    "map09": "datacenter",
    "map10": "deadly outlands",
    "map11": "dimensional rift observatory",
    "map12": "railroads",
    "map13": "station earth",
    "map14": "nuclear zone",
    "map15": "hostile takeover",
    "map16": "urban jungle",
    "map17": "city capitol",
    "map18": "aquatics lab",
    "map19": "sewage control",
    "map20": "blood ember fortress",
    "map21": "under realm",
    "map22": "remanasu",
    "map23": "underground facility",
    "map24": "abandoned teleporter lab",
    "map25": "persistence of memory",
    "map26": "dark depths",
    "map27": "palace of red",
    "map28": "grim redoubt",
    "map29": "melting point",
    "map30": "jaws of defeat",
    "map31": "be quiet",
    "map32": "not sure",
}
HELD_OUT_MAPS = frozenset({"map08", "map16", "map24", "map32"})


class Shot(NamedTuple):
    """How a clip is filmed: its side in pixels, its frames, and the tics between two (the game has 35 a second)."""

    size: int = 64
    frames: int = 16
    interval: int = 4


def build_doom(
    out: Path,
    clips: int = 1024,
    shot: Shot | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Counter[str]:
    """Write `clips` clips to `out` as `skipdit.data.clips` reads them, the maps in turn, and Freedoom's licence.

    Clip i depends on the seed, the shot and i alone, so more clips begin like fewer. `progress` hears how many are
    done. Returns the number of clips by label. Raises ModuleNotFoundError where vizdoom is missing, ValueError for a
    number out of range and RuntimeError where the game doesn't start.
    """
    shot = shot or Shot()
    for name, value in {"clips": clips, **shot._asdict()}.items():
        if value < 1:
            raise ValueError(f"{name}={value}: at least 1")
    if seed < 0:
        raise ValueError(f"seed={seed}: 0 or more")
    rows = [row(i) for i in range(clips)]
    x = np.empty((clips, shot.frames, shot.size, shot.size, 3), np.uint8)
    with playing(shot.size) as game:
        for i in range(clips):
            x[i] = film(game, rows[i]["map"], shot, np.random.default_rng([seed, i]))
            progress(i + 1)
    write_clips(out, x, rows)
    (out / "LICENSES").mkdir(exist_ok=True)
    (out / "LICENSES" / LICENSE).write_bytes((resources.files("skipdit.data") / LICENSE).read_bytes())
    return Counter(row["label"] for row in rows)


def row(i: int) -> dict[str, Any]:
    """What is written about clip i: its map, which takes its turn, and whether that is held out."""
    number = list(MAPS)[i % len(MAPS)]
    return {"label": MAPS[number], "map": number, "file": f"{number}/{i}", "held_out": number in HELD_OUT_MAPS}


@contextmanager
def playing(size: int) -> Iterator[Any]:
    """A game without window, sound or display, closed at the end; what it writes goes to a temporary folder.

    Raises ModuleNotFoundError where vizdoom is missing, ValueError for a size that it can't be drawn for, and
    RuntimeError where it doesn't start or breaks off.
    """
    vizdoom = _vizdoom()
    game = vizdoom.DoomGame()
    game.set_screen_resolution(getattr(vizdoom.ScreenResolution, SIDES[drawn_at(size)]))
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    for switch in ("hud", "weapon", "crosshair", "messages", "screen_flashes"):
        getattr(game, f"set_render_{switch}")(False)
    game.add_game_args("+cl_showsecretmessage 0")  # or it is written across the view
    game.set_depth_buffer_enabled(True)
    game.set_objects_info_enabled(True)
    button, variable = vizdoom.Button, vizdoom.GameVariable
    game.set_available_buttons([button.MOVE_FORWARD_BACKWARD_DELTA, button.TURN_LEFT_RIGHT_DELTA])
    game.set_available_game_variables([variable.POSITION_X, variable.POSITION_Y])
    game.set_doom_game_path(str(Path(str(vizdoom.__file__)).parent / "freedoom2.wad"))
    game.set_episode_timeout(0)
    with tempfile.TemporaryDirectory() as folder:
        game.set_doom_config_path(str(Path(folder) / "vizdoom.ini"))
        try:
            with chdir(folder), unheard(signal.SIGINT):  # the game leaves a folder of its own where it starts
                game.init()
            yield game
        except (vizdoom.ViZDoomErrorException, vizdoom.ViZDoomUnexpectedExitException) as error:
            raise RuntimeError(f"ViZDoom ended: {error}") from error
        finally:
            game.close()


@contextmanager
def unheard(number: signal.Signals) -> Iterator[None]:
    """A process started here never hears the signal; what comes for this one waits for the end of the block.

    Ctrl-C in a terminal reaches the game as well: without this it dies first, and that looks like a fault.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def drawn_at(size: int) -> int:
    """The height at which the game is drawn for pictures of this side. Raises ValueError for one that is too large."""
    fitting = [height for height in SIDES if height >= 2 * size]
    if not fitting:
        raise ValueError(f"size={size}: at most {max(SIDES) // 2}, half of what the game is drawn at")
    return fitting[0]


def _vizdoom() -> ModuleType:
    try:
        import vizdoom
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"vizdoom, the game, is missing: {INSTALL}", name="vizdoom") from error
    return vizdoom


def film(game: Any, number: str, shot: Shot, rng: np.random.Generator) -> np.ndarray:
    """A walk (F, size, size, 3) uint8 that begins where a thing lies in the map.

    Of TRIES starts the first that isn't DIM and makes STRIDE units a tic is filmed, or else the one that makes most.
    Raises RuntimeError where none lasts.
    """
    game.set_doom_map(number)
    game.set_seed(int(rng.integers(2**31)))
    begin(game)
    places = [(o.position_x, o.position_y) for o in game.get_state().objects if o.category in LYING]
    best: list[np.ndarray] = []
    longest = -1.0
    for place in rng.permutation(places)[:TRIES]:
        seen, length = walk(game, place, shot, rng)
        length *= np.mean(seen) >= DIM if seen else 0
        if len(seen) == shot.frames and length > longest:
            best, longest = seen, length
        if longest >= STRIDE * shot.interval * shot.frames:
            break
        if game.is_episode_finished():
            begin(game)
    if not best:
        raise RuntimeError(f"{number}: walks leave the map before {shot.frames} frames are filmed: ask for fewer")
    return np.stack([square(picture, shot.size) for picture in best])  # (F, size, size, 3)


def begin(game: Any) -> None:
    """The map anew, with a walker who can't be hurt and whom monsters don't notice."""
    game.new_episode()
    game.send_game_command("god")
    game.send_game_command("notarget")


def walk(game: Any, place: Any, shot: Shot, rng: np.random.Generator) -> tuple[list[np.ndarray], float]:
    """Pictures (H, W, 3) of a walk from a place (2,) in a random direction, and its length in units of the map.

    Fewer pictures than asked for where the walk leaves the map.
    """
    game.send_game_command(f"warp {place[0]} {place[1]}")
    game.make_action([0, 0], REST)
    game.make_action([0, rng.uniform(0, 360)], 1)
    seen: list[np.ndarray] = []
    way: list[np.ndarray] = []
    side, sway = 0, 0.0
    for frame in range(-WARM_UP, shot.frames):
        if game.is_episode_finished():
            break
        state = game.get_state()
        if frame >= 0:
            seen.append(state.screen_buffer)
            way.append(state.game_variables)  # (2,)
        side = steer(state.depth_buffer, side)
        sway = float(np.clip(sway + rng.normal(0, SWAY / 3), -SWAY, SWAY))
        game.make_action([0 if side else WALK, side * TURN or sway], shot.interval)
    return seen, float(np.linalg.norm(np.diff(way, axis=0), axis=-1).sum()) if len(way) > 1 else 0.0


def steer(depth: np.ndarray, side: int) -> int:
    """Where to turn by what is ahead, depth (H, W): 0 for straight on, 1 for right, -1 for left.

    The middle third, about the horizon, decides whether it is free. A wall is turned from to the side that is deeper,
    and `side`, the turn begun, is kept to until it is free: a walker in a corner doesn't dither.
    """
    high, wide = depth.shape
    band = depth[2 * high // 5 : 3 * high // 5]  # (H / 5, W)
    left, ahead, right = band[:, : wide // 3], band[:, wide // 3 : 2 * wide // 3], band[:, 2 * wide // 3 :]
    if ahead.min() >= NEAR:
        return 0
    return side or (1 if right.mean() > left.mean() else -1)


def square(picture: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3), wider than high -> (size, size, 3): the middle square, brightened, averaged, never stretched."""
    high, wide, _ = picture.shape
    left = (wide - high) // 2
    middle = Image.fromarray(LIFT[picture[:, left : left + high]])
    return np.array(middle.resize((size, size), Image.Resampling.BOX))
