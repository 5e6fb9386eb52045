"""Gaussians and mixtures of them fitted to rows, as normalised energies.

    fit_gaussian           mean and covariance of the rows
    fit_gaussian_mixture   expectation maximisation (Dempster, Laird & Rubin 1977) by scikit-learn,
                           from the clusters of k-means
    fit_covering_mixture   such a mixture, widened, and one wide Gaussian of all rows

All keep some width in every direction, a tenth of the root mean square deviation of the rows
unless told otherwise, so that columns that are constant or depend on others have a density too.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from basin.core.validation import positive, positive_integer
from basin.energies.analytic.gaussian import Gaussian
from basin.energies.analytic.gaussian_mixture import GaussianMixture

__all__ = ["fit_covering_mixture", "fit_gaussian", "fit_gaussian_mixture"]

NUM_ROWS = 4096
"""That the expectation maximisation looks at."""

_WIDTH = 0.1  # of the root mean square deviation, in every direction

# A tenth of the mixture is one wide Gaussian, so that p / q stays bounded (Hesterberg 1995).
_DEFENSIVE_SHARE = 0.1


def fit_gaussian(x: Tensor) -> Gaussian:
    """The Gaussian of the rows ``x`` ``[n, *event]``, two of them at least, on flattened events.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
        >>> fit_gaussian(rows).covariance.diagonal()         # 1/2 each, and a hundredth of it
        tensor([0.5050, 0.5050], dtype=torch.float64)
    """
    mean, covariance, variance = _moments(x.flatten(1).double())
    return Gaussian(mean, covariance + _WIDTH**2 * variance * torch.eye(len(mean)).to(mean))


def fit_gaussian_mixture(
    x: Tensor, num_components: int, generator: torch.Generator, *, width: float = _WIDTH
) -> GaussianMixture:
    """A mixture fitted to the rows ``x`` ``[n, *event]``, on flattened events.

    Args:
        x: rows, two of them at least; the first 4,096 are used.
        num_components: how many Gaussians; as many as different rows at most.
        generator: source of the starts.
        width: fraction of the root mean square deviation of the rows that each component has in
            every direction on top of its own.

    Cost: at most 100 evaluations of the mixture on the rows.
    """
    # scikit-learn takes a second to import, which those who fit no mixture need not wait for.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as ExpectationMaximisation
    from threadpoolctl import threadpool_limits

    positive_integer(num_components=num_components)
    positive(width=width)
    rows = x.flatten(1).double()[:NUM_ROWS]
    _, _, variance = _moments(rows)
    seed = torch.randint(2**31, (), generator=generator, device=generator.device)
    search = ExpectationMaximisation(
        min(num_components, len(rows.unique(dim=0))),
        reg_covar=float(width**2 * variance),
        random_state=int(seed),
    )
    # One thread: k-means with several adds in the order in which they end.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # where it stops is a mixture too
        search.fit(rows.cpu().numpy())
    found = (search.means_, search.covariances_, search.weights_)
    return GaussianMixture(*found).to(x.device)


def fit_covering_mixture(
    x: Tensor, num_components: int, generator: torch.Generator, *, scale: float = 1.0
) -> GaussianMixture:
    """A law to draw noise or proposals from: near the rows, and nowhere much thinner than they are.

    Nine tenths are the Gaussians of :func:`fit_gaussian_mixture`, a tenth is the Gaussian of all
    rows, twice as wide.

    Args:
        x: rows, two of them at least, ``[n, *event]``.
        num_components: how many Gaussians, beside the wide one.
        generator: source of the starts.
        scale: factor of every standard deviation.
    """
    positive(scale=scale)
    fitted, wide = fit_gaussian_mixture(x, num_components, generator), fit_gaussian(x)
    share = torch.tensor([_DEFENSIVE_SHARE]).to(wide.mean)
    return GaussianMixture(
        torch.cat([fitted.means, wide.mean[None]]),
        scale**2 * torch.cat([fitted.covariances, 4 * wide.covariance[None]]),
        torch.cat([(1 - share) * fitted.weights, share]),
    )


def _moments(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, covariance and the mean variance of the coordinates."""
    if len(rows) < 2:
        raise ValueError(f"x must have at least two rows to fit a Gaussian, got {len(rows)}")
    mean = rows.mean(0)
    centred = rows - mean
    covariance = centred.T @ centred / len(rows)
    variance = covariance.diagonal().mean()
    if not variance > 0:
        raise ValueError("x must vary to fit a Gaussian, got rows that are all the same")
    return mean, covariance, variance
