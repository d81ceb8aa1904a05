"""A model of which some samples are NaN."""

import tensorflow_probability as tfp

from tfflows import distributions

tfd = tfp.distributions


def failing(shape, loc):
    """A density whose samples are logarithms: NaN of what the base has below 0."""
    base = tfd.Sample(tfd.Normal(loc, 1.0), shape)
    model = tfd.TransformedDistribution(base, tfp.bijectors.Invert(tfp.bijectors.Exp()))
    return distributions.Dequantized(model, num_levels=16) if len(shape) == 3 else model
