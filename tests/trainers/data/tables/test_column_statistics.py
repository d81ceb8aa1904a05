"""Statistics of columns."""

import numpy as np
import pytest

from tests.trainers.data.tables.small_tables import infer_columns
from trainers.data import sources
from trainers.data.tables import column_statistics, table_reader


def test_statistics_of_parts_are_those_of_all(numbers, monkeypatch):
    table, rows = sources.rows_of(numbers, "train")
    columns, conditions = infer_columns(f"{numbers}?condition=n", "id=positive:-1")
    monkeypatch.setattr(table_reader, "CELLS_AT_ONCE", 21)
    found, values = column_statistics.summarize(table, rows), table.rows[rows].astype(np.float64)
    for name, expected in (
        ("least", values.min(0)),
        ("mean", values.mean(0)),
        ("largest", values.max(0)),
        ("deviation", values.std(0)),
        ("skewness", ((values - values.mean(0)) ** 3).mean(0) / values.std(0) ** 3),
    ):
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-9, atol=1e-12)
    parts = infer_columns(f"{numbers}?condition=n", "id=positive:-1")
    for one, other in zip([*columns, *conditions], [*parts[0], *parts[1]], strict=True):
        for key in ("loc", "scale"):
            assert one[key] == pytest.approx(other[key], rel=1e-6)
    with pytest.raises(ValueError, match=r"column `id`, row 53: must be from 0 to 51"):
        infer_columns(numbers, "id=integer:0:51")
