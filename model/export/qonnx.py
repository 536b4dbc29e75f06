"""QONNX export: one step of a program as an ONNX file, through Brevitas' exporter.

Inputs: ``token`` int64 [1] and one float32 [1, n] per state, named as in the program.  Outputs: the logits
and ``<state>/next`` per state, float32.  All values are integer codes.  Values of the program keep their
names; what an op computes on the way is ``<value>/<stage>``.  ``Quant`` is QONNX's operator, all others are
ONNX's; what ``Quant`` means is in the file as a function too, so that ONNX Runtime runs the file unchanged.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxoptimizer  # noqa: F401 - what Brevitas' exporter needs, so that its absence is named
import torch
from onnx import TensorProto, helper, numpy_helper

from ternac.errors import ProgramError, UnsupportedOp
from ternac.files import replacing
from ternac.program.legality import infer
from ternac.program.ops import IMPORT_KINDS, KINDS, MEMORY_KINDS, Op, Value
from ternac.program.program import Program
from ternac.program.summary import op_lines

OPSET = 20
DOMAIN = "qonnx.custom_op.general"
MAX_BYTES = 2**31 - 2**20  # a protobuf message ends at 2 GiB

QUANT = f"""
<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
Quant <signed: int = 1, narrow: int = 0, rounding_mode: string = "ROUND">
(x, scale, zero_point, bits) => (y) {{
    one = Constant <value_float = 1.0> ()
    two = Constant <value_float = 2.0> ()
    is_signed = Constant <value_int: int = @signed> ()
    is_narrow = Constant <value_int: int = @narrow> ()
    mode = Constant <value_string: string = @rounding_mode> ()
    floor_mode = Constant <value_string = "FLOOR"> ()
    signed_one = Cast <to = 1> (is_signed)
    narrow_one = Cast <to = 1> (is_narrow)
    magnitude = Sub (bits, signed_one)
    end = Pow (two, magnitude)
    unsigned_one = Sub (one, signed_one)
    cut = Mul (unsigned_one, narrow_one)
    last = Sub (end, one)
    high = Sub (last, cut)
    first = Sub (narrow_one, end)
    low = Mul (first, signed_one)
    scaled = Div (x, scale)
    shifted = Add (scaled, zero_point)
    below = Min (shifted, high)
    inside = Max (below, low)
    floored = Floor (inside)
    rounded = Round (inside)
    is_floor = Equal (mode, floor_mode)
    code = Where (is_floor, floored, rounded)
    centred = Sub (code, zero_point)
    y = Mul (centred, scale)
}}
"""
"""QONNX's Quant for the two rounding modes that occur here, in ONNX's text format."""


def to_onnx(program: Program) -> onnx.ModelProto:
    """Return the step graph of a program.

    Raises ProgramError if the file would exceed ONNX's limits, UnsupportedOp for ops of memories and loops.
    """
    from ternac.model.export.qonnx_graph import StepGraph

    types = infer(program)
    for index, op in enumerate(program.ops):
        if op.kind in MEMORY_KINDS:
            raise UnsupportedOp(
                f"op {index} ({op.kind} {op.out}): QONNX export has no kernel for {op.kind}: a graph has "
                "no rows that it changes where they lie, so each token would copy whole memories, as float32",
                "run this program on NumPy, native or gpu",
            )
        if op.kind in IMPORT_KINDS:
            raise ProgramError(
                f"op {index} {op.kind} {op.out!r}: QONNX export has no ops of imported models",
                hint="export it as GGUF: ternac export MODEL --format gguf",
            )
    floats = 4 * sum(array.size for array in program.consts.values())
    if floats > MAX_BYTES:
        raise ProgramError(
            f"the constants of {program.name} take {floats:,} bytes as float32, a file holds {MAX_BYTES:,}",
            hint="QONNX keeps weights as float32; export a smaller model",
        )
    graph = StepGraph(program).eval()
    inputs = (torch.zeros(1, dtype=torch.int64), *(torch.zeros(1, n) for n in program.states.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about itself
        from brevitas.export import export_qonnx

        model = export_qonnx(
            graph,
            args=inputs,
            dynamo=False,  # the other exporter drops the names of modules, which lead back to the program
            opset_version=OPSET,
            input_names=[_token(program), *program.states],
            output_names=["/logits", *(f"/{name}" for name in program.states)],
        )
    _Names(program, graph, model).apply()
    del model.graph.input[
        :
    ]  # the exporter lists initializers there, and leaves out states that nothing loads
    model.graph.input.extend(
        (
            helper.make_tensor_value_info(_token(program), TensorProto.INT64, [1]),
            *(helper.make_tensor_value_info(s, TensorProto.FLOAT, [1, n]) for s, n in program.states.items()),
        )
    )
    model.functions.append(onnx.parser.parse_function(QUANT))
    _describe(model, program, types)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write the file atomically; make its folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        onnx.save(model, str(scratch))


def _token(program: Program) -> str:
    """Return the name of the token input, which no value of the program has."""
    taken = {op.out for op in program.ops} | set(program.consts) | set(program.states)
    return "token" if "token" not in taken else "token/input"


class _Names:
    """Renames what the exporter named to the names of the program."""

    def __init__(self, program: Program, graph: torch.nn.Module, model: onnx.ModelProto) -> None:
        self.program, self.model = program, model
        self.lines = op_lines(program)
        self.tensors: dict[str, str] = {}
        for name, given in zip(["/logits", *(f"/{s}" for s in program.states)], self._outputs(), strict=True):
            self.tensors[name] = given

    def _outputs(self) -> list[str]:
        return [self.program.logits, *(f"{name}/next" for name in self.program.states)]

    def apply(self) -> None:
        """Rename constants, nodes and values in place; equal names are equal constants and stay once."""
        graph = self.model.graph
        self._constants()
        last: dict[tuple[str, str], int] = {}
        scopes = [_scope(node) for node in graph.node]
        for index, (scope, stage) in enumerate(scopes):
            last[scope, ""] = last[scope, stage] = index
        taken: dict[str, int] = {}
        for index, (node, (scope, stage)) in enumerate(zip(graph.node, scopes, strict=True)):
            op = self.program.ops[int(scope[2:])] if scope.startswith("op") else None
            value = self._value(op, int(scope[2:]), last[scope, ""] == index) if op else ""
            if not value:
                where = op.out if op else scope
                value = (
                    f"{where}/{stage}" if last[scope, stage] == index else f"{where}/{stage}/{node.op_type}"
                )
            taken[value] = taken.get(value, 0) + 1
            if taken[value] > 1:
                value = f"{value}.{taken[value]}"
            given = self.tensors.setdefault(node.output[0], value)
            node.name = f"{given}/{node.op_type}" if op and given == op.out else given
            if op:
                node.doc_string = self.lines[int(scope[2:])].strip()
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [self.tensors.get(name, name) for name in names]
        for info in (*graph.input, *graph.output, *graph.value_info):
            info.name = self.tensors.get(info.name, info.name)

    def _value(self, op: Op, index: int, is_last: bool) -> str:
        """Return the name of the node's output if that is the op's result, else ""."""
        if not is_last:
            return ""
        return op.out if op.kind != "STORE" else f"{op.out}/{index}"

    def _constants(self) -> None:
        kept: dict[str, TensorProto] = {}
        for tensor in self.model.graph.initializer:
            name = self._constant(tensor)
            self.tensors[tensor.name] = name
            tensor.name = name
            kept.setdefault(name, tensor)
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend(kept[name] for name in sorted(kept))

    def _constant(self, tensor: TensorProto) -> str:
        found = re.fullmatch(r"op(\d+)\.(?:\w+\.)?(\w+)", tensor.name)
        if found:
            op = self.program.ops[int(found[1])]
            if found[2] in ("weight", "table"):
                return op.text(next(iter(KINDS[op.kind].constants)))
            shared = {"powers": "const/powers_of_4", "thresholds": "const/powers_of_4_above_1"}
            return shared.get(found[2], f"{op.out}/{found[2]}")
        values = numpy_helper.to_array(tensor)
        kind = "" if values.dtype == np.float32 else f"{values.dtype}."
        return f"const/{kind}{_literal(values)}"


def _scope(node: Any) -> tuple[str, str]:
    """Return (module of the op, stage within it) of an exporter's node name like ``/op3/halfway/Mul``."""
    parts = node.name.strip("/").split("/")
    stage = "weights" if "weight_quant" in parts else parts[1]
    return parts[0], stage


