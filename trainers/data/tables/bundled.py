"""Tables that come with scikit-learn: `sklearn:wine`."""

import numpy as np

from trainers.data.tables.array_reader import ArrayReader

PREFIX = "sklearn:"
_DATASETS = ("wine", "breast_cancer", "diabetes", "iris")
NAMES = tuple(PREFIX + name for name in _DATASETS)


def open_bundled(path: str) -> ArrayReader:
    """Returns one of `NAMES`, with what is to be predicted as a last column that is not usual.

    Raises:
      ValueError: if there is none of this name.
    """
    if path not in NAMES:
        raise ValueError(
            f"A table of scikit-learn must be one of {', '.join(NAMES)}. Received: {path!r}."
        )
    from sklearn import datasets  # Slow to import.

    data = getattr(datasets, f"load_{path.removeprefix(PREFIX)}")()
    array = np.column_stack([data.data, data.target])
    reader = ArrayReader(path, array, [*data.feature_names, "target"])
    reader.usual = reader.names[:-1]
    return reader
