"""The branches of guidance at one step: which passes a model makes, named to the run, counted, put together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from skipdit.core.policy import Memory, Step
from skipdit.core.run import active

Condition = tuple[Tensor, Tensor | None]  # class numbers (B,), style numbers (B,) where the model has styles


@dataclass
class Tally:
    """What a sampler asked of its model. A pass is one branch of one batch of images at one step."""

    steps: int = 0
    passes: int = 0
    passes_in_full: int = 0  # that every step would have taken with all its branches
    calls: int = 0  # of the model: one may hold several passes

    def as_dict(self) -> dict[str, int]:
        return dict(vars(self))

    def __str__(self) -> str:
        return f"{self.steps} steps: {self.passes} of {self.passes_in_full} passes, in {self.calls} calls of the model"


class Branches:
    """What can be asked of a model for one batch of images: one branch, both, or several steps at once.

    Videos (B, F, C, H, W) are served alike: the channels are the third dimension from the end.

    apart     the branches run one after the other, as streams "cond" and "uncond", in place of one batch
    sigma     the noise level of a timestep
    """

    def __init__(
        self,
        model: Any,
        condition: Condition,
        guidance: float,
        timesteps: Tensor,
        sigma: Callable[[float], float],
        apart: bool = False,
        tally: Tally | None = None,
    ):
        self.model, self.guidance, self.timesteps = model, guidance, timesteps
        self.guided, self.apart, self.tally = guidance != 1, apart, tally or Tally()
        self.times: list[float] = [float(t) for t in timesteps.tolist()]  # read once: a read a step holds a GPU up
        self.sigmas = [sigma(t) for t in self.times]
        self.dtype = next(model.parameters()).dtype
        self.run = active(model)
        self.tally.steps += len(self.times)
        self.tally.passes_in_full += len(self.times) * (2 if self.guided else 1)
        y, style = condition
        null = torch.full_like(y, model.config.num_classes)
        self.rows: dict[str, Condition] = {
            "cond": (y, style),
            "uncond": (null, style),
            "cond+uncond": (torch.cat([y, null]), None if style is None else style.repeat(2)),
        }
        if self.run is not None:  # a branch that starts late must not find another batch's features
            self.run.forget()

    def steps(self) -> list[Step]:
        """All steps of the run."""
        return [Step(index, len(self.times), t) for index, t in enumerate(self.times)]

    def cond(self, x: Tensor, step: Step) -> Tensor:
        """The conditional branch alone (B, C or 2C, H, W)."""
        return self._pass("cond", x, [step])

    def both(self, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Conditional and unconditional output, each (B, C or 2C, H, W)."""
        return self._both(x, [step])[0]

    def outputs(self, x: Tensor, steps: Sequence[Step]) -> list[Tensor]:
        """The guided output (B, C or 2C, H, W) of each of these consecutive steps. Several at once share one call a
        stream: only for steps that don't read x, which the attached policy must have made sure of."""
        if not self.guided:
            return list(self._pass("cond", x, steps).chunk(len(steps)))
        return [self.guide(*pair) for pair in self._both(x, steps)]

    def guide(self, given: Tensor, free: Tensor) -> Tensor:
        """free + w (given - free) on the prediction; a learned variance is taken from the given branch."""
        channels = self.model.config.in_channels
        left = given.shape[-3] - channels
        (told, variance), (untold, _) = (out.split([channels, left], dim=-3) for out in (given, free))
        return torch.cat([untold + self.guidance * (told - untold), variance], dim=-3)  # (B, C or 2C, H, W)

    def _both(self, x: Tensor, steps: Sequence[Step]) -> list[tuple[Tensor, Tensor]]:
        n = len(steps)
        if self.apart:
            given, free = (self._pass(stream, x, steps).chunk(n) for stream in ("cond", "uncond"))
            return list(zip(given, free, strict=True))
        together = self._pass("cond+uncond", x, steps).chunk(n)  # each (2B, C or 2C, H, W)
        return [(both[: len(x)], both[len(x) :]) for both in together]

    def _pass(self, stream: str, x: Tensor, steps: Sequence[Step]) -> Tensor:
        """One call of the model (N R, C or 2C, H, W) for N steps: the R rows of a stream, step after step.

        What a stream holds is laid out in the same order, so every row meets its own label and timestep.
        """
        y, style = self.rows[stream]
        n, rows, first = len(steps), len(y), steps[0]
        if self.run is not None and n == 1:
            self.run.begin(first.index, first.t, stream, first.total)
        elif self.run is not None:
            self.run.begin_together(steps, stream)
        self.tally.calls += 1
        self.tally.passes += n * rows // len(x)
        x = x.to(self.dtype).repeat(n * rows // len(x), *[1] * (x.ndim - 1))  # (N R, C, H, W)
        t = self.timesteps[first.index : first.index + n].repeat_interleave(rows)  # (N R,)
        given = (y.repeat(n),) if style is None else (y.repeat(n), style.repeat(n))  # each (N R,)
        return self.model(x, t, *given)


@dataclass(frozen=True)
class Passes:
    """Which passes a step makes, and what its output is made of. This one makes them all.

    A value, like a policy: equal ones are equal, and it prints as it is spelled.
    """

    spelling: str = field(default="", compare=False, kw_only=True)
    drops: ClassVar[bool] = False  # whether a branch may be left out

    def __str__(self) -> str:
        return self.spelling or repr(self)

    def __call__(self, memory: Memory, branches: Branches, step: Step, x: Tensor) -> Tensor:
        """The output (B, C or 2C, H, W) that the scheduler is given for a state x (B, C, H, W)."""
        return branches.outputs(x, [step])[0]

    def state(self, memory: Memory, step: Step, x: Tensor) -> Tensor:
        """The state (B, C, H, W) that the scheduler steps from."""
        return x
