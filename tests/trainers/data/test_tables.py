"""Tables: names with options, splits, columns, batches from memory and from a file."""

import numpy as np
import pytest

from trainers.data import batching, loading, sources, table_files, tables
from zoo.registry import TABLES


@pytest.fixture(autouse=True)
def fresh():
    tables._read.cache_clear()
    tables._files_of_folder.cache_clear()


def write(path, rows, header=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(([header] if header else []) + lines) + "\n")
    return str(path)


@pytest.fixture
def numbers(tmp_path):
    """A file of 100 rows, of which the first column is the number of the row."""
    rng = np.random.default_rng(0)
    rows = [[i, f"{x:.6f}", round(10 * y)] for i, (x, y) in enumerate(rng.normal(size=[100, 2]))]
    return write(tmp_path / "numbers.csv", rows, "id,x,n")


# Names.


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
    name = tables.name_with("/a b/rows.csv", **options)
    spec = tables.parse(name)
    assert spec.path == "/a b/rows.csv"
    for key in ("columns", "condition"):
        assert list(getattr(spec, key) or []) == options.get(key, [])
    assert spec.split_column == options.get("split_column")
    assert spec.seed == options.get("seed", 0)
    assert tables.name_with(name) == name
    assert tables.name_with(name, **dict.fromkeys(options)) == "/a b/rows.csv"


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
        tables.parse(name)


def test_what_is_a_table(tmp_path, numbers):
    np.savez(tmp_path / "rows.npz", train=np.zeros([3, 2]))
    np.savez(tmp_path / "images.npz", train=np.zeros([3, 2, 2], np.uint8))
    write(tmp_path / "both" / "t.csv", [[1, 2]])
    (tmp_path / "both" / "picture.png").write_bytes(b"")
    (tmp_path / "folder.csv").mkdir()
    for name in ("sklearn:wine", numbers, f"{numbers}?columns=x", "none.csv", "a/*.parquet"):
        assert tables.is_table(name), name
    assert tables.is_table(str(tmp_path / "rows.npz"))
    for name in ("digits", "cifar10", "images.npz", "both", "folder.csv", "none"):
        assert not tables.is_table(str(tmp_path / name)), name


# Columns.


def test_columns_by_name_and_number(numbers):
    table = tables.open_table(f"{numbers}?columns=n,0&condition=x")
    assert table.names == ("n", "id", "x")
    assert table.num_conditions == 1
    assert table.is_integer.tolist() == [True, True, False]
    np.testing.assert_array_equal(table.rows[:, 1], np.arange(100))
    assert tables.open_table(numbers).names == ("id", "x", "n")
    assert tables.open_table(f"{numbers}?condition=id").names == ("x", "n", "id")
    for columns, expected in (
        ("-x", ("id", "n")),
        ("-x,-0", ("n",)),
        ("*", ("id", "x", "n")),
        ("n,*", ("n", "id", "x")),
        ("*,-i*", ("x", "n")),
        ("-i*", ("x", "n")),
    ):
        assert tables.open_table(f"{numbers}?columns={columns}").names == expected, columns


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
        tables.open_table(f"{numbers}?{options}")


# Splits.


def test_fractions_are_disjoint_and_follow_from_the_seed(numbers):
    table = tables.open_table(numbers)
    sizes = {split: len(rows) for split, rows in table.splits.items()}
    assert sizes == {"train": 80, "validation": 10, "test": 10}
    parts = [table.splits[split] for split in ("train", "validation", "test")]
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert table.said == "80, 10, 10 in 100 rows for train, validation and test, by seed 0"
    # Pinned: a test set must be the same for ever.
    assert table.splits["test"].tolist() == PINNED
    other = tables.open_table(f"{numbers}?seed=1")
    assert set(other.splits["test"]) != set(table.splits["test"])
    halves = tables.open_table(f"{numbers}?split=0.5,0,0.5")
    assert {s: len(r) for s, r in halves.splits.items()} == {"train": 50, "test": 50}


PINNED = [3, 33, 36, 38, 45, 46, 58, 76, 78, 85]


