"""What every method may be set to in the grid: its own knobs, from mild to strong, spelled as everywhere.

Calibrations that a method asks for (SmoothCache's curves, MagCache's ratios, the correction) are taken from the
pictures that settings are chosen on, never from those they are judged on.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from skipdit.methods.magcache import magcache
from skipdit.methods.smoothcache import smoothcache
from skipdit.plan.calibrate import correction, magcache_ratios, smoothcache_curves
from skipdit.plan.curves import smoothcache_schedules
from skipdit.plan.study import Study

THRESHOLDS = (0.03, 0.06, 0.1, 0.15, 0.22, 0.32, 0.5)
CODEBOOK = ((0.08, 6), (0.16, 5), (0.24, 4), (0.32, 3), (0.40, 2), (1.0, 1))


def candidates(study: Study, folder: Path) -> dict[str, list[str]]:
    """{method: spellings}; `folder` takes the fitted corrections."""
    return {
        **dict(_fixed()),
        **dict(_gated()),
        "smoothcache": _smoothcache(study),
        "magcache": _magcache(study),
        "skip_correction": [
            f"skip_correction({str(path)!r}, every={every})" for every, path in fit_corrections(study, folder).items()
        ],
    }


def _fixed() -> Iterator[tuple[str, list[str]]]:
    """Schedules. Depths are shares of the 8 blocks as the papers' are of 28."""
    n = range(2, 7)
    yield "skip_cache", [f"skip_cache(every={i}, branch={k})" for k in (1, 2) for i in (*n, 8)]
    yield "skip_forecast", [f"skip_forecast(every={i}, order={o})" for o in (1, 2) for i in n]
    yield "skip_plan", [f"skip_plan({branches})" for branches in map(_widening, n)]
    yield "fora", [f"fora(every={i})" for i in n]
    yield "pab", [f"pab(spatial={i}, mlp={i}, hi={hi}, lo={lo})" for i in n for hi, lo in ((800, 100), (950, 20))]
    yield "taylorseer", [f"taylorseer(every={i}, order={o})" for o in (1, 2) for i in n]
    yield "taylorseer lite", [f"taylorseer(every={i}, order={o}, lite=True)" for o in (1, 2) for i in n]
    yield "hermite", [f"hermite(every={i}, order={o})" for o in (1, 2) for i in n]
    yield "chebyshev", [f"chebyshev(window={w}, grow={g})" for w in (2, 3, 4) for g in (0, 0.1, 0.25, 0.75)]
    yield "barycentric", [f"barycentric(every={i}, keep={h})" for h in (2, 3, 4) for i in n]
    yield "delta_dit", [f"delta_dit(every={i}, blocks={b})" for i in n for b in (5, 6, 8)]
    yield "blockdance", [f"blockdance(every={i}, blocks={b}, hi={hi})" for i in n for b, hi in ((6, 0.75), (7, 0.95))]
    keys = [f"faster_diffusion(blocks={b}, keys={i})" for b in (5, 7) for i in n]
    yield "faster_diffusion", [*keys, "faster_diffusion(blocks=5)", "faster_diffusion(blocks=7)"]


def _widening(every: int) -> tuple[int, ...]:
    """A full step, then K = 1, then 2 for the second half of the way: what is held longer is leant on less."""
    cycle = [0, *(1 + (2 * i >= every) for i in range(1, every))]
    return tuple((cycle * 50)[:50])


def _gated() -> Iterator[tuple[str, list[str]]]:
    """Gates: thresholds."""
    yield "first_block", [f"first_block(threshold={t})" for t in THRESHOLDS]
    yield (
        "dbcache",
        [
            f"dbcache(threshold={t}, front={f}, warmup=4, order={o})"
            for o in (0, 1)
            for f in (1, 2)
            for t in THRESHOLDS[::2]
        ],
    )
    yield "teacache", [f"teacache(threshold={t})" for t in THRESHOLDS]
    yield "easycache", [f"easycache(threshold={t}, warmup={w})" for w in (5, 10) for t in THRESHOLDS[::2]]
    yield "speca", [f"speca(threshold={t}, order={o})" for o in (1, 2) for t in (0.05, 0.2, 0.5, 1.5)]
    scaled = [tuple((round(t * scale, 4), n) for t, n in CODEBOOK) for scale in (0.25, 0.5, 1, 1.5, 2, 4)]
    yield "adacache", [f"adacache({codebook}, block=4)" for codebook in scaled]


def _smoothcache(study: Study) -> list[str]:
    kinds = smoothcache_curves(study).kinds()
    found = []
    for threshold in (0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.5):
        computed: Mapping[str, tuple[int, ...]] = smoothcache_schedules(kinds, threshold, study.steps)
        masks = {kind: "".join("01"[i in steps] for i in range(study.steps)) for kind, steps in computed.items()}
        found.append(str(smoothcache(masks)))
    return list(dict.fromkeys(found))


def _magcache(study: Study) -> list[str]:
    ratios = tuple(round(ratio, 5) for ratio in magcache_ratios(study))
    settings = [(threshold, most) for most in (2, 3, 5) for threshold in (0.02, 0.04, 0.06, 0.12, 0.24)]
    return [str(magcache(ratios, threshold, most)) for threshold, most in settings]


def fit_corrections(study: Study, folder: Path) -> dict[int, Path]:
    """{every: file of weights}, fitted where it isn't there."""
    paths = {every: folder / f"correction-{every}.safetensors" for every in range(2, 7)}
    for every, path in paths.items():
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            correction(study, path, range(0, study.steps, every))
    return paths
