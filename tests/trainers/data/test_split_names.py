"""What names say about splits."""

import pytest

from trainers.data import split_names


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("cats dogs/old", "train train"),
        ("train val", "train validation"),
        ("train valid test", "train validation test"),
        ("Train Test", "train test"),
        ("TRAIN DEV TEST", "train validation test"),
        ("training testing validation", "train test validation"),
        ("x_train x_test", "train test"),
        ("xtrain Xtest", "train test"),
        ("train_images test-images valImages", "train test validation"),
        ("train2017 val2017 test2017", "train validation test"),
        ("DIV2K_train_HR DIV2K_valid_HR", "train validation"),
        ("train/cat train/dog test/cat test/dog", "train train test test"),
        ("cat/train cat/test dog/train dog/test", "train test train test"),
        ("images/train images/val labels", "train validation -"),
        ("train_val_test/train train_val_test/test", "train test"),
        ("train/train test/train", "train test"),  # A class that is named so.
        ("train test extra", "train test -"),
        ("train test eval", "train test -"),
        (". train test", "- train test"),
        ("train", "train"),
        ("test", "test"),
    ],
)
def test_what_names_say_about_splits(names, expected):
    paths = [tuple(filter(".".__ne__, name.split("/"))) for name in names.split()]
    found = split_names.divide(paths, "root", "remedy")
    assert [split or "-" for split in found] == expected.split()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("train car plane", "`train` is a split, and `car` beside it is in none"),
        ("test cats", "`test` is a split, and `cats` beside it is in none"),
        (". Test", "`Test` is a split, and `.` beside it is in none"),
        ("validation test cats", "`cats` beside it is in none"),
        ("trainval test", "`trainval` beside it is in none"),
        ("eval", "`eval` may be for training or for tests"),
        ("trainA trainB testA testB", "`trainA` and `trainB` may both be for `train`"),
        ("train val valid", "`val` and `valid` may both be for `validation`"),
        ("train/test train/cats", "`train/test` is in two splits"),
        ("train old/test", "`train` and `old/test` are splits at two levels"),
        ("bullet_train test_tube cat", "`cat` beside it is in none"),
    ],
)
def test_names_that_are_not_clear_are_asked_about(names, message):
    paths = [tuple(filter(".".__ne__, name.split("/"))) for name in names.split()]
    with pytest.raises(ValueError, match="`root` must say what to train on: ") as error:
        split_names.divide(paths, "root", "Remedy")
    assert message in str(error.value)
    assert str(error.value).endswith(". Remedy.")
