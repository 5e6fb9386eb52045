"""Gaussians and mixtures of them fitted to rows, as normalised energies.

    fit_gaussian           mean and covariance of the rows
    fit_gaussian_mixture   expectation maximisation (Dempster, Laird & Rubin 1977) from starts drawn
                           by squared distance (Arthur & Vassilvitskii 2007), with a prior on the
                           covariances

Both keep some width in every direction, a tenth of the root mean square deviation of the rows, so
that columns that are constant or depend on others have a density too. Meant as laws to compare
with (the noise of noise-contrastive estimation), not as models.
"""

from __future__ import annotations

import torch
from torch import Tensor

from basin.core.validation import positive_integer
from basin.energies.analytic.gaussian import Gaussian
from basin.energies.analytic.gaussian_mixture import GaussianMixture

__all__ = ["fit_gaussian", "fit_gaussian_mixture"]

_NUM_ROWS = 4096  # that the expectation maximisation looks at
_NUM_ITERATIONS = 40
_WIDTH = 0.1  # of the root mean square deviation, in every direction


def fit_gaussian(x: Tensor) -> Gaussian:
    """The Gaussian of the rows ``x`` ``[n, *event]``, two of them at least, on flattened events.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
        >>> fit_gaussian(rows).covariance.diagonal()         # 1/2 each, and a hundredth of it
        tensor([0.5050, 0.5050], dtype=torch.float64)
    """
    mean, covariance = _moments(x.flatten(1).double())
    return Gaussian(mean, covariance)


def fit_gaussian_mixture(
    x: Tensor, num_components: int, generator: torch.Generator
) -> GaussianMixture:
    """A mixture fitted to the rows ``x`` ``[n, *event]``, on flattened events.

    Args:
        x: rows; the first 4,096 are used.
        num_components: how many Gaussians; as many as rows at most.
        generator: source of the starts.

    The covariance of each component is that of the rows it answers for, with d + 1 rows more at
    the covariance that the components would have if they tiled the data.

    Cost: 40 evaluations of the mixture on the rows.
    """
    positive_integer(num_components=num_components)
    rows = x.flatten(1).double()[:_NUM_ROWS]
    num_rows, dim = rows.shape
    count = min(num_components, num_rows)
    mean, covariance = _moments(rows)
    prior = covariance / count ** (2 / dim)
    means = _spread_starts(rows, count, generator)
    covariances, weights = prior.expand(count, dim, dim), torch.full((count,), 1 / count).to(mean)
    for _ in range(_NUM_ITERATIONS):
        posterior = GaussianMixture(means, covariances, weights).responsibilities(rows)
        counts = posterior.sum(0)
        # One row's worth of the old mean keeps a component that answers for nothing.
        means = (posterior.T @ rows + means) / (counts + 1)[:, None]
        weights = (counts + 1) / (num_rows + count)
        covariances = torch.stack(
            [
                ((rows - m).T @ ((rows - m) * p[:, None]) + (dim + 1) * prior) / (n + dim + 1)
                for m, p, n in zip(means, posterior.T, counts, strict=True)
            ]
        )
        covariances = (covariances + covariances.mT) / 2
    return GaussianMixture(means, covariances, weights)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance, with the least width added in every direction."""
    if len(rows) < 2:
        raise ValueError(f"x must have at least two rows to fit a Gaussian, got {len(rows)}")
    mean = rows.mean(0)
    centred = rows - mean
    covariance = centred.T @ centred / len(rows)
    variance = covariance.diagonal().mean()
    if not variance > 0:
        raise ValueError("x must vary to fit a Gaussian, got rows that are all the same")
    return mean, covariance + _WIDTH**2 * variance * torch.eye(len(mean)).to(mean)


def _spread_starts(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Rows drawn one after another, in proportion to the squared distance from those before."""
    chosen = [int(torch.randint(len(rows), (1,), generator=generator, device=rows.device))]
    nearest = (rows - rows[chosen[0]]).square().sum(1)
    for _ in range(count - 1):
        if not bool(nearest.sum() > 0):  # fewer different rows than components
            break
        chosen.append(int(torch.multinomial(nearest, 1, generator=generator)))
        nearest = torch.minimum(nearest, (rows - rows[chosen[-1]]).square().sum(1))
    return rows[chosen + chosen[:1] * (count - len(chosen))]
