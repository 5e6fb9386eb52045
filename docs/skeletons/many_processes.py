"""One energy, several processes: torchrun --nproc_per_node 2 docs/skeletons/many_processes.py

What is wrapped is the loss and not the energy: its forward differentiates the energy, so that every
gradient passes through the one call whose gradients are averaged. A parameter that no score depends
on (an output bias) has none to average and would leave the processes with different weights, without
a word; Basin's networks have none, and `require_no_output_bias` refuses yours.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import basin
from basin.core.inspect import require_no_output_bias
from basin.core.streams import stream

NUM_STEPS, BATCH = 50, 256


class LossModule(nn.Module):
    """An objective on an energy, as a module whose forward is the loss of a batch."""

    def __init__(self, energy: nn.Module, objective: basin.core.Objective, x: Tensor) -> None:
        super().__init__()
        self.energy, self.objective = energy, objective
        # From the same rows and the same stream in every process: their states agree.
        self.objective_state = objective.init(x, stream(0, "initial"))

    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The mean loss of ``x``."""
        return self.objective(self.energy, x, self.objective_state, generator).value


def main() -> None:
    distributed.init_process_group("gloo")  # "nccl" where each process has a GPU
    rank = distributed.get_rank()
    density = basin.datasets.TwoMoons()
    first_rows = density.sample(1000, stream(0, "first rows"))
    energy = basin.energies.MLP(2, hidden=(64, 64), seed=0)
    require_no_output_bias(energy, first_rows)
    objective = basin.objectives.DenoisingScoreMatching(sigma=0.1)
    loss_module = DistributedDataParallel(LossModule(energy, objective, first_rows))
    optimizer = torch.optim.Adam(energy.parameters(), 1e-3)
    generator = stream(0, f"process {rank}")  # other rows and other noise in each process
    for _ in range(NUM_STEPS):
        loss = loss_module(density.sample(BATCH, generator), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    total = sum(float(p.detach().double().sum()) for p in energy.parameters())
    everyone: list[tuple[float, float]] = [(0.0, 0.0)] * distributed.get_world_size()
    distributed.all_gather_object(everyone, (loss.item(), total))
    if rank == 0:
        for process, (its_loss, its_total) in enumerate(everyone):
            print(f"process {process}: loss {its_loss:.4f}, sum of weights {its_total:.12f}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
