"""What a training run is told: one frozen value, stored beside every checkpoint."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Recipe:
    """Settings of a run. The defaults train the shipped emoji models. Raises ValueError by name for a senseless one."""

    steps: int = 9000  # optimizer steps
    batch_size: int = 64  # images a step and process
    lr: float = 1e-3  # AdamW, constant after the warm-up
    warmup: int = 200  # steps of linear warm-up
    decay: int = 1500  # last steps, over which lr falls linearly to 0
    weight_decay: float = 0.0
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.999  # decay of the moving average
    seed: int = 0
    precision: str = "no"  # "no" (float32), "bf16" or "fp16", through Accelerate
    freeze: str = ""  # "backbone": train the skip branches alone; or a comma-separated list of name parts to freeze

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            low = {"warmup": 0, "decay": 0, "weight_decay": 0, "seed": 0, "ema": 0}.get(f.name)
            if f.type in (int, float) and not (value >= low if low is not None else value > 0):
                raise ValueError(f"recipe: {f.name}={value!r} must be {'at least 0' if low == 0 else 'positive'}")
        if self.ema >= 1:
            raise ValueError(f"recipe: ema={self.ema!r} must be below 1")
        if self.precision not in ("no", "bf16", "fp16"):
            raise ValueError(f"recipe: precision={self.precision!r} is unknown: choose no, bf16 or fp16")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, constant, linear fall to 0 (warm-up, stable, decay)."""
        up = min(1.0, (step + 1) / max(1, self.warmup))
        down = min(1.0, (self.steps - step) / max(1, self.decay))
        return self.lr * up * max(0.0, down)
