"""What a run on labelled data takes from them: the classes, whose number is the model's context."""

import dataclasses

import numpy as np

import zoo
from tfflows import networks
from trainers.data import labels, sources
from trainers.runs.run import Run


def with_classes(run: Run, split: str, scored: str | None) -> Run:
    """Returns a run whose model takes the labels of its data, if it is conditional on them.

    Classes that the run has already, as one to resume, stay.

    Args:
      run: the run.
      split: what is trained on.
      scored: what scores reports, or `None`.

    Raises:
      ValueError: if the data have no labels, or others in what scores reports; or the model is
        conditional on anything else.
    """
    entry, condition = run.entry, run.recipe.condition
    if condition is None:
        if entry.kind != zoo.TABLES and entry.context_size:
            raise ValueError(
                "A conditional model needs `--condition=label`. "
                f"Received: {entry.name}, with context_size={entry.context_size}."
            )
        return run
    classes = run.classes
    if classes is None:
        dataset = run.recipe.dataset
        found = sources.labels_of(dataset, split, run.data_dir, condition)
        classes = found.classes
        labels.check_classes(classes, f"`{dataset}`, {split},")
        if scored is not None:
            others = sources.labels_of(dataset, scored, run.data_dir, condition)
            others.among(classes, f"`{dataset}`, {scored},")
        print(f"{dataset}, {split}: {labels.describe(classes)}", flush=True)
    arguments = {**entry.arguments, "context_size": len(classes)}
    given = any(text.partition("=")[0] == "context_size" for text in run.changes)
    if given and entry.context_size != len(classes):
        raise ValueError(
            "`context_size` is the number of classes of the data, and need not be given. "
            f"Received: --set=context_size={entry.context_size}, {labels.describe(classes)}."
        )
    return dataclasses.replace(
        run, entry=dataclasses.replace(entry, arguments=arguments), classes=tuple(classes)
    )


def context_network(run: Run) -> networks.OneHot | None:
    """Returns what makes a context of the labels of a batch, for `FlowModel`; `None` without."""
    return networks.OneHot(len(run.classes)) if run.classes else None


def describe(run: Run, split: str) -> dict:
    """Returns what the metadata of a preset say of the condition; empty without one.

    Args:
      run: the run.
      split: what was trained on.
    """
    if run.classes is None:
        return {}
    found = sources.labels_of(run.recipe.dataset, split, run.data_dir, run.recipe.condition)
    numbers = found.among(run.classes, f"`{run.recipe.dataset}`, {split},").numbers
    counts = np.bincount(numbers, minlength=len(run.classes))
    return {
        "condition": run.recipe.condition,
        "context_dropout": run.recipe.context_dropout,
        "classes": list(run.classes),
        "class_frequencies": (counts / counts.sum()).tolist(),
    }
