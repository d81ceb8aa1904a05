"""The variables of Keras layers, for `tf.Module`, which sees none of them."""

import collections.abc

import keras

from tfflows import _tensorflow


class NetworkVariables(collections.abc.Sequence, _tensorflow.Trackable):
    """The `tf.Variable`s of Keras layers, as an attribute in which a `tf.Module` finds them.

    They are read anew at each look, and whether they are trainable with them: freezing a layer
    (`layer.trainable = False`) counts from then on in all that holds it.

    Args:
      *networks: Keras layers that are built.
    """

    def __init__(self, *networks):
        self.networks = networks

    def __iter__(self):
        for network in self.networks:
            yield from read_variables(network)

    def __getitem__(self, index):
        return list(self)[index]

    def _trackable_children(self, *args, **kwargs):
        """Names what `tf.train.Checkpoint` saves, as it names the entries of a list."""
        return {str(index): variable for index, variable in enumerate(self)}

    def __len__(self):
        return sum(len(network.variables) for network in self.networks)


def read_variables(network):
    """Returns the `tf.Variable`s of a Keras layer; they are as trainable as it says they are."""
    trainable = {id(variable) for variable in network.trainable_variables}
    found = []
    for variable in network.variables:
        found.append(_tensorflow.tf_variable(variable))
        _tensorflow.set_trainable(found[-1], id(variable) in trainable)
    return found


def networks_of(module):
    """Returns the Keras layers that the parts of a bijector or distribution hold."""
    return list(module._flatten(predicate=lambda part: isinstance(part, keras.layers.Layer)))
