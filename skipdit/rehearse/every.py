"""Every method of the catalog rehearsed on one model, with the reasons of those that don't fit."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from skipdit.catalog import Catalog, parse
from skipdit.core.policy import Policy
from skipdit.rehearse.rehearsal import Rehearsal, rehearse, timesteps


class Refused(NamedTuple):
    """A method that doesn't fit a model with its defaults."""

    policy: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return {"policy": self.policy, "refused": self.reason}


def every_method(
    model: Any, steps: int, sampler: str | None = None, said: Sequence[Policy] = ()
) -> Iterator[Rehearsal | Refused]:
    """Every method with its defaults, by name. Policies that were said come in their method's place, plans first.

    Raises ValueError for a sampler that the model doesn't have, and for a said policy that doesn't fit.
    """
    timesteps(model, steps, sampler)
    for policy in lined_up(said):
        if isinstance(policy, str):
            yield _by_default(policy, model, steps, sampler)
        else:
            yield rehearse(model, policy, steps, sampler)


def lined_up(said: Sequence[Policy] = ()) -> list[Policy | str]:
    """The methods' names in order, each replaced by the policies of that method, if there are any."""
    names = Catalog("skipdit.methods").names()
    by_name: dict[str, list[Policy]] = {}
    for policy in said:
        by_name.setdefault(str(policy).partition("(")[0], []).append(policy)
    plans = [policy for name, policies in by_name.items() if name not in names for policy in policies]
    return [*plans, *(each for name in names for each in by_name.get(name, [name]))]


def default(name: str) -> Policy | Refused:
    """A method with its defaults."""
    try:
        return parse(name)
    except ValueError as error:
        return Refused(name, str(error).removeprefix(f"policy {name!r}: "))


def _by_default(name: str, model: Any, steps: int, sampler: str | None) -> Rehearsal | Refused:
    policy = default(name)
    if isinstance(policy, Refused):
        return policy
    try:
        return rehearse(model, policy, steps, sampler)
    except (ValueError, TypeError) as error:
        return Refused(name, str(error))
