"""Tables that several tests look at."""

import numpy as np
import pytest

from tests.trainers.data.tables.small_tables import write
from trainers.data.tables import table, table_paths


@pytest.fixture(autouse=True)
def fresh():
    table._read.cache_clear()
    table_paths.files_of_folder.cache_clear()


@pytest.fixture
def numbers(tmp_path):
    """A file of 100 rows, of which the first column is the number of the row."""
    rng = np.random.default_rng(0)
    rows = [[i, f"{x:.6f}", round(10 * y)] for i, (x, y) in enumerate(rng.normal(size=[100, 2]))]
    return write(tmp_path / "numbers.csv", rows, "id,x,n")
