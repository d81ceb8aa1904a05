"""`ConvSylvester`: the convolutional Sylvester flow (Hoogeboom et al., 2020, section 4)."""

from typing import Any, Self

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.bijectors.conv_exponential import ConvExponential
from tfflows.bijectors.invertible_conv1x1 import InvertibleConv1x1
from tfflows.bijectors.sequential import Sequential
from tfflows.bijectors.sylvester import Sylvester
from tfflows.bijectors.triangular import BoundedTanh
from tfflows.numerics.parameters import as_event_shape, normal_variable, stateless_seed
from tfflows.types import DTypeLike, Network, Seed, Shape


class ConvSylvester(Sylvester):
    """Convolutional Sylvester flow, Hoogeboom et al. (2020), section 4.

        y = x + W^-1 f(W x),   W = exp(M) Q

    with `M` a 3x3 convolution, `Q` an orthogonal 1x1 convolution of `C` Householder reflections and
    `f` a `BoundedTanh` of an autoregressive network. See `Sylvester` for the inverse, the log-det
    and the arguments; `trainable` makes the flow of the paper.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors, networks

    network = networks.MaskedConvNet(num_channels=3, width=12, seed=1)
    networks.build_network(network, [8, 8, 3])
    flow = bijectors.ConvSylvester.trainable([8, 8, 3], network, seed=1)
    y = flow.forward(tf.ones([2, 8, 8, 3]))
    flow.inverse_iterations(y)  # [2]
    ```

    #### References

    Hoogeboom, Garcia Satorras, Tomczak, Welling, *The Convolution Exponential and Generalized
    Sylvester Flows*, NeurIPS 2020, arXiv:2006.01910.
    """

    @classmethod
    def trainable(
        cls,
        event_shape: Shape,
        network: Network,
        *,
        seed: Seed = None,
        dtype: DTypeLike = tf.float32,
        name: str = "conv_sylvester",
        **kwargs: Any,
    ) -> Self:
        """Returns a `ConvSylvester` with trainable variables.

        At first the kernel of the exponential is `N(0, 1) / (9 C^2)` and `Q` is random.

        Args:
          event_shape: `[H, W, C]`.
          network: see `BoundedTanh`; `networks.MaskedConvNet` is that of the paper.
          seed: Python `int` or a stateless seed.
          dtype: dtype of the variables.
          name: name of the bijector.
          **kwargs: other arguments of `Sylvester`.
        """
        channels = as_event_shape(event_shape)[-1]
        seeds = tfp.random.split_seed(stateless_seed(seed), 2)
        rotation = InvertibleConv1x1.trainable(
            [None, None, channels],
            parameterization="householder",
            seed=seeds[0],
            dtype=dtype,
            name=f"{name}_rotation",
        )
        kernel = normal_variable(
            [3, 3, channels, channels], 1 / (9 * channels**2), seeds[1], dtype, f"{name}_kernel"
        )
        basis = Sequential([rotation, ConvExponential(kernel)])
        return cls(basis, BoundedTanh(network), event_shape=tuple(event_shape), name=name, **kwargs)
