"""The work that ``speed.py`` times: each function returns ``{library: thunk}``.

A thunk does the whole work once and returns how many units it did. Every library gets the same
network with the same first weights, the same rows and the same settings, in the way its own
documentation uses it. "plain" is what a course notebook writes. A library that is not installed
or has no such thing is left out.
"""

from __future__ import annotations

import importlib
import math
from copy import deepcopy
from functools import cache, partial

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import basin
from basin.core.threads import num_threads_for, threads
from basin.core.types import SteppedByGraphs
from basin.sampling.run import _Record as ChainRecord
from basin.sampling.steps import chain_graph
from basin.training.adam import Adam
from basin.training.history import History
from basin.training.loop import Loop, TrainingState, learned_parts
from basin.training.settings import Settings
from basin.training.step import by_autograd, by_graph, steps_together

SIGMA = 0.1


@cache
def library(name):
    """The module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


# ---------------------------------------------------------------------- networks and densities


class PlainMLP(nn.Module):
    """d-h-h-1 with softplus, as a notebook writes it; weights of ``basin.energies.MLP``."""

    def __init__(self, ours):
        super().__init__()
        (d, h), activation = (ours.layers[0].in_features, ours.layers[0].out_features), nn.Softplus
        self.net = nn.Sequential(
            *(nn.Linear(d, h), activation(), nn.Linear(h, h), activation(), nn.Linear(h, 1))
        )
        with torch.no_grad():
            for place, layer in ((0, ours.layers[0]), (2, ours.layers[1])):
                self.net[place].weight.copy_(layer.weight)
                self.net[place].bias.copy_(layer.bias)
            self.net[4].weight.copy_(ours.output.weight)
            self.net[4].bias.zero_()

    def forward(self, x):
        return self.net(x).squeeze(-1)


def our_mlp(dim, width=128):
    return basin.energies.MLP(dim, (width, width), "softplus")


class Mixture(nn.Module):
    """Eight Gaussians of standard deviation 1/2 on a circle of radius 4."""

    def __init__(self):
        super().__init__()
        angle = torch.arange(8) * math.pi / 4
        self.register_buffer("centres", 4 * torch.stack([angle.cos(), angle.sin()], 1))

    def forward(self, x):
        return -torch.logsumexp(-(x[:, None] - self.centres).square().sum(-1) * 2, 1)


class Correlated(nn.Module):
    """A Gaussian in 50 dimensions, covariance 0.9^|i - j|."""

    def __init__(self, dim=50):
        super().__init__()
        place = torch.arange(dim)
        covariance = 0.9 ** (place[:, None] - place).abs().double()
        self.register_buffer("precision", torch.linalg.inv(covariance).float())
        self.register_buffer("factor", torch.linalg.cholesky(covariance).float())

    def forward(self, x):
        return 0.5 * ((x @ self.precision) * x).sum(1)

    def draw(self, n):
        return torch.randn(n, len(self.factor)) @ self.factor.T


class Funnel(nn.Module):
    """Neal's, in ten dimensions."""

    def forward(self, x):
        v, rest = x[:, 0], x[:, 1:]
        return v * v / 18 + 0.5 * (torch.exp(-v) * rest.square().sum(1) + 9 * v)

    def draw(self, n):
        v = 3 * torch.randn(n, 1)
        return torch.cat([v, torch.exp(v / 2) * torch.randn(n, 9)], 1)


class Logistic(nn.Module):
    """Posterior of logistic regression: 500 rows, 20 columns, prior N(0, 1) on each weight."""

    def __init__(self, num_rows=500, dim=20):
        super().__init__()
        drawn = torch.Generator().manual_seed(0)
        rows, truth = torch.randn(num_rows, dim, generator=drawn), torch.linspace(-1, 1, dim)
        is_one = torch.rand(num_rows, generator=drawn) < torch.sigmoid(rows @ truth)
        # of the sign of its label each
        self.register_buffer("rows", torch.where(is_one[:, None], rows, -rows))

    def forward(self, w):
        return nn.functional.softplus(-w @ self.rows.T).sum(1) + 0.5 * w.square().sum(1)

    def draw(self, n):
        """Starts near the middle: there are no exact draws."""
        return 0.1 * torch.randn(n, self.rows.shape[1])


