"""Faster Diffusion's parallel decoding: the steps between two keys go through the model in one batch.

Senmao Li et al., "Faster Diffusion: Rethinking the Role of the Encoder", arXiv 2312.09608, sec. 3.2 and 3.3.
Such a step doesn't read x_t, only its timestep, so the outputs of all steps up to the next key are known at once.
Held: an output (B, C, H, W) for each step of a batch, and what the policy holds, once for each while it is decoded.
The rows are laid out step after step, labels like features. The authors' DiT port lays features out branch after branch
and labels step after step, so from two steps a batch on some rows meet the other branch's label.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from skipdit.branches import Branches, Passes
from skipdit.core.attach import plan
from skipdit.core.check import number, whole
from skipdit.core.policy import Memory, Span, Step, spell
from skipdit.core.run import Run
from skipdit.core.what import hold


def parallel(most: int | None = None, prior: float = 0.0, below: float = 500) -> Passes:
    """Decode steps together that an attached policy lets do without x_t, such as `methods.faster_diffusion(blocks=5)`.

    most      steps a batch at most; None: all up to the next key
    prior     prior-noise injection: so much of the first noise is added to x_t before a step; the paper's is 0.003
    below     at timesteps below it; the paper's is half of 1000 (in its DiT port 300, and after the step)
    """
    spelling = spell(parallel, locals())
    if most is not None:
        whole("parallel", "most", most, low=1)
    number("parallel", "prior", prior)
    number("parallel", "below", below)
    return Parallel(most, prior, below, spelling=spelling)


@dataclass(frozen=True)
class Parallel(Passes):
    """Key steps run on their own, the steps between them in batches of at most `most`."""

    most: int | None = None
    prior: float = 0.0
    below: float = 500

    def __call__(self, memory: Memory, branches: Branches, step: Step, x: Tensor) -> Tensor:
        if step.index == 0:
            memory["first"], memory["keys"], memory["ready"] = x, keys(branches.run, branches.times), {}
        ready: dict[int, Tensor] = memory["ready"]
        if step.index not in ready:
            steps = branches.steps()[step.index : self._end(step.index, memory["keys"])]
            ready.update(zip((s.index for s in steps), branches.outputs(x, steps), strict=True))
        return ready.pop(step.index)

    def state(self, memory: Memory, step: Step, x: Tensor) -> Tensor:
        inject = self.prior > 0 and step.t is not None and step.t < self.below
        return x + self.prior * memory["first"] if inject else x

    def _end(self, index: int, keys: Sequence[bool]) -> int:
        """Where the batch that begins at a step ends: a key is alone, the others go on to the next key."""
        end = index + 1
        while not keys[index] and end < len(keys) and not keys[end] and end - index != self.most:
            end += 1
        return end


def keys(run: Run | None, times: Sequence[float]) -> list[bool]:
    """Which steps are computed. Raises ValueError, by name, where the steps between them would need x_t or aren't known
    beforehand."""
    way_out = "attach one such as methods.faster_diffusion(blocks=5) around sample"
    if run is None:
        raise ValueError(f"parallel: no policy is attached to the model: {way_out}")
    policy, sites = run.policy, list(run.sites)
    if policy.when.gate or hasattr(policy.when, "observe"):
        raise ValueError(f"parallel: {policy} decides during the run: {way_out}")
    if not all(isinstance(site, Span) and not site.kind for site in sites) or min(sites)[0] != 0:
        raise ValueError(f"parallel: {policy} spares no blocks from the first on, so every step reads x_t: {way_out}")
    if policy.what != hold():
        raise ValueError(f"parallel: what {policy} stands in depends on x_t or on the step: {way_out}")
    return plan(policy, times)
