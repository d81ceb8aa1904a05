"""What the columns of a table are: inferred, or said."""

import numpy as np
import pytest

from tests.trainers.data.tables.small_tables import infer_columns, write
from trainers.data import sources
from trainers.data.tables import column_statistics


def test_columns_are_real_or_integer_unless_said(numbers):
    columns, conditions = infer_columns(f"{numbers}?condition=n")
    assert [(c["name"], c["kind"]) for c in columns] == [("id", "integer"), ("x", "real")]
    table, rows = sources.rows_of(numbers, "train")
    values = table.rows[rows]
    assert columns[0]["loc"] == pytest.approx(values[:, 0].mean() + 0.5)
    assert columns[1]["scale"] == pytest.approx(values[:, 1].std(), rel=1e-5)
    assert conditions[0]["kind"] == "real"
    assert conditions[0]["loc"] == pytest.approx(values[:, 2].mean())
    columns, _ = infer_columns(numbers, "id=integer:0:99", "n=real", "x=interval:-9:9")
    assert [c["kind"] for c in columns] == ["integer", "interval", "real"]
    assert (columns[0]["low"], columns[0]["high"], columns[1]["high"]) == (0, 99, 9)
    columns, _ = infer_columns(numbers, "*=real", "id=positive:-1")
    assert [c["kind"] for c in columns] == ["positive", "real", "real"]
    values = np.log(values[:, 0] + 1)
    assert columns[0]["loc"] == pytest.approx(values.mean(), rel=1e-5)
    text = "\n".join(column_statistics.describe(columns, table, rows))
    assert len(text.splitlines()) == 4


@pytest.mark.parametrize(
    ("kinds", "match"),
    [
        (["x=positive"], r"column `x`, row \d+: must be above 0, as its kind says. Received: -"),
        (["x=integer"], r"column `x`, row 1: must be an integer"),
        (["id=integer:0:50"], r"column `id`, row 52: must be from 0 to 50.*Received: 51\."),
        (["id=interval:0:100"], r"column `id`, row 1: must be between 0 and 100"),
        (["id=simplex", "n=simplex"], r"must be positive, as a part of a whole"),
        (["y=real"], r"must name a column. Received: 'y'"),
        (["x=interval"], r"must be NAME=KIND"),
        (["x=interval:1"], r"must be NAME=KIND"),
        (["x=category"], r"must be NAME=KIND"),
        (["x"], r"must be NAME=KIND"),
        (["x=real:1"], r"must be NAME=KIND"),
        (["x=interval:2:1"], r"low less than high"),
        (["c=positive"], r"not of those that they are conditioned by"),
    ],
)
def test_kinds_that_columns_are_not(numbers, kinds, match, tmp_path):
    if kinds == ["c=positive"]:
        numbers = write(tmp_path / "c.csv", [[i, i] for i in range(9)], "a,c") + "?condition=c"
    with pytest.raises(ValueError, match=match):
        infer_columns(numbers, *kinds)


def test_a_simplex_is_said(tmp_path):
    parts = np.random.default_rng(0).dirichlet([1, 2, 3], 50).round(6)
    parts[:, 2] = 1 - parts[:, 0] - parts[:, 1]
    path = write(tmp_path / "t.csv", np.column_stack([parts, np.arange(50)]).tolist(), "a,b,c,d")
    columns, _ = infer_columns(path, "a=simplex", "b=simplex", "c=simplex")
    assert [c["kind"] for c in columns] == ["simplex"] * 3 + ["real"]
    assert columns[0]["high"] == 1
    with pytest.raises(ValueError, match=r"column `a \+ b`, row 1: must be 1, as its kind says"):
        infer_columns(path, "a=simplex", "b=simplex")


def test_constant_columns_and_numbers_that_are_too_fine(tmp_path):
    rows = [[7, 1.6e9 + i, i, 7.5] for i in range(20)]
    path = write(tmp_path / "t.csv", rows, "a,time,b,c")
    with pytest.raises(
        ValueError, match=r"must vary. Received: `a`, `c`, of which the first is 7 "
    ):
        infer_columns(f"{path}?columns=a,b,c")
    with pytest.raises(ValueError, match=r"column `time`: .*float32 can tell apart.*Subtract"):
        infer_columns(f"{path}?columns=time,b")
    path = write(tmp_path / "u.csv", [[2**24 + i] for i in range(20)], "a")
    with pytest.raises(ValueError, match=r"column `a`: .*float32 can tell apart"):
        infer_columns(path)
    # Integers whose noise float32 rounds off, and others where that is nothing beside the spread.
    for start, step, match in (
        (10**7, 1, "float32 can tell apart"),
        (2**60, 7, r"in float32 in all"),
        (10**7, 10**4, None),
        (0, 2**58, None),
        (70_000, 1, None),
    ):
        path = write(
            tmp_path / f"{start}_{step}.csv", [[start + step * (i % 7)] for i in range(20)]
        )
        if match:
            with pytest.raises(ValueError, match=rf"`0`.*{match}"):
                infer_columns(path)
        else:
            assert infer_columns(path)[0][0]["kind"] == "integer"
    path = write(tmp_path / "one.csv", [[1, 2]], "a,b")
    with pytest.raises(ValueError, match="must have 2 rows or more to train on"):
        infer_columns(path)
    path = write(tmp_path / "v.csv", [["1e39"], [1]], "a")
    with pytest.raises(ValueError, match=r"column `a`, row 1.*Received: inf"):
        infer_columns(path)


def test_thousands_of_columns(tmp_path):
    rows = np.random.default_rng(0).normal(size=[12, 3000]).round(3)
    path = write(tmp_path / "t.csv", rows.tolist(), ",".join(f"c{i}" for i in range(3000)))
    columns, _ = infer_columns(path)
    assert [column["name"] for column in columns] == [f"c{i}" for i in range(3000)]
    table, numbers_ = sources.rows_of(path, "train")
    lines = [*column_statistics.describe(columns, table, numbers_)]
    assert lines[-1] == "  and 2960 others"
    write(tmp_path / "t.csv", np.zeros([3, 3000]).tolist(), ",".join(f"c{i}" for i in range(3000)))
    with pytest.raises(ValueError, match="`c9` and 2990 others, of which the first is 0"):
        infer_columns(path)