# The density, and step sizes of HMC and NUTS.
TARGETS = {
    "gaussian": (Correlated, 0.25, 0.2),
    "funnel": (Funnel, 0.15, 0.15),
    "logistic": (Logistic, 0.08, 0.08),
}


class PlainConv(nn.Module):
    """1 x 28 x 28 -> energy, four strided convolutions, as a notebook writes it."""

    def __init__(self, energy):
        super().__init__()
        copy = deepcopy(energy)
        layers = [part for layer in copy.layers for part in (layer, nn.Softplus())]
        self.net = nn.Sequential(*layers, nn.Flatten(), copy.output)

    def forward(self, x):
        return self.net(x).squeeze(-1)


def our_conv():
    return basin.energies.Conv((1, 28, 28), (32, 64, 128, 176), "softplus")


def for_torchebm(module):
    base = library("torchebm.core").BaseModel

    class Wrapped(base):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            return self.inner(x)

    return Wrapped()


# ------------------------------------------------------------------------------------ training


def our_training(energy, objective, rows, batch, steps, compiled=False):
    """``basin.fit``'s loop, all of its bookkeeping included; compiling is not timed."""

    def itself(energy, x):
        return energy, x

    def refuse(error):
        raise error

    propose = by_graph(itself, refuse) if compiled else by_autograd(itself)
    generators = {
        name: torch.Generator().manual_seed(i) for i, name in enumerate(("rows", "noise"))
    }
    first = objective.init(rows[:1000], generators["noise"])
    state = TrainingState(
        energy,
        None,
        Adam(energy.parameters(), (0.9, 0.999)),
        first,
        generators,
        learned_parts(objective, first, (0.9, 0.999)),
    )
    table = basin.datasets.TensorRows(rows)

    def run():
        settings = Settings(
            num_steps=state.step + steps,
            batch_size=batch,
            learning_rate=1e-3,
            learning_rate_schedule="constant",
            evaluate_every=steps,
            checkpoint_every=steps,
            gradient_clip=None,
            ema_decay=None,
        )
        loop = Loop(
            objective=objective,
            propose=propose,
            draw=table.draw,
            validation=None,
            is_finite_table=True,
            settings=settings,
            history=History(None),
            checkpoint_folder=None,
            report=lambda step, record: None,
            together=steps_together(energy, settings) if compiled else 1,
        )
        with threads(num_threads_for(energy, batch)):  # as basin.fit does
            loop.run(state)
        return steps

    return run


