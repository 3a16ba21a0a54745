"""Refuse a senseless parameter by name when a policy is made."""

import math
from typing import Any


def _name(owner: object) -> str:
    return owner if isinstance(owner, str) else type(owner).__name__


def whole(owner: object, name: str, value: Any, low: int = 0) -> None:
    """`value` must be a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{_name(owner)}: {name}={value!r} must be a whole number")
    if value < low:
        raise ValueError(f"{_name(owner)}: {name}={value} must be at least {low}")


def number(owner: object, name: str, value: Any, low: float = 0.0, strict: bool = False) -> None:
    """`value` must be a finite number of at least (strict: above) `low`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{_name(owner)}: {name}={value!r} must be a number")
    if not math.isfinite(value) or value < low or (strict and value == low):
        bound = f"above {low:g}" if strict else f"at least {low:g}"
        raise ValueError(f"{_name(owner)}: {name}={value} must be finite and {bound}")


def window(owner: object, hi: Any, lo: Any) -> None:
    """Bounds of a window must be numbers of at least 0, `lo` below `hi`; None is no bound."""
    for name, value in (("hi", hi), ("lo", lo)):
        if value is not None:
            number(owner, name, value)
    if hi is not None and lo is not None and lo >= hi:
        raise ValueError(f"{_name(owner)}: lo={lo} must be below hi={hi}")
