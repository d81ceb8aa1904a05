"""The variables of a model: names that stay the same from run to run, and freezing."""

import fnmatch
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfflows import _tensorflow
from tfflows._keras import networks_of, read_variables
from tfflows._tensorflow import averages_of_optimizer as averages
from tfflows._tensorflow import forget_deferred_variables

__all__ = ["averages", "forget_deferred_variables", "freeze", "named_variables", "set_trainable"]


def named_variables(module: tf.Module) -> dict[str, tf.Variable]:
    """Returns the variables of a bijector or distribution under their paths in the object.

    The path follows from the structure alone (`bijector/levels/0/bijectors/2/kernel`), not from the
    order in which things were made, so it can name an array in a file.

    Args:
      module: a `tf.Module`: any `tfb.Bijector` or `tfd.Distribution`.

    Returns:
      A dict from path to `tf.Variable`, each variable once, in a fixed order.
    """
    leaves = module._flatten(
        recursive=True, predicate=lambda v: isinstance(v, tf.Variable), with_path=True
    )
    paths: dict[int, tuple[Any, Any, tf.Variable]] = {}
    for path, variable in leaves:
        # TFP keeps every constructor argument a second time, under `_parameters`.
        rank = (sum("parameters" in str(part) for part in path), len(path), str(path))
        known = paths.get(id(variable))
        if known is None or rank < known[0]:
            paths[id(variable)] = (rank, path, variable)
    named = {
        "/".join(str(part).lstrip("_") for part in path): variable
        for _, path, variable in paths.values()
    }
    return dict(sorted(named.items()))


def set_trainable(module: tf.Module, trainable: bool) -> None:
    """Freezes a bijector or distribution with all its parts, or unfreezes it.

    What is frozen is left out of `trainable_variables`, of the object itself and of all that it is
    a part of, and `FlowModel.fit` leaves it as it is. Keras networks inside get
    `network.trainable = trainable`, and can be frozen alone by that. As in Keras, unfreezing
    reaches all parts, those frozen alone too, but no variable that was made with
    `trainable=False`.

    Args:
      module: a `tf.Module`: any `tfb.Bijector` or `tfd.Distribution`.
      trainable: Python `bool`.

    #### Example

    ```python
    import tfflows
    from tfflows import bijectors

    norm = bijectors.ActNorm.trainable([8, 8, 4])
    conv = bijectors.InvertibleConv1x1.trainable([8, 8, 4], seed=1)
    flow = bijectors.Sequential([norm, conv])
    tfflows.set_trainable(norm, False)
    len(flow.trainable_variables), len(flow.variables)  # 1, 3
    ```
    """
    of_networks: set[int] = set()
    for network in networks_of(module):
        network.trainable = not trainable  # Keras does nothing, nor to its parts, if it is set.
        network.trainable = trainable
        of_networks.update(map(id, read_variables(network)))
    for variable in module.variables:
        if id(variable) in of_networks:
            variable._tfflows_frozen = False  # By itself.
            continue
        if variable.trainable and not trainable:
            _freeze(variable)
        elif trainable and getattr(variable, "_tfflows_frozen", False):
            variable._tfflows_frozen = False
            _tensorflow.set_trainable(variable, True)


def _freeze(variable):
    variable._tfflows_frozen = True  # To know it from those that nobody trains.
    _tensorflow.set_trainable(variable, False)


def freeze(module: tf.Module, patterns: str | Sequence[str]) -> list[str]:
    """Freezes the variables whose paths match, of networks too.

    As `set_trainable(part, False)`, which it adds to, but for single variables. What is frozen
    keeps its values in `FlowModel.fit`; `set_trainable(module, True)` unfreezes it.

    Args:
      module: a `tf.Module`: any `tfb.Bijector` or `tfd.Distribution`.
      patterns: shell wildcards, one or several, for the whole path of a variable in
        `named_variables(module)`: `*` stands for any text, also with slashes.

    Returns:
      The paths of the variables that are frozen by these patterns, sorted. Those of variables that
      nobody trains are not among them.

    Raises:
      ValueError: if a pattern matches nothing; no variable has changed then.

    #### Example

    ```python
    import tfflows

    norm = tfflows.bijectors.ActNorm.trainable([8, 8, 4])
    conv = tfflows.bijectors.InvertibleConv1x1.trainable([8, 8, 4], seed=1)
    flow = tfflows.bijectors.Sequential([norm, conv])
    tfflows.freeze(flow, "*shift")  # ["bijectors/0/shift"]
    len(flow.trainable_variables)  # 2
    ```
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    named = named_variables(module)
    found: set[str] = set()
    for pattern in patterns:
        matches = [path for path in named if fnmatch.fnmatchcase(path, pattern)]
        if not matches:
            some = ", ".join([*named][:: max(1, len(named) // 3)][:3])
            raise ValueError(
                "A pattern must match paths of variables, whole, as `*/shift` does. Received: "
                f"{pattern!r}, which matches none of {len(named)}, such as {some}."
            )
        found.update(matches)
    of_networks = {
        id(_tensorflow.tf_variable(variable)): variable
        for network in networks_of(module)
        for variable in network.variables
    }
    for path in found:
        if (variable := named[path]).trainable:
            if id(variable) in of_networks:
                of_networks[id(variable)].trainable = False
            _freeze(variable)
    return sorted(path for path in found if getattr(named[path], "_tfflows_frozen", False))
