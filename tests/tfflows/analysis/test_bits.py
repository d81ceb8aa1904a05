"""Bits per dimension."""

import math

import numpy as np
import pytest

from tfflows import analysis


def test_bits_per_dim_of_a_known_probability():
    assert analysis.bits_per_dim(-3072 * math.log(256), 3072) == pytest.approx(8.0)
    np.testing.assert_allclose(analysis.bits_per_dim(np.log([0.5, 0.25]), 1), [1.0, 2.0])
