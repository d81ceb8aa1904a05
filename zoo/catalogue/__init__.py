"""What the zoo has by name, and how it is trained: importing this registers all of it."""

from zoo.catalogue import cifar10, digits, large, mnist, node_sets, planar, tables

__all__ = ["cifar10", "digits", "large", "mnist", "node_sets", "planar", "tables"]
