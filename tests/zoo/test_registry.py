"""Names and recipes that are registered."""

import dataclasses

import pytest

import zoo
from zoo import registry


def test_unknown_name_suggests_near_ones():
    for function in (zoo.create, zoo.describe):
        with pytest.raises(
            ValueError, match=r"nearest are .*convexp_glow\.digits(.|\n)*'convexp_glow\.digit'"
        ):
            function("convexp_glow.digit")


def test_names_are_registered_once():
    recipe = registry.find("glow.digits").recipe
    with pytest.raises(ValueError, match=r"'glow\.digits' is registered already"):
        zoo.register("glow.digits", print, kind=zoo.IMAGES, recipe=recipe, summary="", paper="")


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("dataset", [3, None], ["digits"]),
        ("batch_size", [0, 1.5, "8", True, None], [1]),
        ("steps", [0, 1e3], [1]),
        ("optimizer", ["sgd", 3, []], ["adam", "adamax"]),
        ("learning_rate", [-1, float("nan"), float("inf"), "a", None], [0, 0.1]),
        ("beta_2", [1, -0.1], [0, 0.99]),
        ("warmup_steps", [-1, 0.5, "a"], [0]),
        ("warmup_power", [-1, "a"], [2]),
        ("decay", ["square", 1.5, True, []], ["linear", "cosine", 0.99]),
        ("context_dropout", [1, -0.1, "a", None], [0, 0.1]),
        ("weight_decay", [-1e-4, 1.1, "a", None], [0, 1e-4]),
        ("decay_steps", [0, "a"], [None, 10]),
        ("final_learning_rate", [-1], [0.0]),
        ("clip", [0, -1, "a"], [None, 0.5]),
        ("flip", [1, "true", None], [True]),
        ("ema", [-0.1, 1.1, "a"], [0, 0.999]),
    ],
)
def test_a_recipe_is_one_that_a_run_can_follow(name, wrong, right):
    recipe = zoo.Recipe(dataset="digits", batch_size=16, steps=4)
    for value in right:
        assert getattr(dataclasses.replace(recipe, **{name: value}), name) == value
    for value in wrong:
        with pytest.raises(ValueError, match=f"`{name}` of a recipe must be .*Received: {name}="):
            dataclasses.replace(recipe, **{name: value})


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("jet.digits", {"num_couplings": -1}),
        ("tarflow.digits", {"depth": -1}),
        ("rq_nsf.two_moons", {"num_blocks": -2}),
        ("glow.digits", {"steps": (-1, 2)}),
        ("balanced.digits", {"gain": 1.0, "steps": [2, -1]}),
    ],
)
def test_negative_counts_are_not_taken_for_none(name, changes):
    with pytest.raises(ValueError, match=r"`\w+` must not be negative. Received: \w+=.*-"):
        zoo.create(name, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": "8"}, "`width` must be an integer. Received: width='8'"),
        ({"depth": 1.5}, "`depth` must be an integer. Received: depth=1.5"),
        ({"num_blocks": True}, "`num_blocks` must be an integer. Received: num_blocks=True"),
        ({"num_levels": 2.5}, "`num_levels` must be an integer. Received: num_levels=2.5"),
        (
            {"num_levels": 0},
            "`num_levels` must be None or a positive integer. Received: num_levels=",
        ),
        ({"context_size": 1.5}, "`context_size` must be an integer or None. Received: context_si"),
        ({"clip": True}, "`clip` must be a number or None. Received: clip=True"),
        ({"clip": 0}, "`clip` must be None or positive and finite. Received: clip=0"),
        ({"noise": "a"}, "`noise` must be a number or None. Received: noise='a'"),
        ({"noise": 0.0}, "`noise` must be None or positive and finite. Received: noise=0.0"),
        ({"mixing": ["conv_exponential"]}, "`mixing` must be a text or None. Received: mixing="),
        ({"seed": 1.5}, "`seed` must be an integer. Received: seed=1.5"),
        ({"seed": -1}, "`seed` must not be negative. Received: seed=-1"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        zoo.create("tarflow.digits", **changes)


def test_all_arguments_of_the_zoo_are_of_the_kinds_of_their_builders():
    for name in zoo.list_models():
        entry = zoo.find(name)
        hints = registry._hints(entry.builder)
        assert all(registry._fits(value, hints[key]) for key, value in entry.arguments.items())
    with pytest.raises(ValueError, match="`steps` must be a list of integers. Received: steps=3"):
        zoo.create("glow.digits", steps=3)
