"""The variables of a model in a file of Keras: one array each, under its path."""

from typing import Any

import tensorflow as tf

from tfflows.variables import named_variables


def write(module: tf.Module, store: Any) -> None:
    """Writes each variable under its path, for `save_weights` and `.keras`.

    Args:
      module: any `tfb.Bijector` or `tfd.Distribution`.
      store: what Keras gives for it: much like a dictionary of arrays.
    """
    for name, variable in _by_key(module).items():
        store[name] = variable.numpy()


def read(module: tf.Module, store: Any) -> None:
    """Reads what `write` wrote.

    Raises:
      ValueError: if names or shapes do not match; no variable has changed then.
    """
    variables, saved = _by_key(module), set(store.keys())
    if saved != set(variables):
        missing, foreign = sorted(set(variables) - saved), sorted(saved - set(variables))
        raise ValueError(
            "The weights are those of another model. "
            f"Missing from the file: {missing[:3]} ({len(missing)} in all); "
            f"not in the model: {foreign[:3]} ({len(foreign)} in all)."
        )
    for name, variable in variables.items():
        if tuple(store[name].shape) != tuple(variable.shape):
            raise ValueError(
                f"The weights are those of another model: `{name}` must have shape "
                f"{tuple(variable.shape)}. Received: {tuple(store[name].shape)}."
            )
    for name, variable in variables.items():
        variable.assign(tf.cast(store[name][()], variable.dtype))


def read_fitting(module: tf.Module, store: Any) -> tuple[list[str], dict[str, str]]:
    """Reads those of the variables that `write` wrote whose paths and shapes fit.

    Returns:
      The paths that fit; and for each other path, of the object or of the file, what it is there.
    """
    fitting, others, saved = [], {}, set(store.keys())
    for path, variable in named_variables(module).items():
        key, shape = path.replace("/", "."), tuple(variable.shape)
        if key not in saved:
            others[path] = f"{list(shape)}, not in the file"
        elif tuple(store[key].shape) != shape:
            others[path] = f"{list(shape)}, in the file {list(store[key].shape)}"
        else:
            variable.assign(tf.cast(store[key][()], variable.dtype))
            fitting.append(path)
        saved.discard(key)
    others |= {key.replace(".", "/"): "in the file alone" for key in sorted(saved)}
    return fitting, others


def _by_key(module):
    return {name.replace("/", "."): v for name, v in named_variables(module).items()}
