"""What a run on a table takes from its data: the columns, which become arguments of the model."""

import dataclasses

import zoo
from trainers.data import sources
from trainers.data.tables import (
    column_choice,
    column_inference,
    column_kinds,
    column_statistics,
    column_support,
    table_names,
    table_paths,
)
from trainers.data.tables.table import open_table
from trainers.runs.run import Run
from zoo import columns as specs


def with_columns(run: Run) -> Run:
    """Returns a run whose model has the columns of its table, and whose table those of its model.

    Columns that the model has already, from a run to resume or `--set=columns=...`, stay.

    Args:
      run: the run.

    Raises:
      ValueError: if there is no such table, or it can't be modelled.
    """
    if run.entry.kind != zoo.TABLES:
        return run
    dataset, arguments = run.recipe.dataset, dict(run.entry.arguments)
    path = table_names.path_of(dataset)
    table_paths.check_is_table(dataset)
    kinds = column_kinds.parse(run.column_kinds)
    if arguments["columns"] == zoo.find(run.entry.name).arguments["columns"]:
        table, numbers = sources.rows_of(dataset, "train")
        columns, conditions = column_inference.infer(table, numbers, kinds, path)
        arguments |= {"columns": columns, "condition_columns": conditions or 0}
        print(f"{path}: {len(table.rows)} rows, {table.said}")
        described = [*columns, *({**column, "kind": "given"} for column in conditions)]
        print("\n".join(column_statistics.describe(described, table, numbers)), flush=True)
    else:
        _check_kinds(arguments["columns"], kinds)
        _check_names(run.entry, dataset)
    entry = dataclasses.replace(run.entry, arguments=arguments)
    dataset = column_choice.name_with_columns_of(dataset, entry)
    recipe = dataclasses.replace(run.recipe, dataset=dataset)
    run = dataclasses.replace(run, entry=entry, recipe=recipe)
    table, numbers = sources.rows_of(dataset, "all")
    column_support.check(arguments["columns"], table, numbers, path)
    return run


def _check_kinds(columns, kinds):
    """Refuses kinds that are not those that the columns of a run have."""
    for column in specs.as_list(columns):
        said = kinds.get(column["name"])
        if said is not None and said.kind != column["kind"]:
            raise ValueError(
                f"`--column_kind` can't change a run: its column {column['name']!r} is of kind "
                f"{column['kind']}. Received: --column_kind={column['name']}={said.kind}."
            )


def _check_names(entry, dataset):
    """Refuses columns that were asked for and are not those that a model has already."""
    asked = table_names.parse(dataset)
    if not asked.columns and not asked.condition:
        return
    table = open_table(dataset)
    count = table.num_modelled
    for flag, argument, given, found in (
        ("columns", "columns", asked.columns, table.names[:count]),
        ("condition_columns", "condition_columns", asked.condition, table.names[count:]),
    ):
        names = specs.names(entry.arguments[argument])
        if given and set(found) != set(names):
            raise ValueError(
                f"`--{flag}` must be those that the model has already: {', '.join(names[:20])}. "
                f"Received: --{flag}={','.join(given[:20])}."
            )


def keep_columns(entry: zoo.Model, before: zoo.Model) -> zoo.Model:
    """Returns an entry with the columns of the run to resume, unless it has others of its own."""
    if (entry.name, entry.kind) != (before.name, zoo.TABLES):
        return entry
    usual = zoo.find(entry.name).arguments
    kept = {
        name: before.arguments[name]
        for name in ("columns", "condition_columns")
        if entry.arguments[name] == usual[name]
    }
    return dataclasses.replace(entry, arguments={**entry.arguments, **kept})
