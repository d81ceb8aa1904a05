"""Names of tables with options."""

import pytest

from trainers.data.tables import table_names


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"columns": ["a", "b"]},
        {"columns": ["a, b", "c&d=e", "f%", "\u00e4?", "g+h"], "condition": ["y z"]},
        {"split_column": "part", "seed": 3},
        {"split": "0.7,0.2,0.1"},
    ],
    ids=str,
)
def test_names_hold_their_options(options):
    name = table_names.name_with("/a b/rows.csv", **options)
    spec = table_names.parse(name)
    assert spec.path == "/a b/rows.csv"
    for key in ("columns", "condition"):
        assert list(getattr(spec, key) or []) == options.get(key, [])
    assert spec.split_column == options.get("split_column")
    assert spec.seed == options.get("seed", 0)
    assert table_names.name_with(name) == name
    assert table_names.name_with(name, **dict.fromkeys(options)) == "/a b/rows.csv"


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("t.csv?columns=a&columns=b", "each once"),
        ("t.csv?columns=a&colour=b", "must be among columns"),
        ("t.csv?split=0.5,0.5", "three fractions"),
        ("t.csv?split=0,0.5,0.5", "three fractions"),
        ("t.csv?split=0.9,0.5,-0.4", "three fractions"),
        ("t.csv?split=a", "three fractions"),
        ("t.csv?seed=x", "must be 0 or more"),
        ("t.csv?seed=-1", "must be 0 or more"),
    ],
)
def test_options_that_are_none(name, match):
    with pytest.raises(ValueError, match=match):
        table_names.parse(name)
