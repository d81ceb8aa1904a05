"""Copies of composed bijectors and distributions with other parameters somewhere inside."""

import tensorflow_probability as tfp


def rebuilt(part, leaf=lambda value: value, changes=lambda part: {}):
    """Returns a copy of `part` with changes in it, or `part` itself where there is none.

    Args:
      part: a `tfb.Bijector` or `tfd.Distribution`, or a list, tuple or dictionary of parameters.
      leaf: returns what takes the place of a parameter that is none of these.
      changes: returns further parameters of a bijector or distribution that are to change.
    """
    if isinstance(part, (tfp.bijectors.Bijector, tfp.distributions.Distribution)):
        found = _changed(part.parameters, leaf, changes) | changes(part)
        return part.copy(**found) if found else part
    if isinstance(part, dict):
        found = _changed(part, leaf, changes)
        return type(part)({**part, **found}) if found else part
    if isinstance(part, (list, tuple)) and not hasattr(part, "_fields"):
        found = _changed(dict(enumerate(part)), leaf, changes)
        return type(part)(found.get(i, item) for i, item in enumerate(part)) if found else part
    return leaf(part)


def _changed(parameters, leaf, changes):
    new = {name: rebuilt(value, leaf, changes) for name, value in parameters.items()}
    return {name: value for name, value in new.items() if value is not parameters[name]}
