"""The last table of a search: asked, predicted, measured."""

from __future__ import annotations

import numpy as np
import pytest

from latbench.errors import UsageError
from latbench.records.measurement import Measurement
from latbench.search import Found, verify
from latbench.spaces.nasbench201 import NasBench201Space

SPACE = NasBench201Space(cells=1)
SLOW, FAST = SPACE.sample(2, seed=0)
FOUND = [Found("plain", SLOW, 0.99), Found("steered", FAST, 0.98, asked=1.0)]


class KnownPredictor:
    space, unit = SPACE, "mJ"

    def predict(self, architectures):
        return np.array([{SLOW: 2.0, FAST: 0.9}[architecture] for architecture in architectures])


def measured(architecture, value):
    return Measurement(str(architecture), "architecture", value, value - 0.1, value + 0.2)


def test_rows_keep_their_order_whatever_the_measuring_order():
    def measure(architectures):
        assert list(architectures) == [SLOW, FAST]
        return [measured(FAST, 1.2), measured(SLOW, 2.5)]

    plain, steered = verify(FOUND, KnownPredictor(), measure)
    assert (plain.name, plain.accuracy, plain.asked, plain.predicted, plain.measured) == ("plain", 0.99, None, 2.0, 2.5)
    assert (steered.low, steered.high, steered.unit) == (pytest.approx(1.1), pytest.approx(1.4), "mJ")
    assert (steered.asked, steered.predicted, steered.measured) == (1.0, 0.9, 1.2)
    assert SPACE.parse(steered.architecture) == FAST


def test_an_architecture_that_was_not_measured_is_named():
    with pytest.raises(UsageError, match="'steered' was not measured"):
        verify(FOUND, KnownPredictor(), lambda architectures: [measured(SLOW, 2.5)])
