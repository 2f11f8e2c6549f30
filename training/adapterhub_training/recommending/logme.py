"""How well a linear model on features explains labels: the log of the maximum evidence.

Source: LogME, You et al. 2021, algorithm 1.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_ROUNDS = 20
_CLOSE = 1e-3
_SMALL = 1e-12


def logme(features: Floats, targets: Floats) -> float:
    """The mean over columns of targets of the log evidence per example; more is better.

    Shapes:
        features: (examples, features)
        targets: (examples, columns): numbers, or one column of 0 and 1 for each label
    """
    count, _ = features.shape
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    squares = singular**2
    scores = [
        _evidence(column, left.T @ column, squares, count, features.shape[1])
        for column in targets.T
    ]
    return float(np.mean(scores))


def _evidence(column: Floats, projected: Floats, squares: Floats, count: int, width: int) -> float:
    """Find alpha and beta, the precisions of weights and noise, by their fixed point; then the evidence there."""
    outside = max(float(column @ column - projected @ projected), 0.0)
    alpha = beta = 1.0
    weights = residual = 0.0
    for _ in range(_ROUNDS):
        shrunk = beta * squares / (alpha + beta * squares)
        gamma = float(shrunk.sum())
        weights = float((beta**2 * squares * projected**2 / (alpha + beta * squares) ** 2).sum())
        residual = outside + float(((1 - shrunk) ** 2 * projected**2).sum())
        before = alpha / beta
        alpha = gamma / max(weights, _SMALL)
        beta = (count - gamma) / max(residual, _SMALL)
        if abs(alpha / beta - before) <= _CLOSE * before:
            break
    determinant = float(np.log(alpha + beta * squares).sum())
    determinant += (width - len(squares)) * math.log(alpha)
    evidence = (
        width / 2 * math.log(alpha)
        + count / 2 * math.log(beta)
        - beta / 2 * residual
        - alpha / 2 * weights
        - determinant / 2
        - count / 2 * math.log(2 * math.pi)
    )
    return evidence / count
