"""Tables of scikit-learn."""

import pytest

from trainers.data.tables.table import open_table


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("wine", (178, 13)),
        ("breast_cancer", (569, 30)),
        ("diabetes", (442, 10)),
        ("iris", (150, 4)),
    ],
)
def test_tables_of_scikit_learn(name, shape):
    table = open_table(f"sklearn:{name}")
    assert table.rows.shape == shape
    assert "target" not in table.names
    assert open_table(f"sklearn:{name}?columns=0&condition=target").names[1] == "target"
    with pytest.raises(ValueError, match="must be one of sklearn:wine"):
        open_table("sklearn:boston")
