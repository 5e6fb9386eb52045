"""C2ST: the accuracy of known Gaussians, p-values uniform under the null, the bound on TV."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest, norm

from basin.evaluation import classifier_two_sample
from helpers.statistics import THRESHOLD


def normal(n, dim, generator):
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


def linear():
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()


def test_the_accuracy_of_two_known_gaussians(generator):
    """The best for N(0, I) and N(m, I) is linear, with accuracy Φ(|m| / 2)."""
    x, y = normal(2000, 2, generator) + 1, normal(2000, 2, generator)
    found = classifier_two_sample(x, y, generator, classifier=linear())
    truth = norm.cdf(math.sqrt(2) / 2)
    assert abs(found.value - truth) < 3.9 * found.standard_error
    assert found.standard_error == pytest.approx(math.sqrt(truth * (1 - truth) / 2000), rel=0.05)
    auc = norm.cdf(1)  # of s'x ~ N(0, 2), N(2, 2)
    assert abs(found.details["auc"] - auc) < 3.9 * found.details["auc_standard_error"]
    assert found.details["tv_lower"] < 2 * truth - 1 < found.details["tv_lower"] + 0.1


def p_values(generator, *, cheats):
    found = []
    for _ in range(200):
        x, y = normal(40, 2, generator), normal(40, 2, generator)
        if cheats:
            from sklearn.neighbors import KNeighborsClassifier

            from basin.evaluation.ranks import rank_against

            labels = torch.arange(80) < 40
            fitted = KNeighborsClassifier(5).fit(torch.cat([x, y]).numpy(), labels.numpy())
            guess = torch.tensor(fitted.predict_proba(torch.cat([x, y]).numpy())[:, 1])
            found.append(rank_against(guess[40:], guess[:40]).p_value_smaller)
        else:
            found.append(classifier_two_sample(x, y, generator).p_value)
    return found


def test_p_values_are_uniform_under_the_null(generator):
    assert kstest(p_values(generator, cheats=False), "uniform").pvalue > THRESHOLD


def test_rows_that_were_trained_on_are_a_mutant_that_fails(generator):
    assert kstest(p_values(generator, cheats=True), "uniform").pvalue < THRESHOLD


@pytest.mark.parametrize("fault", ["scale", "shift", "correlation"])
def test_planted_faults_are_found_by_the_default(fault, generator):
    x, y = normal(1000, 2, generator), normal(800, 2, generator)
    if fault == "correlation":
        x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    else:
        x = 2 * x if fault == "scale" else x + 0.8
    assert classifier_two_sample(x, y, generator).p_value < 1e-3


def test_a_constant_column_and_same_seed_same_value():
    x, y = (torch.randn(30, 1, 4, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    x[:, 0, 1] = y[:, 0, 1] = 7.0
    assert classifier_two_sample(x, y) == classifier_two_sample(x, y)
    assert classifier_two_sample(x, y).details["num_test_rows"] == 30


def test_bad_arguments(generator):
    x = normal(30, 2, generator)
    with pytest.raises(ValueError, match="20 rows or more"):
        classifier_two_sample(x[:10], x, generator)
    with pytest.raises(ValueError, match="share_of_training must leave two rows"):
        classifier_two_sample(x, x, generator, share_of_training=0.99)
