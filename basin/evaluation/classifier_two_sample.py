"""Classifier two-sample test: can anyone tell samples from held-out data?

    value = accuracy on rows the classifier has not seen        ½ when both sets have one law

Half of each set trains a classifier and the other half tests it. Source: Lopez-Paz & Oquab 2017
(arXiv 1610.06545), section 3. The accuracy says how far the laws are apart: no classifier exceeds
(1 + TV) / 2, so that 2 accuracy - 1 is a lower bound of the total variation distance (in
expectation; ``tv_lower`` is one in 95 of 100 cases).

The p-value is that of the ranks of the classifier's probabilities in the test half, one-sided: more
is known of a row than on which side of ½ it fell. It is right whatever the classifier, which only
moves the power; the ranks are as good as normal from some twenty test rows on.
Cost: that of the classifier; by default the nearest neighbours among standardised rows, √n_train of
them, some 10 ms for 1,000 rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from basin.core.validation import in_unit_interval
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.ranks import rank_against
from basin.evaluation.two_sample import ONE_LAW, pooled

__all__ = ["classifier_two_sample"]

_LEVEL = 0.95  # of tv_lower


def classifier_two_sample(
    samples: Tensor,
    held_out: Tensor,
    generator: torch.Generator | None = None,
    *,
    classifier: Any = None,
    share_of_training: float = 0.5,
    about: About | None = None,
) -> Estimate:
    """Accuracy of telling samples from held-out rows, null hypothesis: one law.

    Args:
        samples: draws of the model, ``[n, *event]``, independent. Of the larger set a random part
            is taken, so that guessing has accuracy ½.
        held_out: rows not trained on, ``[m, *event]``, blurred as the model is; 20 or more each.
        generator: source of the split; a fresh one of seed 0 by default.
        classifier: with scikit-learn's ``fit`` and ``predict_proba`` (give it its random_state);
            it is cloned, and fitted on standardised rows. Nearest neighbours by default.
        share_of_training: of the rows, between 0 and 1.
        about: what to state in the result.

    Returns:
        ``value`` with its binomial error; ``details``: ``auc`` and its error, ``tv_lower`` (a lower
        95% confidence limit of the total variation distance) and the sizes of both halves.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(400, 2, generator=g), torch.randn(400, 2, generator=g)
        >>> found = classifier_two_sample(x + 2, y, g)  # the best: Φ(√2) = 0.92
        >>> round(found.value, 1), found.p_value < 1e-4
        (0.9, True)
    """
    in_unit_interval(share_of_training=share_of_training)
    rows, n, m = pooled(samples, held_out, fewest=20)
    generator = generator or torch.Generator().manual_seed(0)
    size = min(n, m)
    num_train = round(share_of_training * size)
    if not 2 <= num_train <= size - 2:
        raise ValueError(
            f"share_of_training must leave two rows to train and to test, got {share_of_training} "
            f"of {size}"
        )
    device = generator.device
    order_x, order_y = (
        torch.randperm(count, generator=generator, device=device).cpu()[:size] for count in (n, m)
    )
    of_x, of_y = rows[:n][order_x], rows[n:][order_y]
    train = torch.cat([of_x[:num_train], of_y[:num_train]])
    test = torch.cat([of_x[num_train:], of_y[num_train:]])
    # Spread of the training half alone: the test half must stay unseen.
    spread = train.std(dim=0)
    spread[spread == 0] = 1.0
    labels = np.repeat([1, 0], num_train)
    fitted = _classifier(classifier, 2 * num_train).fit((train / spread).numpy(), labels)
    probabilities = fitted.predict_proba((test / spread).numpy())[:, 1]
    found = torch.tensor(probabilities, dtype=torch.float64)  # of being a sample
    num_test = size - num_train
    as_sample, as_held_out = found[:num_test], found[num_test:]
    # Probability ½ exactly is no answer: half of it is right.
    right = float(_share_right(as_sample) + _share_right(1 - as_held_out)) / 2
    ranking = rank_against(as_held_out, as_sample)
    return Estimate(
        value=right,
        standard_error=math.sqrt(max(right * (1 - right), 1 / (8 * num_test)) / (2 * num_test)),
        floor=0.5,
        p_value=_larger(ranking.area, ranking.p_value),
        n=2 * num_test,
        meaning="accuracy of a classifier that tells samples from held-out data",
        about=about or About(),
        null=ONE_LAW,
        details={
            "auc": ranking.area,
            "auc_standard_error": ranking.standard_error,
            "tv_lower": max(0.0, 2 * _lower_limit(right, 2 * num_test) - 1),
            "classifier": type(fitted).__name__,
            "num_training_rows": 2 * num_train,
            "num_test_rows": 2 * num_test,
        },
    )


def _classifier(given: Any, num_train: int) -> Any:
    if given is not None:
        from sklearn.base import clone

        return clone(given)
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(max(1, math.isqrt(num_train)))


def _share_right(probability: Tensor) -> Tensor:
    return (probability > 0.5).double().mean() + 0.5 * (probability == 0.5).double().mean()


def _larger(area: float, two_sided: float) -> float:
    """The one-sided p-value of an area above ½."""
    return 0.5 * two_sided if area > 0.5 else 1 - 0.5 * two_sided


def _lower_limit(share: float, count: int) -> float:
    """One-sided Clopper-Pearson limit of a probability."""
    from scipy.stats import beta

    hits = share * count
    return float(beta.ppf(1 - _LEVEL, hits, count - hits + 1)) if hits > 0 else 0.0
