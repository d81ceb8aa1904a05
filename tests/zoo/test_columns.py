"""Columns as arguments of a builder: what is refused, statistics, and the models of tables."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.small_presets import save_small, small_arguments
from tests.zoo.strange_presets import configure, refused
from tfflows import condition, distributions
from zoo import columns
from zoo.storage import limits

REAL = {"name": "a", "kind": "real", "loc": 2.0, "scale": 3.0}
COUNT = {"name": "n", "kind": "integer", "loc": 1.0, "scale": 0.5, "low": 0}
PRICE = {"name": "price", "kind": "positive", "loc": 0.0, "scale": 1.0, "low": 0.0}
SHARE = {"name": "share", "kind": "interval", "loc": 0.0, "scale": 1.0, "low": 0.0, "high": 1.0}
PARTS = [{"name": name, "kind": "simplex", "loc": 0.0, "scale": 1.0, "high": 1.0} for name in "xyz"]
ALL = [REAL, COUNT, PRICE, SHARE, *PARTS]
NAMES = ("maf.table", "rq_nsf_ar.table", "realnvp.table", "rq_nsf.table", "balanced.table")


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (-1, "at most 10000"),
        (10_001, "at most 10000"),
        (10**400, "`columns`"),
        (True, "a number of columns, or a list"),
        ("ab", "a number of columns, or a list"),
        ([REAL] * 10_001, "at most 10000"),
        ([REAL, REAL], "different names"),
        ([3], "the entries name, kind"),
        ([{}], "the entries name, kind"),
        ([{**REAL, "class_name": "x"}], "no entries but"),
        ([{**REAL, "name": ""}], "a name of 1 to 200"),
        ([{**REAL, "name": "x" * 201}], "a name of 1 to 200"),
        ([{**REAL, "name": 3}], "a name of 1 to 200"),
        ([{**REAL, "kind": "category"}], "a kind among"),
        ([{**REAL, "kind": []}], "a kind among"),
        ([{**REAL, "loc": math.nan}], "finite numbers"),
        ([{**REAL, "loc": math.inf}], "finite numbers"),
        ([{**REAL, "loc": 1e39}], "finite numbers"),
        ([{**REAL, "loc": 10**400}], "."),
        ([{**REAL, "loc": "1"}], "finite numbers"),
        ([{**REAL, "loc": True}], "finite numbers"),
        ([{**REAL, "scale": 0.0}], "a positive scale"),
        ([{**REAL, "low": 0.0}], "no bounds"),
        ([{**COUNT, "low": 0.5}], "integers as bounds"),
        ([{**PRICE, "low": None}], "the bound low"),
        ([{**SHARE, "high": None}], "the bound high"),
        ([{**SHARE, "high": 0.0}], "low less than high"),
        ([{**PARTS[0], "high": -1.0}], "a positive sum"),
        ([{**PARTS[0], "group": -1}], "a small integer as group"),
        ([{**PARTS[0], "group": 0.5}], "a small integer as group"),
    ],
    ids=str,
)
def test_what_are_no_columns_is_refused(value, match):
    with pytest.raises(ValueError, match=match):
        columns.check(value)
    entry = zoo.find("maf.table")
    for argument in ("columns", "condition_columns"):
        with pytest.raises(ValueError):
            limits.check_arguments(entry, {argument: value})


def test_presets_of_strangers_have_bounded_columns(tmp_path):
    path = tmp_path / "p"
    save_small(path, "maf.table", columns=ALL, **small_arguments("maf.table"))
    assert zoo.load(str(path)).event_shape == [7]
    assert [c["name"] for c in zoo.open_trained(path).entry.arguments["columns"]][:2] == ["a", "n"]
    configure(path, columns=[{**REAL, "scale": -1.0}])
    refused(path, "`columns.0.` must have a positive scale")
    configure(path, columns=2000)
    refused(path, "parameters in all|must be alike")  # What the first block was refused leads to.


def test_statistics_are_those_after_the_map_to_the_real_line():
    rng = np.random.default_rng(0)
    rows = np.column_stack(
        [
            rng.normal(1e4, 2, 5000),
            rng.poisson(3, 5000),
            rng.lognormal(1, 2, 5000),
            rng.beta(2, 5, 5000),
            rng.dirichlet([1, 2, 3], 5000),
        ]
    )
    fitted = columns.fit(ALL, np.split(rows, 5))
    columns.check(json.loads(json.dumps(fitted)))
    assert fitted[0]["loc"] == pytest.approx(1e4, rel=1e-5)
    assert fitted[0]["scale"] == pytest.approx(2, rel=0.03)
    assert fitted[2]["loc"] == pytest.approx(1, abs=0.1)
    assert fitted[6]["loc"] == 0  # It leaves.
    z = columns.normalizer(fitted).forward(rows + np.eye(7)[1] / 2).numpy()
    assert z.shape == (5000, columns.num_latents(fitted))
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-6)
    noise = columns.noise(fitted, 100).numpy()
    assert np.all(noise[:, 1:] >= 0)
    np.testing.assert_array_equal(noise[:, 1], np.round(noise[:, 1]))


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_mixed_columns(name):
    arguments = {"columns": ALL, **small_arguments(name)}
    model = zoo.create(name, discrete=True, seed=1, **arguments)
    assert isinstance(model, distributions.Dequantized)
    x = columns.noise(ALL, 5)
    assert np.isfinite(model.log_prob(x, seed=1)).all()
    assert model.sample(3, seed=1).shape == (3, 7)
    # Before it is trained a flow is the identity, a permutation or a scale: the density is known.
    density = zoo.create(name, **arguments)
    z = columns.normalizer(ALL).forward(x)
    base = tf.reduce_sum(-(z**2) / 2 - math.log(2 * math.pi) / 2, -1)
    if name != "balanced.table":
        expected = base + columns.normalizer(ALL).forward_log_det_jacobian(x, 1)
        np.testing.assert_allclose(density.log_prob(x), expected, rtol=1e-4)
    real = zoo.create(name, columns=3, **small_arguments(name))
    assert not distributions.is_discrete(real)
    with pytest.raises(ValueError, match="whose data are no integers"):
        zoo.create(name, columns=3, discrete=True, **small_arguments(name))


@pytest.mark.parametrize("name", NAMES)
def test_rows_given_others(name):
    given = [{**REAL, "name": "y0", "loc": 100.0, "scale": 10.0}, {**REAL, "name": "y1"}]
    changes = small_arguments(name)
    model = zoo.create(name, columns=2, condition_columns=given, seed=1, **changes)
    plain = zoo.create(name, columns=2, context_size=2, seed=1, **changes)
    rng = np.random.default_rng(0)
    for one, two in zip(model.variables, plain.variables, strict=True):
        one.assign_add(0.1 * rng.normal(size=one.shape).astype("float32"))
        two.assign(one)
    y, x = tf.constant([[90.0, 2.0], [120.0, 8.0]]), tf.zeros([2, 2])
    found = condition(model, y).log_prob(x)
    np.testing.assert_allclose(
        found, condition(plain, (y - [100.0, 2.0]) / [10.0, 3.0]).log_prob(x)
    )
    assert found[0] != found[1]
    with pytest.raises(ValueError, match="the number of `condition_columns`"):
        zoo.create(name, columns=2, condition_columns=given, context_size=3, **changes)


def test_one_column_is_for_autoregressive_flows():
    for name in NAMES:
        arguments = {"columns": 1, **small_arguments(name)}
        if "maf" in name or "_ar" in name:
            assert zoo.create(name, **arguments).log_prob([[0.3]]).shape == (1,)
        else:
            with pytest.raises(ValueError, match="2 columns or more.*maf.table and rq_nsf_ar"):
                zoo.create(name, **arguments)


def test_blocks_loop():
    for name in NAMES:
        arguments = {"columns": 3, **small_arguments(name), "num_blocks": 4}
        flow = zoo.create(name, **arguments).bijector.bijector
        assert flow.repeats, name