def test_the_hash_is_uniform():
    uniform = tables._hash(np.arange(100_000), 7) / 2.0**64
    counts = np.histogram(uniform, 100, [0, 1])[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 150
    assert abs(np.corrcoef(uniform[1:], uniform[:-1])[0, 1]) < 0.01


def test_a_column_says_the_split(tmp_path):
    rows = [[i, part] for i, part in enumerate(["train", "Test", "val", "train"])]
    path = write(tmp_path / "t.csv", rows, "x,part")
    table = tables.open_table(f"{path}?split_column=part")
    assert table.names == ("x",)
    found = {split: numbers.tolist() for split, numbers in table.splits.items()}
    assert found == {"train": [0, 3], "validation": [2], "test": [1]}
    path = write(tmp_path / "u.csv", [[1, "test"], [2, "holdout"]], "x,part")
    with pytest.raises(ValueError, match=r"Received: 'holdout', in row 2"):
        tables.open_table(f"{path}?split_column=part")
    path = write(tmp_path / "v.csv", [[1, "test"]], "x,part")
    with pytest.raises(ValueError, match="must have rows of train"):
        tables.open_table(f"{path}?split_column=part")


def test_files_say_the_split(tmp_path):
    for name, count in (("train", 30), ("test", 5)):
        write(tmp_path / "t" / f"{name}.csv", [[i, 1] for i in range(count)], "x,y")
    table = tables.open_table(str(tmp_path / "t"))
    sizes = {split: len(rows) for split, rows in table.splits.items()}
    assert sizes == {"train": 27, "validation": 3, "test": 5}
    assert "a tenth of train for validation" in table.said
    tables._files_of_folder.cache_clear()
    # Another order of columns, and a file that is in no split.
    write(tmp_path / "t" / "validation.csv", [[2, 100]], "y,x")
    table = tables.open_table(f"folder:{tmp_path / 't'}")
    assert table.rows[table.splits["validation"]].tolist() == [[100, 2]]
    assert len(table.splits["train"]) == 30
    with pytest.raises(ValueError, match="must have a column 'z'"):
        write(tmp_path / "t" / "validation.csv", [[2, 100]], "y,z")
        tables.open_table(str(tmp_path / "t?columns=x,z"))


def test_files_that_say_no_split_are_one_table(tmp_path):
    for part in range(3):
        write(tmp_path / f"part-{part}.csv", [[10 * part + i] for i in range(10)], "x")
    for name in (tmp_path, tmp_path / "part-*.csv"):
        table = tables.open_table(str(name))
        np.testing.assert_array_equal(table.rows[:, 0], np.arange(30))
        assert len(table.splits["train"]) == 24
    with pytest.raises(FileNotFoundError, match="files of this pattern"):
        tables.open_table(str(tmp_path / "other-*.csv"))


def test_arrays_say_the_split(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, x_train=np.zeros([4, 2]), x_test=np.ones([3, 2]), columns=["a", "b"])
    table = tables.open_table(str(path))
    assert table.names == ("a", "b")
    assert table.rows[table.splits["test"]].tolist() == [[1, 1]] * 3
    np.savez(path, a=np.zeros([4, 2]), b=np.zeros([4, 2]))
    with pytest.raises(ValueError, match=r"must have one array \[N, D\].*`a`, `b`"):
        tables.open_table(str(path))


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
    table = tables.open_table(f"sklearn:{name}")
    assert table.rows.shape == shape
    assert "target" not in table.names
    assert tables.open_table(f"sklearn:{name}?columns=0&condition=target").names[1] == "target"
    with pytest.raises(ValueError, match="must be one of sklearn:wine"):
        tables.open_table("sklearn:boston")


# What columns are.


def columns_of(name, *kinds):
    table, numbers = sources.rows_of(name, "train")
    return tables.make_columns(table, numbers, tables.parse_kinds(kinds), name)


def test_columns_are_real_or_integer_unless_said(numbers):
    columns, conditions = columns_of(f"{numbers}?condition=n")
    assert [(c["name"], c["kind"]) for c in columns] == [("id", "integer"), ("x", "real")]
    table, rows = sources.rows_of(numbers, "train")
    values = table.rows[rows]
    assert columns[0]["loc"] == pytest.approx(values[:, 0].mean() + 0.5)
    assert columns[1]["scale"] == pytest.approx(values[:, 1].std(), rel=1e-5)
    assert conditions[0]["kind"] == "real"
    assert conditions[0]["loc"] == pytest.approx(values[:, 2].mean())
    columns, _ = columns_of(numbers, "id=integer:0:99", "n=real", "x=interval:-9:9")
    assert [c["kind"] for c in columns] == ["integer", "interval", "real"]
    assert (columns[0]["low"], columns[0]["high"], columns[1]["high"]) == (0, 99, 9)
    columns, _ = columns_of(numbers, "*=real", "id=positive:-1")
    assert [c["kind"] for c in columns] == ["positive", "real", "real"]
    values = np.log(values[:, 0] + 1)
    assert columns[0]["loc"] == pytest.approx(values.mean(), rel=1e-5)
    text = "\n".join(tables.describe_columns(columns, tables.summarize(table, rows)))
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
        columns_of(numbers, *kinds)


def test_a_simplex_is_said(tmp_path):
    parts = np.random.default_rng(0).dirichlet([1, 2, 3], 50).round(6)
    parts[:, 2] = 1 - parts[:, 0] - parts[:, 1]
    path = write(tmp_path / "t.csv", np.column_stack([parts, np.arange(50)]).tolist(), "a,b,c,d")
    columns, _ = columns_of(path, "a=simplex", "b=simplex", "c=simplex")
    assert [c["kind"] for c in columns] == ["simplex"] * 3 + ["real"]
    assert columns[0]["high"] == 1
    with pytest.raises(ValueError, match=r"column `a \+ b`, row 1: must be 1, as its kind says"):
        columns_of(path, "a=simplex", "b=simplex")


def test_constant_columns_and_numbers_that_are_too_fine(tmp_path):
    rows = [[7, 1.6e9 + i, i, 7.5] for i in range(20)]
    path = write(tmp_path / "t.csv", rows, "a,time,b,c")
    with pytest.raises(
        ValueError, match=r"must vary. Received: `a`, `c`, of which the first is 7 "
    ):
        columns_of(f"{path}?columns=a,b,c")
    with pytest.raises(ValueError, match=r"column `time`: .*float32 can tell apart.*Subtract"):
        columns_of(f"{path}?columns=time,b")
    path = write(tmp_path / "u.csv", [[2**24 + i] for i in range(20)], "a")
    with pytest.raises(ValueError, match=r"column `a`: .*float32 can tell apart"):
        columns_of(path)
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
                columns_of(path)
        else:
            assert columns_of(path)[0][0]["kind"] == "integer"
    path = write(tmp_path / "one.csv", [[1, 2]], "a,b")
    with pytest.raises(ValueError, match="must have 2 rows or more to train on"):
        columns_of(path)
    path = write(tmp_path / "v.csv", [["1e39"], [1]], "a")
    with pytest.raises(ValueError, match=r"column `a`, row 1.*Received: inf"):
        columns_of(path)


def test_statistics_of_parts_are_those_of_all(numbers, monkeypatch):
    table, rows = sources.rows_of(numbers, "train")
    columns, conditions = columns_of(f"{numbers}?condition=n", "id=positive:-1")
    monkeypatch.setattr(table_files, "CELLS_AT_ONCE", 21)
    found, values = tables.summarize(table, rows), table.rows[rows].astype(np.float64)
    for name, expected in (
        ("least", values.min(0)),
        ("mean", values.mean(0)),
        ("largest", values.max(0)),
        ("deviation", values.std(0)),
        ("skewness", ((values - values.mean(0)) ** 3).mean(0) / values.std(0) ** 3),
    ):
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-9, atol=1e-12)
    parts = columns_of(f"{numbers}?condition=n", "id=positive:-1")
    for one, other in zip([*columns, *conditions], [*parts[0], *parts[1]], strict=True):
        for key in ("loc", "scale"):
            assert one[key] == pytest.approx(other[key], rel=1e-6)
    with pytest.raises(ValueError, match=r"column `id`, row 53: must be from 0 to 51"):
        columns_of(numbers, "id=integer:0:51")


