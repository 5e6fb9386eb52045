"""The same work in JAX: one compiled ``lax.scan``, the limit that ``speed.py`` compares with.

Compiling happens in the first call, which is not timed.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch


def weights(ours):
    """Those of ``basin.energies.MLP``."""
    layers = [(layer.weight.T, layer.bias) for layer in ours.layers]
    layers.append((ours.output.weight.T, torch.zeros(1)))
    return [tuple(jnp.asarray(t.detach().numpy()) for t in layer) for layer in layers]


def mlp(parameters, x):
    for weight, bias in parameters[:-1]:
        x = jax.nn.softplus(x @ weight + bias)
    weight, bias = parameters[-1]
    return (x @ weight + bias)[..., 0]


def mixture(parameters, x):
    angle = jnp.arange(8) * math.pi / 4
    centres = 4 * jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)
    return -jax.nn.logsumexp(-2 * ((x[..., None, :] - centres) ** 2).sum(-1), axis=-1)


def denoising(rows, batch, steps, sigma):
    import speed_work

    x = jnp.asarray(rows.numpy())
    parameters = weights(speed_work.our_mlp(2))
    optimizer = optax.adam(1e-3)
    state = optimizer.init(parameters)

    def loss(parameters, key):
        first, second = jax.random.split(key)
        chosen = x[jax.random.randint(first, (batch,), 0, len(x))]
        z = jax.random.normal(second, chosen.shape)
        gradient = jax.grad(lambda y: mlp(parameters, y).sum())(chosen + sigma * z)
        return 0.5 * ((z / sigma - gradient) ** 2).sum(1).mean()

    def step(carry, key):
        value, gradient = jax.value_and_grad(loss)(carry[0], key)
        update, after = optimizer.update(gradient, carry[1], carry[0])
        return (optax.apply_updates(carry[0], update), after), value

    scan = jax.jit(lambda carry, key: jax.lax.scan(step, carry, jax.random.split(key, steps)))

    def run():
        jax.block_until_ready(scan((parameters, state), jax.random.key(1)))
        return steps

    return run


def langevin(ours, x0, steps, epsilon):
    energy, parameters = (mixture, None) if ours is None else (mlp, weights(ours))
    start = jnp.asarray(x0.numpy())

    def step(x, key):
        gradient = jax.grad(lambda y: energy(parameters, y).sum())(x)
        noise = jax.random.normal(key, x.shape)
        return x - epsilon * gradient + math.sqrt(2 * epsilon) * noise, None

    scan = jax.jit(lambda x, key: jax.lax.scan(step, x, jax.random.split(key, steps))[0])

    def run():
        jax.block_until_ready(scan(start, jax.random.key(5)))
        return steps * len(start)

    return run


def log_density(target, energy):
    if target == "logistic":
        rows = jnp.asarray(energy.rows.numpy())
        return lambda w: -jax.nn.softplus(-rows @ w).sum() - 0.5 * (w**2).sum()
    if target == "funnel":
        return lambda x: -(x[0] ** 2 / 18 + 0.5 * (jnp.exp(-x[0]) * (x[1:] ** 2).sum() + 9 * x[0]))
    place = np.arange(50)
    precision = np.linalg.inv(0.9 ** np.abs(place[:, None] - place))
    precision = jnp.asarray(precision, jnp.float32)
    return lambda x: -0.5 * x @ precision @ x


def draws_of(algorithm, x0, steps):
    """A function that gives ``[chain, draw, d]``, another stream of numbers at each call."""
    start = jnp.asarray(x0.numpy())
    first, calls = jax.vmap(algorithm.init)(start), [0]

    @jax.jit
    def chain(state, key):
        def step(state, key):
            state, _ = jax.vmap(algorithm.step)(jax.random.split(key, len(start)), state)
            return state, state.position

        return jax.lax.scan(step, state, jax.random.split(key, steps))[1]

    def run():
        calls[0] += 1
        found = np.asarray(jax.block_until_ready(chain(first, jax.random.key(calls[0]))))
        return torch.from_numpy(found.copy()).transpose(0, 1)

    return run


def hamiltonian(target, energy, x0, steps, epsilon):
    import blackjax

    kernel = blackjax.hmc(log_density(target, energy), epsilon, jnp.ones(x0.shape[1]), 10)
    return draws_of(kernel, x0, steps)


def no_u_turn(target, energy, x0, steps, epsilon):
    import blackjax

    kernel = blackjax.nuts(log_density(target, energy), epsilon, jnp.ones(x0.shape[1]))
    return draws_of(kernel, x0, steps)
