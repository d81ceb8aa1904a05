"""Which columns of a table are read."""

import numpy as np
import pytest

from trainers.data.tables.table import open_table


def test_columns_by_name_and_number(numbers):
    table = open_table(f"{numbers}?columns=n,0&condition=x")
    assert table.names == ("n", "id", "x")
    assert table.num_conditions == 1
    assert table.is_integer.tolist() == [True, True, False]
    np.testing.assert_array_equal(table.rows[:, 1], np.arange(100))
    assert open_table(numbers).names == ("id", "x", "n")
    assert open_table(f"{numbers}?condition=id").names == ("x", "n", "id")
    for columns, expected in (
        ("-x", ("id", "n")),
        ("-x,-0", ("n",)),
        ("*", ("id", "x", "n")),
        ("n,*", ("n", "id", "x")),
        ("*,-i*", ("x", "n")),
        ("-i*", ("x", "n")),
    ):
        assert open_table(f"{numbers}?columns={columns}").names == expected, columns


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ("columns=y", r"must have a column 'y'. Received: 'id', 'x', 'n'"),
        ("columns=3", r"must have a column '3'"),
        ("columns=-y", r"must have a column 'y'"),
        ("columns=-*", r"must have columns. Received: none"),
        ("columns=x,x", r"'x' twice"),
        ("columns=x,1", r"'x' twice"),
        ("columns=x&condition=x", r"'x' twice"),
        ("condition=x,n,id", r"Received: none but \['id', 'n', 'x'\]"),
        ("split_column=z", r"must have a column 'z'"),
        ("split_column=n", r"column `n`: must have train, validation and test. Received: '-1'"),
    ],
)
def test_columns_that_are_not_there(numbers, options, match):
    with pytest.raises(ValueError, match=match):
        open_table(f"{numbers}?{options}")
