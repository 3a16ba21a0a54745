"""What a training run is told: one frozen value, stored beside every checkpoint."""

from dataclasses import dataclass, fields
from typing import Annotated, get_type_hints

AT_LEAST_0 = ("warmup", "decay", "weight_decay", "seed", "ema", "tolerance", "images")


@dataclass(frozen=True)
class Recipe:
    """Settings of a run; the defaults are the shipped models'. Raises ValueError by name for a senseless one."""

    steps: Annotated[int, "optimizer steps"] = 2800
    batch_size: Annotated[int, "images or clips a step and process"] = 64
    images: Annotated[int, "clips: single frames of any clips behind each one, that no frame sees (joint training)"] = 0
    lr: Annotated[float, "learning rate of AdamW, constant after the warm-up"] = 1.5e-3
    warmup: Annotated[int, "steps of linear warm-up"] = 200
    decay: Annotated[int, "last steps, over which lr falls linearly to 0"] = 1000
    weight_decay: Annotated[float, "weight decay of AdamW"] = 0.0
    clip: Annotated[float, "largest norm of the gradient"] = 1.0
    ema: Annotated[float, "decay of the moving average"] = 0.999
    seed: Annotated[int, "of the weights, the order of the samples, the noise and the timesteps"] = 0
    precision: Annotated[str, "'no' (float32), 'bf16' or 'fp16', through Accelerate"] = "bf16"
    freeze: Annotated[str, "'backbone': train the skip branches alone; or comma-separated name parts to freeze"] = ""
    two_stage: Annotated[bool, "train the skip branches alone till the held-out loss stops falling, then all"] = False
    window: Annotated[int, "two stages: steps between two looks at the held-out loss"] = 100
    tolerance: Annotated[float, "two stages: an improvement of this share of the loss counts as none"] = 0.002
    first_stage: Annotated[int, "two stages: most steps of the first"] = 2000

    def __post_init__(self) -> None:
        kinds = get_type_hints(type(self))
        for f in fields(self):
            value, low = getattr(self, f.name), f.name in AT_LEAST_0
            if kinds[f.name] in (int, float) and not (value >= 0 if low else value > 0):
                raise ValueError(f"recipe: {f.name}={value!r} must be {'at least 0' if low else 'positive'}")
        if self.ema >= 1:
            raise ValueError(f"recipe: ema={self.ema!r} must be below 1")
        if self.precision not in ("no", "bf16", "fp16"):
            raise ValueError(f"recipe: precision={self.precision!r} is unknown: choose no, bf16 or fp16")
        if self.two_stage and self.freeze:
            raise ValueError(f"recipe: two_stage freezes the backbone by itself: leave freeze={self.freeze!r} out")

    def lr_at(self, step: int, begun: int = 0) -> float:
        """Learning rate of a step: linear warm-up, constant, linear fall to 0 (warm-up, stable, decay).

        begun    the step at which the stage began: each warms up anew
        """
        up = min(1.0, (step - begun + 1) / max(1, self.warmup))
        down = min(1.0, (self.steps - step) / max(1, self.decay))
        return self.lr * up * max(0.0, down)
