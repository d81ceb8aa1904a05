"""`Patchify`: an image as a sequence of tokens. `order_tokens`: these in another order."""

import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics.parameters import as_known_shape, is_integer
from tfflows.numerics.shapes import with_shape
from tfflows.types import KnownShape


class Patchify(FlowBijector):
    """Cuts images into tokens, one a patch: `[H, W, C] -> [T, p_h p_w C]`, `T = H W / (p_h p_w)`.

    A permutation; the log-det is 0. Tokens are in the order of reading, and so are the pixels of a
    patch: pixel `(y, x)` of channel `c` is

        token (y // p_h) (W / p_w) + x // p_w,   channel ((y % p_h) p_w + x % p_w) C + c

    Args:
      image_shape: `[H, W, C]`; tokens alone don't say how wide the image is.
      patch: height and width of a patch, or an `int` for both; they divide those of the image.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if images can't be cut so.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    tokens = bijectors.Patchify([32, 32, 3], patch=4)
    tokens.grid  # (8, 8)
    tokens.forward(tf.ones([5, 32, 32, 3])).shape  # [5, 64, 48]
    ```

    #### References

    Zhai et al., *Normalizing Flows are Capable Generative Models*, 2024, arXiv:2412.06329.
    """

    def __init__(
        self,
        image_shape: KnownShape,
        patch: int | tuple[int, int],
        *,
        validate_args: bool = False,
        name: str = "patchify",
    ) -> None:
        parameters = dict(locals())
        shape, sides = _checked(image_shape, patch)
        self._image_shape, self._patch = shape, sides
        self._token_shape = [math.prod(self.grid), sides[0] * sides[1] * shape[-1]]
        super().__init__(
            forward_min_event_ndims=3,
            inverse_min_event_ndims=2,
            event_shape=tuple(shape),
            inverse_event_shape=tuple(self._token_shape),
            is_constant_jacobian=True,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @property
    def grid(self) -> tuple[int, int]:
        """How many patches there are from top to bottom and from left to right."""
        (height, width, _), (rows, columns) = self._image_shape, self._patch
        return height // rows, width // columns

    @property
    def token_shape(self) -> list[int]:
        """Shape `[T, p_h p_w C]` of the tokens."""
        return list(self._token_shape)

    def _forward_and_log_det(self, x):
        (rows, columns), (height, width) = self.grid, self._patch
        blocks = tf.reshape(x, [-1, rows, height, columns, width, self._image_shape[-1]])
        return self._swap_middle(blocks, x, 3, self._token_shape)

    def _inverse_and_log_det(self, y):
        blocks = tf.reshape(y, [-1, *self.grid, *self._patch, self._image_shape[-1]])
        return self._swap_middle(blocks, y, 2, self._image_shape)

    def _swap_middle(self, blocks, like, event_ndims, event_shape):
        """Swaps rows of a patch and columns of the grid, and gives the batch of `like` back."""
        blocks = tf.transpose(blocks, [0, 1, 3, 2, 4, 5])
        shape = tf.concat([tf.shape(like)[:-event_ndims], event_shape], axis=0)
        result = with_shape(tf.reshape(blocks, shape), like.shape[:-event_ndims] + event_shape)
        return result, tf.zeros([], like.dtype)

    def _forward_event_shape(self, shape):
        return shape[:-3].concatenate(self._token_shape)

    def _inverse_event_shape(self, shape):
        return shape[:-2].concatenate(self._image_shape)

    def _forward_event_shape_tensor(self, shape):
        return tf.concat([shape[:-3], self._token_shape], axis=0)

    def _inverse_event_shape_tensor(self, shape):
        return tf.concat([shape[:-2], self._image_shape], axis=0)


def _checked(image_shape, patch):
    """Returns `[H, W, C]` and `(p_h, p_w)`."""
    shape = as_known_shape(image_shape, "image_shape", "[H, W, C]")
    sides = _pair(patch)
    if sides is None or any(n % p for n, p in zip(shape, sides, strict=False)):
        raise ValueError(
            "`patch` must be a positive integer, or two, that divide the sides of the image. "
            f"Received: patch={patch!r}, image_shape={shape}."
        )
    return shape, sides


def _pair(value):
    """Returns two positive integers, or `None` if `value` is no such thing."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    is_pair = len(pair) == 2 and all(map(is_integer, pair)) and min(pair) > 0
    return tuple(map(int, pair)) if is_pair else None


# What the tokens of a grid are sorted by, given their rows and columns; equals stay in order.
_KEYS = {
    "checkerboard": lambda row, column: (row + column) % 2,
    "row_stripes": lambda row, column: row % 2,
    "column_stripes": lambda row, column: column % 2,
    "columns": lambda row, column: column,
    "flip": lambda row, column: -np.arange(row.size),
}


def order_tokens(kind: str, grid: tuple[int, int], *, seed: int = 0) -> tfp.bijectors.Permute:
    """Returns the bijector of tokens `[..., T, d]`, of a grid of patches, to another order.

    Args:
      kind: `"flip"`, last to first; `"columns"`, by columns instead of rows; `"random"`, fixed by
        the seed; or one with every other token in its first half: `"checkerboard"`, those whose row
        plus column is even, `"row_stripes"`, those in even rows, `"column_stripes"`.
      grid: rows and columns of patches, as `Patchify.grid` has them; `(T, 1)` of a sequence.
      seed: seed of the random order.

    Raises:
      ValueError: if `kind` is none of these, `grid` no two positive integers, or `seed` no seed.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    order = bijectors.order_tokens("checkerboard", (2, 2))
    order.forward(tf.constant([[0.0], [1.0], [2.0], [3.0]]))[:, 0]  # [0., 3., 1., 2.]
    ```
    """
    sides = _pair(grid) if isinstance(grid, (tuple, list)) else None
    if sides is None:
        raise ValueError(f"`grid` must be two positive integers. Received: grid={grid!r}.")
    if not (is_integer(seed) and 0 <= seed < 2**32):
        raise ValueError(f"`seed` must be an integer from 0 to 2**32 - 1. Received: seed={seed!r}.")
    if kind == "random":  # `RandomState` is the same in every NumPy.
        order = np.random.RandomState(seed).permutation(math.prod(sides))
    elif isinstance(kind, str) and kind in _KEYS:
        order = np.argsort(_KEYS[kind](*map(np.ravel, np.indices(sides))), kind="stable")
    else:
        raise ValueError(
            f"`kind` must be one of {', '.join([*_KEYS, 'random'])}. Received: kind={kind!r}."
        )
    return tfp.bijectors.Permute(order.astype(np.int32), axis=-2, name=f"{kind}_order")
