"""PyAV, which reads and writes videos, where it is installed."""

from typing import Any

INSTALL = "pip install 'skipdit[video]'"


def pyav(use: str) -> Any:
    """The module `av`. Raises ModuleNotFoundError where it is missing, with what it is wanted for and the way out."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"PyAV {use}, and it is missing: {INSTALL}", name="av") from error
    return av