def test_thousands_of_columns(tmp_path):
    rows = np.random.default_rng(0).normal(size=[12, 3000]).round(3)
    path = write(tmp_path / "t.csv", rows.tolist(), ",".join(f"c{i}" for i in range(3000)))
    columns, _ = columns_of(path)
    assert [column["name"] for column in columns] == [f"c{i}" for i in range(3000)]
    table, numbers_ = sources.rows_of(path, "train")
    lines = [*tables.describe_columns(columns, tables.summarize(table, numbers_))]
    assert lines[-1] == "  and 2960 others"
    write(tmp_path / "t.csv", np.zeros([3, 3000]).tolist(), ",".join(f"c{i}" for i in range(3000)))
    with pytest.raises(ValueError, match="`c9` and 2990 others, of which the first is 0"):
        columns_of(path)


# Batches.


def batches(name, split="train", **options):
    data = loading.load(name, split, batch_size=8, **options)
    assert (data.kind, data.num_levels) == (TABLES, None)
    count = options.pop("count", 5)
    return data, [batch.numpy() for batch in data.dataset.take(count)]


def test_batches_follow_from_seed_and_step_in_memory_and_on_disk(numbers, monkeypatch):
    options = {"shuffle_seed": 3, "repeat": True}
    data, expected = batches(numbers, **options)
    assert data.describe() == "rows [3]"
    assert expected[0].shape == (8, 3)
    monkeypatch.setattr(batching, "HELD_BYTES", 200)
    monkeypatch.setattr(table_files, "ROWS_AT_ONCE", 7)
    tables._read.cache_clear()
    assert isinstance(tables.open_table(numbers).rows, np.memmap)
    data, found = batches(numbers, **options)
    assert data.dataset.element_spec.shape == (8, 3)
    np.testing.assert_array_equal(found, expected)
    _, late = batches(numbers, start_step=2, **options)
    np.testing.assert_array_equal(late[:3], expected[2:])
    _, half = batches(numbers, part=(1, 2), **options)
    np.testing.assert_array_equal(half, np.array(expected)[:, 4:])
    data, rows = batches(numbers, "test[:50%]")
    assert [len(batch) for batch in rows] == [5]


