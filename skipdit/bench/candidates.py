"""What is compared: candidates of one setting, and the pairs of label and seed that all of them draw."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from skipdit.plan.study import Study, conditions, halves

UNCACHED, PLAIN, CACHED, FEWER = "uncached", "plain", "cached", "fewer steps"  # kinds of candidates
PEER = "peer"  # a cache of diffusers or cache-dit: `policy` is its name in peers_here.PEERS


@dataclass(frozen=True)
class Setting:
    """What all candidates of one comparison share.

    steps    of the uncached run
    pairs    of label and seed, drawn in batches of `batch`: a gate's verdict is one for the batch
    """

    sampler: str
    steps: int
    guidance: float = 2.0
    seed: int = 0
    pairs: int = 32
    batch: int = 8

    def batches(self, model: Any) -> Iterator[Study]:
        """The pairs of a model. Labels are the half that `skipdit tune` (seed 0) doesn't calibrate on, in turn; every
        batch has its own seed, so that more pairs begin like fewer."""
        held_out = halves(model.config.num_classes, 0)[1]
        labels, styles = conditions(model.config, held_out, self.pairs)
        for number, start in enumerate(range(0, self.pairs, self.batch)):
            rows = slice(start, start + self.batch)
            seed = 1000 * (self.seed + 1) + number
            own = styles and styles[rows]
            yield Study(model, labels[rows], own, self.steps, self.guidance, self.sampler, seed)

    def as_dict(self) -> dict[str, Any]:
        """All but the number of pairs, which may grow."""
        return {key: value for key, value in asdict(self).items() if key != "pairs"}


@dataclass(frozen=True)
class Candidate:
    """One way to draw the pairs; `policy` and `passes` as they are spelled."""

    kind: str
    steps: int
    policy: str = ""
    passes: str = ""

    def __str__(self) -> str:
        ways = " + ".join(way for way in (self.policy, self.passes) if way)
        return ways or (f"{self.steps} steps" if self.kind == FEWER else self.kind)


def of_grid(steps: int, policies: Sequence[str], passes: Sequence[str]) -> list[Candidate]:
    """Every policy and every way of passes, alone and together."""
    ways = dict.fromkeys(product(["", *policies], ["", *passes]))
    return [Candidate(CACHED, steps, *way) for way in ways if any(way)]
