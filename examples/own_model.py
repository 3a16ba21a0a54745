"""Give a transformer of your own long skip branches, and sample it with a policy of your own.

python examples/own_model.py
"""

import torch
from torch import Tensor, nn

import skipdit
from skipdit.core.backbone import Backbone, Contract
from skipdit.core.policy import Policy
from skipdit.core.what import forecast
from skipdit.core.when import Every
from skipdit.core.where import Inner


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, hidden: Tensor, time: Tensor) -> Tensor:
        return hidden + torch.tanh(self.mlp(self.norm(hidden + time)))  # (B, T, D)


class Denoiser(nn.Module):
    backbone = Backbone({"layers": Contract(("hidden",))})  # all that skipdit needs to know

    def __init__(self, width: int = 64, depth: int = 10):
        super().__init__()
        self.layers = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = (t / 1000)[:, None, None]  # (B, 1, 1)
        for layer in self.layers:
            x = layer(x, time)
        return x


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    model = Denoiser()
    x = torch.randn(2, 16, 64)
    before = model(x, torch.tensor([500.0, 500.0]))
    skipdit.add_skips(model, width=64)
    assert torch.equal(model(x, torch.tensor([500.0, 500.0])), before)  # fresh branches change nothing

    policy = Policy(Inner(1, 1), Every(3, warmup=2), forecast(1))
    with skipdit.attach(model, policy) as run:  # the timestep is the clock: nobody names the steps
        for t in range(980, -1, -20):
            x = x - 0.02 * model(x, torch.full((2,), float(t)))
    print(policy)
    print(run.report())


if __name__ == "__main__":
    main()
