"""Names for the variables of a model that stay the same from run to run."""

import tensorflow as tf


def named_variables(module):
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
    paths = {}
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
