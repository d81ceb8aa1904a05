"""Norms of convolutions as dense matrices."""

import numpy as np

from tfflows.numerics.convolution import correlate


def dense_norm(kernel, size=8, padding="zero"):
    channels = kernel.shape[-2]
    basis = np.eye(size * size * channels).reshape(-1, size, size, channels)
    return np.linalg.norm(correlate(basis, kernel, padding).numpy().reshape(len(basis), -1), 2)
