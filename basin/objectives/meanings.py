"""What the names in an objective's terms say, where several objectives share them."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = []  # for the objectives of this folder

SCORE_TERMS: Mapping[str, str] = {
    "space": "squared error of the score, in the objective's own weighting",
    "trivial": "what the trivial predictor (score zero) loses on the same noise",
}

IMPLICIT_TERMS: Mapping[str, str] = {
    "square": "mean of ||s||^2, the squared norm of the model's score",
    "curvature": "mean of 2 div s = -2 tr d2E/dx2; minus twice the square when the score is right "
    "up to its scale (Stein's identity)",
}

ENERGY_TERMS: Mapping[str, str] = {
    "E_data": "mean energy of the batch, in nats",
    "E_model": "mean energy of the model's draws, in nats",
    "gap": "E_data - E_model: near zero when the draws are as likely as the data; steadily "
    "negative, the sampler is not reaching where the model puts its mass",
}

NEIGHBOUR_TERMS: Mapping[str, str] = {
    "log_loss": "sum over coordinates of -log p(x_i | the others), in nats a row",
    "brier": "sum over neighbours of the squared probability of the wrong row of the two",
    "ratio_error": "squared error of the ratios p(neighbour) / p(row), up to a constant",
    "trivial": "what the flat energy (a row and its neighbours equally likely) loses",
}


def neighbours_are_blind(how: str) -> str:
    """Why an objective that changes one coordinate at a time misses weights of far modes."""
    return (
        f"{how}; between groups of rows that no chain of likely single changes joins there is "
        "nothing to learn their weights from"
    )


def scores_are_blind(where: str) -> str:
    """Why an objective made of scores at the data misses weights of far modes."""
    return (
        f"the score {where} says nothing of the weights of modes that lie far apart: a constant "
        "added to the energy of one of them changes no score, and between them there are no points "
        "to learn from"
    )