def _literal(values: Any) -> str:
    if values.ndim:
        return str(values.tolist()).replace(" ", "")
    number = float(values)
    if 0 < number < 0.5 and math.frexp(number)[0] == 0.5:
        return f"2^{math.frexp(number)[1] - 1}"
    return np.format_float_positional(number, trim="-")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "from a checkout"


def _describe(model: onnx.ModelProto, program: Program, types: dict[str, Value]) -> None:
    """Add metadata, documentation and the integer type of every value of the program."""
    model.producer_name, model.producer_version = "ternac", _version("ternac")
    model.graph.name = program.name
    model.graph.doc_string = (
        "One token. All values are integer codes held in float32; a logit is worth "
        f"code * 2^-{program.logit_scale_bits}. Feed every <state>/next back as <state>; zeros at the start."
    )
    metadata = {
        "ternac.program": program.name,
        "ternac.program_hash": program.hash,
        "ternac.logit_scale": f"2^-{program.logit_scale_bits}",
        "ternac.states": json.dumps(dict(program.states)),
        "ternac.vocab": str(program.vocab),
        "ternac.ternary_weights": str(program.trits),
        "ternac.meta": json.dumps(dict(program.meta)),
        "ternac.versions": json.dumps({p: _version(p) for p in ("ternac", "torch", "brevitas", "onnx")}),
    }
    helper.set_model_props(model, metadata)
    present = {name for node in model.graph.node for name in node.output}
    kinds = {name: _integer(value) for name, value in types.items() if name in present}
    kinds |= dict.fromkeys(program.states, "INT16")
    kinds |= {f"{name}/next": "INT16" for name in program.states}
    roles = {"trits": "TERNARY", "embed": "INT8", "table": "INT16", "norm": "UINT8"}
    kinds |= {name: roles[role] for name, role in program.roles().items()}
    for name, kind in kinds.items():
        note = model.graph.quantization_annotation.add(tensor_name=name)
        note.quant_parameter_tensor_names.add(key="finn_datatype", value=kind)


def _integer(value: Value) -> str:
    """Return QONNX's name of a value's integer type."""
    if value.dtype != "acc":
        return value.dtype.replace("i", "INT")
    return f"INT{max(value.high.bit_length(), (-value.low - 1).bit_length()) + 1}"
