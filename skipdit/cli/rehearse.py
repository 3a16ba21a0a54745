"""What skipdit inspect is asked about policies, and the answer for a model of our own: figures, and a picture."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipdit.cli.terminal import progress


@dataclass(frozen=True)
class Asked:
    """The policies of one call, and over which steps. Raises ValueError for a picture of nothing."""

    said: list[Any]  # policies
    every: bool  # method of the catalog, besides those
    steps: int
    sampler: str | None
    draw: Path | None

    def __post_init__(self) -> None:
        if self.draw and not self.anything:
            raise ValueError(f"--draw {self.draw}: there is nothing to draw: say --methods or --policy")

    @property
    def anything(self) -> bool:
        return self.every or bool(self.said)

    @property
    def alone(self) -> Any:
        """The one policy that is asked about, if it is one."""
        return None if self.every or len(self.said) != 1 else self.said[0]

    @property
    def wanted(self) -> list[Any]:
        """Policies, and names of methods with their defaults."""
        from skipdit.rehearse.every import lined_up

        return lined_up(self.said) if self.every else self.said


def rehearsed(model: Any, name: str, asked: Asked, quiet: bool) -> dict[str, Any]:
    """{"policy": ...} for one, {"methods": [...]} for several; "out" is the picture that was written."""
    from skipdit.diffusion import SAMPLERS
    from skipdit.rehearse.rehearsal import timesteps

    sampler = asked.sampler or SAMPLERS[model.config.prediction][0]
    times = timesteps(model, asked.steps, sampler)
    if asked.alone and asked.alone.when.gate and not asked.draw:
        return {"policy": _undecided(model, asked.alone, times)}
    told = _told(model, asked, quiet)
    drawn = {"out": str(_drawn(told, asked.draw, f"{name}: {asked.steps} steps, {sampler}"))} if asked.draw else {}
    if asked.alone:
        return {"policy": {"spelling": str(asked.alone), **told[0].as_dict(), "timesteps": times}, **drawn}
    over = {"steps": asked.steps, "sampler": sampler, "timesteps": times}
    return {**over, "methods": [each.as_dict() for each in told], **drawn}


def _undecided(model: Any, policy: Any, times: list[float]) -> dict[str, Any]:
    """What is known of a gate beforehand. Raises ValueError where it doesn't fit the model."""
    from skipdit.core.attach import attach

    with attach(model, policy):
        return {"spelling": str(policy), "plan": None, "timesteps": times, "report": None}


def _told(model: Any, asked: Asked, quiet: bool) -> list[Any]:
    """The rehearsals, with a bar for who waits."""
    from skipdit.rehearse.every import rehearsals

    if asked.draw:
        import matplotlib  # noqa: F401 (missing: said now, not after the work)
    coming: Iterable[Any] = rehearsals(model, asked.wanted, asked.steps, asked.sampler)
    found = []
    with progress(quiet=quiet) as bar:
        task = bar.add_task("rehearsing", total=len(asked.wanted))
        for each in coming:
            found.append(each)
            bar.update(task, advance=1, description=each.policy.partition("(")[0])
    return found


def _drawn(told: list[Any], path: Path, title: str) -> Path:
    from skipdit.rehearse import picture

    picture.draw(told, path, title)
    return path