def test_batches_of_a_condition_are_pairs(numbers, monkeypatch):
    for held in (batching.HELD_BYTES, 200):
        monkeypatch.setattr(batching, "HELD_BYTES", held)
        tables._read.cache_clear()
        options = {"batch_size": 8, "shuffle_seed": 3, "repeat": True}
        data = loading.load(f"{numbers}?condition=n,id", "train", **options)
        assert (data.event_shape, data.is_conditional) == ((1,), True)
        assert [spec.shape for spec in data.dataset.element_spec] == [(8, 1), (8, 2)]
        whole = loading.load(f"{numbers}?columns=x,n,id", "train", **options)
        for (x, y), rows in zip(data.dataset.take(3), whole.dataset.take(3), strict=True):
            np.testing.assert_array_equal(np.concatenate([x, y], axis=1), rows)


def test_a_file_that_changed_is_read_again(tmp_path):
    path = write(tmp_path / "t.csv", [[1], [2]], "x")
    assert tables.open_table(path) is tables.open_table(path)
    write(tmp_path / "t.csv", [[1], [2], [3]], "x")
    assert len(tables.open_table(path).rows) == 3


def test_only_columns_of_a_model_of_tables_are_no_images(numbers):
    data = loading.load("two_moons", "test", batch_size=8)
    with pytest.raises(ValueError, match=r"takes rows. Received: --dataset=two_moons.*points"):
        loading.check_kind(data, TABLES, "two_moons")
    with pytest.raises(ValueError, match=r"must be a table.*Received: --dataset=digits"):
        tables.check_is_table("digits")


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.array([[1, "a"]], object), "`x` of Python objects"),
        (np.array([["1", "a"]]), r"`x` \[1, 2\] of <U1"),
        (np.arange(3.0), r"`x` \[3\] of float64"),
        (np.ones([3, 2], complex), r"`x` \[3, 2\] of complex128"),
        (np.zeros(3, [("a", float)]), r"`x` \[3\]"),
    ],
)
def test_arrays_that_are_no_tables_are_said(array, match, tmp_path):
    path = str(tmp_path / "t.npz")
    np.savez(path, x=array)
    with pytest.raises(ValueError, match=rf"must have an array \[N, D\].*{match}") as error:
        tables.check_is_table(path)
    assert "\n" not in str(error.value)
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(ValueError, match=r"np.savez\('.*t.npz', np.load"):
        tables.check_is_table(str(tmp_path / "t.npy"))
