"""The search itself, stage by stage: what a step costs, which blocks to spare, what stands in, which steps."""

import time
from collections.abc import Callable
from functools import partial
from statistics import fmean
from typing import Any

from skipdit.core.attach import attach
from skipdit.core.backbone import Backbone
from skipdit.core.policy import Policy
from skipdit.core.what import hold
from skipdit.core.when import At, Every
from skipdit.core.where import Inner
from skipdit.plan.book import Book
from skipdit.plan.evidence import speedup
from skipdit.plan.search import Mask, Spent, anneal, gap_costs, shortest
from skipdit.plan.shapes import ESTIMATORS, Goal, Shape, computed_within, wheres
from skipdit.plan.study import Study
from skipdit.sample import sample

Tell = Callable[[int, int, str], None]  # (masks tried, most that will be, what goes on)
STARTS = [("hold", 0.0), ("hold", 1.0), ("fitted", 1.0), ("fitted", 2.0)]
EARLY = 4  # pictures that a first look is taken at
FIRST = "fitted 3"  # the estimator that masks are first compared with


class Tuning:
    """One search on its way: what was watched, what a step costs, and what is left to spend."""

    def __init__(
        self, study: Study, goal: Goal, book: Book, tries: int, seconds: float, rounds: int, tell: Tell | None
    ):
        self.study, self.goal, self.book = study, goal, book
        self.tries, self.seconds, self.rounds, self.tell = tries, seconds, rounds, tell
        self.asked: set[Any] = set()
        self.best = ""
        self.shares: dict[Inner, float] = {}
        self.say("watching an uncached run")
        self.grams = study.watch(wheres(Backbone.of(study.model).depth(study.model)))
        for where in self.grams:
            self.say(f"what a step costs, {where}")
            self.shares[where] = book.note(f"share {where}", partial(self.cost, where))

    def say(self, what: str) -> None:
        if self.tell:
            self.tell(len(self.asked), self.tries, f"{what}{self.best}")

    # ---- what things cost

    def cost(self, where: Inner) -> float:
        """A step that is stood in for, over a computed one: in time, or in FLOPs where those are counted."""
        study, few = self.study.first(EARLY), 6
        if self.goal.flops is not None:
            with attach(study.model, Policy(where, At((0,)), hold())) as run:
                sample(study.model, study.labels[:1], study.styles and study.styles[:1], 2, study.guidance)
            report = run.report()
            full = (report.flops + report.spared_flops) / 2
            return (full - report.spared_flops) / full
        always, once = Policy(where, Every(1), hold()), Policy(where, At((0,)), hold())
        full, one = study.least(always, once, rounds=self.rounds + 2, steps=few)
        share = one / full  # (1 + 5 c) / 6
        return min(0.99, max(0.0, (few * share - 1) / (few - 1)))

    def predicted(self, where: Inner, computed: int) -> float:
        """The speed-up over an uncached run."""
        steps, share = self.study.steps, self.shares[where]
        return steps / (computed + (steps - computed) * share)

    # ---- what things give

    def tried(self, shape: Shape, mask: Mask, pictures: int) -> dict[str, Any]:
        """The line of the book for a schedule, drawn where it isn't there."""
        key = (str(shape), mask, pictures)
        self.asked.add(key)
        if key not in self.book.tried:
            study, start = self.study.first(pictures), time.perf_counter()
            psnr = study.decibels(study.draw(shape.policy(self.grams[shape.where], mask)))
            self.book.add(key, {"psnr": [round(p, 4) for p in psnr], "seconds": time.perf_counter() - start})
        return self.book.tried[key]

    def loss(self, shape: Shape, mask: Mask, pictures: int) -> float:
        """Minus the mean PSNR: the mean of the logarithms of the squared errors, so that no picture decides alone."""
        return -fmean(self.tried(shape, mask, pictures)["psnr"])

    def start(self, where: Inner, computed: int, kind: str, tilt: float) -> Mask:
        """The shortest path's mask."""
        return shortest(gap_costs(self.grams[where], kind, tilt=tilt), computed)

    # ---- the search

    def hurry(self) -> None:
        """Raises Spent when there is no time left."""
        if self.book.seconds > self.seconds:
            raise Spent

    def found(self) -> tuple[Shape, Mask]:
        """The best shape and steps. Raises ValueError where no shape fits the goal."""
        share = self.goal.share or 0.5
        counts = {where: computed_within(share, self.shares[where], self.study.steps) for where in self.grams}
        if self.goal.psnr is not None:  # no budget: any number of steps will do for a first look
            counts = {where: n or 2 for where, n in counts.items()}
        fitting = {where: n for where, n in counts.items() if n is not None}
        if not fitting:
            shares = ", ".join(f"{share:.2f} with {where}" for where, share in self.shares.items())
            raise ValueError(f"tune: {self.goal} can't be met: a step that is stood in for still costs {shares}")
        shape, mask = self.shaped(fitting)
        if self.goal.psnr is not None:
            return self.as_few_as_can_be(shape, mask)
        if self.goal.speedup is not None:
            mask = self.fast_enough(shape, mask)
        return self.refined(shape, self.annealed(shape, mask))

    def shaped(self, counts: dict[Inner, int]) -> tuple[Shape, Mask]:
        """A first look at a few pictures: the best mask of the shortest paths of each span, then the best estimator."""
        early = min(EARLY, len(self.study.labels))
        ranked = []
        for where, count in counts.items():
            self.say(f"which blocks to spare, {where}: {count} steps of {self.study.steps}")
            masks = {self.start(where, count, kind, tilt) for kind, tilt in STARTS}
            first = Shape(where, FIRST)
            ranked.append(min((self.loss(first, mask, early), first, mask) for mask in sorted(masks)))
        _, shape, mask = min(ranked)
        self.say("what stands in")
        shapes = [Shape(shape.where, estimator) for estimator in ESTIMATORS]
        return min((self.loss(s, mask, early), s, mask) for s in shapes)[1:]

    def fast_enough(self, shape: Shape, mask: Mask) -> Mask:
        """Fewer steps where the clock says so: a prediction from single steps leaves out what the loop costs."""
        for _ in range(3):
            self.say(f"timing {len(mask)} of {self.study.steps} steps")
            policy = shape.policy(self.grams[shape.where], mask)
            now = self.book.note(
                f"speed-up {shape} {mask}", partial(speedup, self.study.first(EARLY), policy, self.rounds)
            )
            assert self.goal.speedup is not None
            fewer = min(len(mask) - 1, int(len(mask) * now / self.goal.speedup))
            if now >= self.goal.speedup or fewer < 2:
                break
            early = min(EARLY, len(self.study.labels))
            masks = {self.start(shape.where, fewer, kind, tilt) for kind, tilt in STARTS}
            mask = min((self.loss(shape, m, early), m) for m in masks)[1]
        return mask

    def annealed(self, shape: Shape, mask: Mask, until: float | None = None) -> Mask:
        """The mask after the search on all calibration pictures; it ends early once the loss is down to `until`."""
        count, left = len(self.study.labels), max(0, self.tries - len(self.asked))

        def loss(mask: Mask) -> float:
            if until is not None and reached and reached[-1] <= until:
                raise Spent
            if (str(shape), mask, count) not in self.book.tried:
                self.hurry()
            return self.loss(shape, mask, count)

        def on_try(tried: int, best: Mask, value: float) -> None:
            reached.append(value)
            self.best = f": {-value:.2f} dB"
            self.say(f"{len(best)} steps, {shape.estimator}")

        reached: list[float] = []
        try:
            return anneal(mask, loss, self.study.steps, left, self.study.seed, on_try=on_try)[0]
        except Spent:
            return mask

    def refined(self, shape: Shape, mask: Mask) -> tuple[Shape, Mask]:
        """The best estimator for the mask that was found."""
        count = len(self.study.labels)
        rivals = []
        for estimator in dict.fromkeys((shape.estimator, *ESTIMATORS)):
            rival = Shape(shape.where, estimator)
            rivals.append((self.loss(rival, mask, count), rival))
        return min(rivals)[1], mask

    def as_few_as_can_be(self, shape: Shape, mask: Mask) -> tuple[Shape, Mask]:
        """The fewest steps whose pictures reach the wanted PSNR: by halving, then by annealing one step fewer."""
        assert self.goal.psnr is not None
        count, low, high = len(self.study.labels), 2, self.study.steps - 1
        best: tuple[Shape, Mask] | None = None
        while low <= high:
            middle = (low + high) // 2
            masks = {self.start(shape.where, middle, kind, tilt) for kind, tilt in STARTS}
            value, mask = min((self.loss(shape, m, count), m) for m in masks)
            self.say(f"{middle} steps: {-value:.2f} dB")
            if -value >= self.goal.psnr:
                best, high = (shape, mask), middle - 1
            else:
                low = middle + 1
        if best is None:
            raise ValueError(f"tune: {self.goal.psnr} dB are not reached with {self.study.steps - 1} steps of as many")
        while len(best[1]) > 2:
            fewer = min(
                (self.loss(shape, m, count), m)
                for m in {self.start(shape.where, len(best[1]) - 1, kind, tilt) for kind, tilt in STARTS}
            )[1]
            mask = self.annealed(shape, fewer, until=-self.goal.psnr)
            if -self.loss(shape, mask, count) < self.goal.psnr:
                break
            best = shape, mask
        return best

    def pareto(self) -> list[dict[str, Any]]:
        """What was tried on all pictures, and what the first looks gave, for the picture."""
        lines = []
        for (shape, mask, pictures), line in self.book.tried.items():
            where = next(w for w in self.grams if shape.startswith(f"K={w.head},{w.tail} "))
            lines.append(
                {
                    "shape": shape,
                    "computed": len(mask),
                    "pictures": pictures,
                    "speedup": round(self.predicted(where, len(mask)), 4),
                    "psnr": round(fmean(line["psnr"]), 3),
                }
            )
        return lines