def torch_loop(loss_of, module, batches, steps):
    """A loop of one's own around a loss, with PyTorch's Adam."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)

    def run():
        for _ in range(steps):
            loss = loss_of(next(batches))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return steps

    return run


def loaded(rows, batch):
    """Batches of a DataLoader, without end."""
    loader = DataLoader(TensorDataset(rows), batch_size=batch, shuffle=True, drop_last=True)
    while True:
        for (x,) in loader:
            yield x


def indexed(rows, batch):
    """Batches by random indices, without end."""
    while True:
        yield rows[torch.randint(len(rows), (batch,))]


def plain_score(energy, x):
    x = x.detach().requires_grad_(True)
    return x, -torch.autograd.grad(energy(x).sum(), x, create_graph=True)[0]


def plain_denoising(energy, sigma, x):
    z = torch.randn_like(x)
    _, s = plain_score(energy, x + sigma * z)
    return 0.5 * (s + z / sigma).square().flatten(1).sum(1).mean()


def plain_exact(energy, x):
    x, s = plain_score(energy, x)
    trace = sum(
        torch.autograd.grad(s[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1])
    )
    return (0.5 * s.square().sum(1) + trace).mean()


def plain_sliced(energy, x):
    x, s = plain_score(energy, x)
    v = torch.randn_like(x)
    product = torch.autograd.grad((s * v).sum(), x, create_graph=True)[0]
    return (0.5 * s.square().sum(1) + (product * v).sum(1)).mean()


def ebmkit_trainer(module, loss, rows, batch, steps):
    trainer = library("ebm").Trainer(module, loss, lr=1e-3, device="cpu")

    def run():
        trainer.fit(rows, steps=steps, batch_size=batch, verbose=False)
        return steps

    return run


def denoising(batch, steps):
    """Denoising score matching on the checkerboard, MLP 2-128-128-1, sigma 0.1."""
    rows = basin.datasets.Checkerboard().sample(51_200, torch.Generator().manual_seed(0))
    objective = basin.objectives.DenoisingScoreMatching(
        SIGMA, antithetic=False, posterior_mean=False, num_noised=None
    )
    plain = [PlainMLP(our_mlp(2)) for _ in range(4)]
    loss = partial(plain_denoising, plain[0], SIGMA)
    work = {
        "basin": our_training(our_mlp(2), objective, rows, batch, steps),
        "basin, compiled": our_training(our_mlp(2), objective, rows, batch, steps, compiled=True),
        "plain": torch_loop(loss, plain[0], loaded(rows, batch), steps),
    }
    if library("torchebm"):
        module = for_torchebm(plain[1])
        theirs = library("torchebm.losses").DenoisingScoreMatching(module, noise_scale=SIGMA)
        work["torchebm"] = torch_loop(theirs, module, indexed(rows, batch), steps)
    if library("ebm"):
        theirs = library("ebm").DenoisingScoreMatching(SIGMA)
        work["ebmkit"] = ebmkit_trainer(plain[2], theirs, rows, batch, steps)
    if library("jax"):
        work["jax"] = importlib.import_module("speed_jax").denoising(rows, batch, steps, SIGMA)
    return work


def score_matching(kind, dim, steps):
    """Exact or sliced score matching (one direction), MLP d-128-128-1, batch 256."""
    rows, batch = torch.randn(4096, dim, generator=torch.Generator().manual_seed(0)), 256
    plain = [PlainMLP(our_mlp(dim)) for _ in range(3)]
    is_exact = kind == "exact"
    if is_exact:
        objective = basin.objectives.ExactScoreMatching()
    else:
        objective = basin.objectives.SlicedScoreMatching(
            num_directions=1, directions="gaussian", reduced=False
        )
    loss = partial(plain_exact if is_exact else plain_sliced, plain[0])
    work = {
        "basin": our_training(our_mlp(dim), objective, rows, batch, steps),
        "basin, compiled": our_training(our_mlp(dim), objective, rows, batch, steps, compiled=True),
        "plain": torch_loop(loss, plain[0], indexed(rows, batch), steps),
    }
    if library("torchebm"):
        module, losses = for_torchebm(plain[1]), library("torchebm.losses")
        theirs = (
            losses.ScoreMatching(module, hessian_method="exact")
            if is_exact
            else losses.SlicedScoreMatching(module, n_projections=1)
        )
        work["torchebm"] = torch_loop(theirs, module, indexed(rows, batch), steps)
    if library("ebm"):
        ebm = library("ebm")
        theirs = ebm.ExactScoreMatching() if is_exact else ebm.SlicedScoreMatching(1)
        work["ebmkit"] = ebmkit_trainer(plain[2], theirs, rows, batch, steps)
    return work


def persistent(steps):
    """PCD on the 8 x 8 digits: MLP 64-256-256-1, 20 Langevin steps, batch 128, buffer 10,000."""
    rows = basin.datasets.load("digits")
    rows = rows.train.take(0, rows.train.num_rows).flatten(1) / 8 - 1
    epsilon, k, batch, size = 0.01, 20, 128, 10_000
    plain = [PlainMLP(our_mlp(64, 256)) for _ in range(3)]
    objective = basin.objectives.PersistentContrastiveDivergence(
        kernel=basin.samplers.Langevin(epsilon),
        num_steps=k,
        num_chains=batch,
        buffer_size=size,
        reinitialise=0.05,
        restart_at_data=0.0,
        sigma=0.0,
        energy_l2=0.0,
    )
    buffer, energy = torch.randn(size, 64), plain[0]

    def plain_loss(x):
        place = torch.randint(size, (batch,))
        start = buffer[place]
        anew = torch.rand(batch) < 0.05
        start[anew] = torch.randn(int(anew.sum()), 64)
        end = plain_langevin(energy, start, k, epsilon)
        buffer[place] = end
        return energy(x).mean() - energy(end).mean()

    work = {
        "basin": our_training(our_mlp(64, 256), objective, rows, batch, steps),
        "basin, compiled": our_training(
            our_mlp(64, 256), objective, rows, batch, steps, compiled=True
        ),
        "plain": torch_loop(plain_loss, energy, loaded(rows, batch), steps),
    }
    if library("torchebm"):
        module = for_torchebm(plain[1])
        sampler = library("torchebm.samplers").LangevinDynamics(module, step_size=epsilon)
        divergence = library("torchebm.losses").PersistentContrastiveDivergence(
            module, sampler, k_steps=k, buffer_size=size, init_steps=0, energy_reg_weight=0.0
        )
        work["torchebm"] = torch_loop(
            lambda x: divergence(x)[0], module, indexed(rows, batch), steps
        )
    if library("ebm"):
        ebm = library("ebm")
        theirs = ebm.ContrastiveDivergence(
            ebm.LangevinDynamics(epsilon, k), buffer=ebm.ReplayBuffer(size, (64,))
        )
        work["ebmkit"] = ebmkit_trainer(plain[2], theirs, rows, batch, steps)
    return work


def convolutional(steps):
    """Denoising score matching of a convolutional energy on 1 x 28 x 28, batch 64."""
    rows = torch.rand(1024, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    plain = [PlainConv(our_conv()) for _ in range(3)]
    objective = basin.objectives.DenoisingScoreMatching(
        0.3, antithetic=False, posterior_mean=False, num_noised=None
    )
    work = {
        "basin": our_training(our_conv(), objective, rows, 64, steps),
        "basin, compiled": our_training(our_conv(), objective, rows, 64, steps, compiled=True),
        "plain": torch_loop(
            partial(plain_denoising, plain[0], 0.3), plain[0], loaded(rows, 64), steps
        ),
    }
    if library("torchebm"):
        module = for_torchebm(plain[1])
        theirs = library("torchebm.losses").DenoisingScoreMatching(module, noise_scale=0.3)
        work["torchebm"] = torch_loop(theirs, module, indexed(rows, 64), steps)
    if library("ebm"):
        theirs = library("ebm").DenoisingScoreMatching(0.3)
        work["ebmkit"] = ebmkit_trainer(plain[2], theirs, rows, 64, steps)
    return work


# ------------------------------------------------------------------------------------ sampling


def plain_langevin(energy, x, steps, epsilon):
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(energy(x).sum(), x)
        x = x - epsilon * gradient + math.sqrt(2 * epsilon) * torch.randn_like(x)
    return x.detach()


def our_chains(energy, kernel, x0, steps, keep="last"):
    """``basin.sample``."""

    def run():
        run.draws = basin.sample(
            energy, kernel, x0, num_steps=steps, keep=keep, check_step_size=False
        ).positions
        return steps * len(x0)

    return run


def our_compiled_chains(energy, kernel, x0, steps, keep="last"):
    """The loop of ``basin.sample(compile=True)`` around a graph that is made before the clock."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        first = kernel.init(energy, x0, generator)
    if isinstance(kernel, SteppedByGraphs):
        by_graphs, together = kernel.compiled_step(energy, first, generator), 1
        for _ in range(10):  # graphs are made as they are wanted
            by_graphs(first, generator)

        def advance(state):
            return [by_graphs(state, generator)]
    else:
        advance, together = chain_graph(energy, kernel, first, generator, steps)

    def run():
        state, step, record = first, 0, ChainRecord(steps, 1, keep, x0)
        for _ in range(steps // together):
            for state, info in advance(state):  # noqa: B020 (the last one is where the next begins)
                step += 1
                record.add(step, state, info)
        run.draws = record.draws()
        return step * len(x0)

    return run


def langevin(target, num_chains, steps):
    """Unadjusted Langevin, step size 0.01."""
    epsilon = 0.01
    x0 = 2 * torch.randn(num_chains, 2, generator=torch.Generator().manual_seed(0))
    if target == "conv":
        ours, epsilon = our_conv(), 1e-3
        plain, x0 = PlainConv(ours), torch.rand(num_chains, 1, 28, 28)
    elif target == "mlp":
        ours = our_mlp(2)
        plain = PlainMLP(ours)
    else:
        ours = plain = Mixture()
    kernel = basin.samplers.Langevin(epsilon)
    work = {
        "basin": our_chains(ours, kernel, x0, steps),
        "basin, compiled": our_compiled_chains(ours, kernel, x0, steps),
    }

    def counted(function):
        def run():
            function()
            return steps * num_chains

        return run

    work["plain"] = counted(partial(plain_langevin, plain, x0, steps, epsilon))
    if library("torchebm"):
        sampler = library("torchebm.samplers").LangevinDynamics(
            for_torchebm(plain), step_size=epsilon
        )
        work["torchebm"] = counted(lambda: sampler.sample(x=x0, n_steps=steps))
    if library("ebm"):
        theirs = library("ebm").LangevinDynamics(epsilon, steps)
        work["ebmkit"] = counted(lambda: theirs.sample(plain, x0))
    if library("jax") and target != "conv":
        module = importlib.import_module("speed_jax")
        work["jax"] = module.langevin(ours if target == "mlp" else None, x0, steps, epsilon)
    return work


def kept(num_steps, function, layout=lambda draws: draws):
    """A thunk that keeps the draws of ``function`` as ``[chain, draw, d]``."""

    def run():
        run.draws = layout(function())
        return num_steps

    return run


def without_first(draws):
    """ebmkit's ``[1 + draw, chain, d]``, start included, as ``[chain, draw, d]``."""
    return draws[1:].transpose(0, 1)


def hamiltonian(target, steps):
    """HMC of ten leapfrog steps, 100 chains from exact draws; effective draws a second."""
    torch.manual_seed(0)
    density, epsilon, _ = TARGETS[target]
    energy = density()
    x0 = energy.draw(100)
    total = steps * len(x0)
    kernel = basin.samplers.HMC(epsilon, 10, jitter=0.0)
    work = {
        "basin": our_chains(energy, kernel, x0, steps, keep="all"),
        "basin, compiled": our_compiled_chains(energy, kernel, x0, steps, keep="all"),
    }

    if library("torchebm"):
        theirs = library("torchebm.samplers").HamiltonianMonteCarlo(
            for_torchebm(energy), step_size=epsilon, n_leapfrog_steps=10
        )
        work["torchebm"] = kept(
            total, lambda: theirs.sample(x=x0, n_steps=steps, return_trajectory=True)
        )
    if library("ebm"):
        kit = library("ebm").HMC(epsilon, 10, steps)
        work["ebmkit"] = kept(
            total, lambda: kit.sample(energy, x0, return_trajectory=True), without_first
        )
    if library("blackjax"):
        module = importlib.import_module("speed_jax")
        work["blackjax"] = kept(total, module.hamiltonian(target, energy, x0, steps, epsilon))
    return work


def no_u_turn(target, steps):
    """NUTS, 20 chains, a fixed step size, identity metric; effective draws a second."""
    torch.manual_seed(0)
    density, _, epsilon = TARGETS[target]
    energy = density()
    x0 = energy.draw(20)
    total = steps * len(x0)
    kernel = basin.samplers.NUTS(epsilon)
    work = {
        "basin": our_chains(energy, kernel, x0, steps, keep="all"),
        "basin, compiled": our_compiled_chains(energy, kernel, x0, steps, keep="all"),
    }

    if library("ebm"):
        kit = library("ebm").NUTS(epsilon, steps, warmup=0)
        work["ebmkit"] = kept(
            total, lambda: kit.sample(energy, x0, return_trajectory=True), without_first
        )
    if library("blackjax"):
        module = importlib.import_module("speed_jax")
        work["blackjax"] = kept(total, module.no_u_turn(target, energy, x0, steps, epsilon))
    return work
