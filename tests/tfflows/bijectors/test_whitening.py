"""Whitening: shapes that fit."""

import pytest
import tensorflow as tf

from tfflows import bijectors


def test_whitening_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="`eigenvectors` must have shape"):
        bijectors.Whitening(tf.zeros([3]), tf.eye(4), tf.ones([3]))
