"""The parts of JAX that turn a program of XLA into a function of JAX. JAX is imported here alone.

`jax.export.Exported` is public, but for its constructor, whose fields change from release to
release, and for the way from an HLO module to the StableHLO that it holds: when an upgrade breaks
one, this is the file to mend. Tried with JAX 0.10.2, 0.11.2 and 0.12.0.1.
"""

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

PLATFORMS = ("cpu", "cuda", "tpu")


def import_jax(what: str = "this program") -> Any:
    """Returns the module `jax`, with `jax.export`.

    Args:
      what: what needs it, for the error.

    Raises:
      ImportError: if there is none, or none that works; says what to install.
    """
    try:
        jax = importlib.import_module("jax")
        importlib.import_module("jax.export")
        importlib.import_module("flatbuffers")  # Comes with TensorFlow.
    except ImportError as error:
        raise ImportError(
            f"JAX must be installed for {what}: `python -m pip install 'jax>=0.10.2,<0.13'`. "
            f"Received: {error}."
        ) from error
    return jax


def to_exported(hlo: bytes, name: str, platforms: Sequence[str]) -> Any:
    """Returns an HLO module as a `jax.export.Exported` of flat arguments and results.

    It has no gradient, and no arguments that may be left out.

    Args:
      hlo: a serialized `HloModuleProto`.
      name: for error messages.
      platforms: those that it can be called on.
    """
    jax = import_jax()
    export, client = jax.export, importlib.import_module("jax._src.lib").xla_client
    ir = importlib.import_module("jaxlib.mlir.ir")
    stablehlo = importlib.import_module("jaxlib.mlir.dialects.stablehlo")
    mlir = importlib.import_module("jax._src.interpreters.mlir")

    # As `jax.export` itself writes.
    version = stablehlo.get_version_from_compatibility_requirement(
        stablehlo.StablehloCompatibilityRequirement.WEEK_4
    )
    computation = client.XlaComputation(hlo)
    shapes = computation.program_shape()
    with mlir.make_ir_context():
        module = ir.Module.parse(client._xla.mlir.xla_computation_to_mlir_module(computation))
        if len(platforms) > 1:
            _take_platform(module, ir)
        _to_stablehlo(module, name)
        program = stablehlo.serialize_portable_artifact(module, version)

    def avals(found):
        return tuple(jax.core.ShapedArray(s.dimensions(), s.numpy_dtype()) for s in found)

    result = shapes.result_shape()
    ins = avals(shapes.parameter_shapes())
    outs = avals(result.tuple_shapes() if result.is_tuple() else [result])
    fields = {
        "fun_name": name,
        "in_avals": ins,
        "out_avals": outs,
        "in_tree": jax.tree.structure((tuple(range(len(ins))), {})),
        "out_tree": jax.tree.structure(tuple(range(len(outs)))),
        "in_shardings_hlo": (None,) * len(ins),
        "out_shardings_hlo": (None,) * len(outs),
        "_in_named_shardings": (None,) * len(ins),
        "_out_named_shardings": (None,) * len(outs),
        "nr_devices": 1,
        "platforms": tuple(platforms),
        "ordered_effects": (),
        "unordered_effects": (),
        "disabled_safety_checks": (),
        "mlir_module_serialized": bytes(program),
        "calling_convention_version": export.maximum_supported_calling_convention_version,
        "module_kept_var_idx": tuple(range(len(ins))),
        "uses_global_constants": True,
    }
    names = inspect.signature(export.Exported).parameters
    return export.Exported(**{name: fields.get(name) for name in names})


def _take_platform(module, ir):
    """Gives a module the first argument of those for several platforms: which it runs on."""
    func = importlib.import_module("jaxlib.mlir.dialects.func")
    symbols = ir.SymbolTable(module.operation)
    program = symbols["main"]
    symbols.set_symbol_name(program, "tfflows_program")
    program.attributes["sym_visibility"] = ir.StringAttr.get("private")
    ins, outs = program.type.inputs, program.type.results
    with ir.InsertionPoint(module.body), ir.Location.unknown():
        number = ir.RankedTensorType.get([], ir.IntegerType.get_signless(32))
        main = func.FuncOp("main", ([number, *ins], outs), visibility="public")
        with ir.InsertionPoint(main.add_entry_block()):
            _, *arguments = main.arguments
            call = func.CallOp(outs, ir.FlatSymbolRefAttr.get("tfflows_program"), arguments)
            func.ReturnOp(call.results)


def _to_stablehlo(module, name):
    """Replaces what an HLO module has and StableHLO has not, as a file has to be.

    Raises:
      ValueError: if something is left.
    """
    ir = importlib.import_module("jaxlib.mlir.ir")
    chlo = importlib.import_module("jaxlib.mlir.dialects.chlo")
    stablehlo = importlib.import_module("jaxlib.mlir.dialects.stablehlo")
    passmanager = importlib.import_module("jaxlib.mlir.passmanager")
    for operation in list(_foreign(module.operation)):
        if operation.name == "mhlo.copy":  # What a loop carries.
            replacement = operation.operands[0]
        elif operation.name == "mhlo.erf":
            with ir.InsertionPoint(operation), operation.location:
                replacement = chlo.ErfOp(operation.operands[0]).result
        else:
            continue
        operation.result.replace_all_uses_with(replacement)
        operation.erase()
    stablehlo.register_stablehlo_passes()
    passes = "builtin.module(func.func(chlo-legalize-to-stablehlo))"
    passmanager.PassManager.parse(passes).run(module.operation)
    if left := sorted({operation.name for operation in _foreign(module.operation)}):
        raise ValueError(
            f"`{name}` must have operations of StableHLO alone. Received: {', '.join(left)}."
        )


def _foreign(operation):
    """Yields the operations that are not of StableHLO, inside of one."""
    if operation.name.split(".")[0] in ("chlo", "mhlo"):
        yield operation
    for region in operation.regions:
        for block in region:
            for inner in block:
                yield from _foreign(inner.operation)


def export(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    platforms: Sequence[str] = PLATFORMS,
    wide_types: bool = False,
) -> Any:
    """Returns a function of JAX as a `jax.export.Exported`, which has a gradient if it has one.

    Args:
      function: of arrays, or of dictionaries, lists and tuples of them.
      arguments: their shapes and dtypes, as a `tf.TensorSpec`.
        `None` in a shape is the size of the batch, which then is free.
      platforms: those that it can be called on.
      wide_types: whether types of 64 bits are what they say.
    """
    jax = import_jax()

    def struct(spec):
        shape = tuple(batch if size is None else size for size in spec.shape)
        return jax.ShapeDtypeStruct(shape, spec.dtype.as_numpy_dtype)

    with jax.enable_x64(wide_types):
        (batch,) = jax.export.symbolic_shape("batch")
        structs = jax.tree.map(struct, tuple(arguments), is_leaf=_has_dtype)
        return jax.export.export(jax.jit(function), platforms=tuple(platforms))(*structs)


def _has_dtype(value):
    return hasattr(value, "dtype")
