"""Random numbers that follow from a seed alone."""

from collections.abc import Sequence

import numpy as np


def generator(stream: int, seed: int | Sequence[int]) -> np.random.Generator:
    """Returns a generator, the same for the same arguments on every machine.

    Args:
        stream: number of what is drawn, such as a data set: each has numbers of its own.
        seed: an integer from 0, or several, as in `(seed, step)`.
    """
    # A spawn key, since seeds ending in zeros would otherwise be one: [1], [1, 0].
    sequence = np.random.SeedSequence(stream, spawn_key=np.ravel(seed).tolist())
    return np.random.Generator(np.random.PCG64(sequence))
