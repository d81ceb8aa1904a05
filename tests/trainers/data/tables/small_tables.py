"""Files of tables that are written for a test, and what is read of them."""

import numpy as np

from trainers.data import sources
from trainers.data.tables import column_inference, column_kinds, table_files


def write(path, rows, header=None):
    """Writes rows as CSV, and returns the path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(([header] if header else []) + lines) + "\n")
    return str(path)


def write_content(path, content):
    """Writes text or bytes, and returns the path."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, *names, label=None):
    """Returns names, rows, which columns are integers, and labels of a file with one table."""
    (reader,) = table_files.open_file(path).values()
    columns = [reader.names.index(name) for name in names or reader.usual]
    parts = list(reader.parts(columns, None if label is None else reader.names.index(label)))
    rows = np.concatenate([part.rows for part in parts])
    labels = [label for part in parts for label in part.labels or []]
    is_integer = np.all([p.is_integer for p in parts], axis=0).tolist()
    return reader.names, rows.tolist(), is_integer, labels


def infer_columns(name, *kinds):
    """Returns the columns of a table, and those of its condition, as they are in training."""
    table, numbers = sources.rows_of(name, "train")
    return column_inference.infer(table, numbers, column_kinds.parse(kinds), name)
