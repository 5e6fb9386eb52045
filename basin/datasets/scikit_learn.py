"""The real data that scikit-learn ships with: nothing is downloaded. Features only, no targets.

Sources and licences: the UCI repository's iris, wine, breast cancer and digits (CC BY 4.0),
diabetes of Efron, Hastie, Johnstone & Tibshirani 2004, and Tenenhaus' Linnerud data.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from basin.datasets.raw import RawData

__all__ = ["SCIKIT_LEARN", "read_scikit_learn"]

SCIKIT_LEARN = MappingProxyType(
    {
        "binarised_digits": ("images", "1,797 handwritten digits, 8x8 pixels of 0 or 1"),
        "breast_cancer": ("table", "569 tumours, 30 measures of their cell nuclei"),
        "diabetes": ("table", "442 patients, 10 measures in their own units"),
        "digits": ("images", "1,797 handwritten digits, 8x8 pixels of 0 to 16"),
        "iris": ("table", "150 flowers, 4 lengths in cm"),
        "linnerud": ("table", "20 men, 3 exercises"),
        "wine": ("table", "178 wines, 13 chemical measures"),
    }
)
"""name -> (kind, description)."""

_HALF = 8
"""Of the 16 grey levels above blank: where a binarised pixel turns to 1."""


def read_scikit_learn(name: str) -> RawData:
    """Read one of the data sets in :data:`SCIKIT_LEARN`.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise ImportError(
            f"the data set {name!r} needs scikit-learn: pip install scikit-learn"
        ) from None
    described = "from scikit-learn"
    if name in ("digits", "binarised_digits"):
        images = np.asarray(datasets.load_digits().images)[:, None]  # pyright: ignore
        if name == "binarised_digits":
            images = images >= _HALF
        return RawData(name, images.astype(np.uint8), None, described)
    options = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(**options)
    columns = tuple(str(column) for column in bunch.feature_names)
    return RawData(name, np.asarray(bunch.data, dtype=np.float64), columns, described)
