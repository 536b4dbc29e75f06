"""Comparison of an exported step graph with the NumPy executor: logits and state, exactly."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from ternac.errors import Mismatch
from ternac.program.program import Program
from ternac.run.numpy_executor import NumpyExecutor

Feeds = dict[str, npt.NDArray[Any]]
Run = Callable[[Feeds], Feeds]
"""Input tensors by name to output tensors by name."""


def by_onnxruntime(model: onnx.ModelProto) -> Run:
    """Return a function that runs the graph in ONNX Runtime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(None, feeds), strict=True))


def by_qonnx(model: onnx.ModelProto) -> Run:
    """Return a function that runs the graph in ``qonnx``, node by node: slow, an independent Quant."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    wrapper = ModelWrapper(model, make_deepcopy=True)

    def run(feeds: Feeds) -> Feeds:
        with contextlib.redirect_stdout(io.StringIO()):
            outputs: Feeds = execute_onnx(wrapper, feeds)
        return outputs

    return run


def compare(
    model: onnx.ModelProto, program: Program, run: Run, tokens: int, progress: Callable[[int], None]
) -> None:
    """Feed ``tokens`` random tokens to graph and NumPy executor; Mismatch at the first difference.

    The second half starts from a random state, so that values which a text never reaches are met, too.
    """
    rng = np.random.default_rng(20)
    executor = NumpyExecutor(program)
    state = executor.open()
    token_name = model.graph.input[0].name
    for number in range(tokens):
        if number == (tokens + 1) // 2:
            state[:] = rng.integers(-32768, 32768, state.shape)
        token = int(rng.integers(program.vocab))
        feeds: Feeds = {token_name: np.array([token], np.int64)}
        feeds |= {name: row.astype(np.float32) for name, row in executor.state_dict(state).items()}
        expected: dict[str, Any] = {}
        found = run(feeds)
        expected[program.logits] = executor.step(state, [token])
        expected |= {f"{name}/next": row for name, row in executor.state_dict(state).items()}
        for name, values in expected.items():
            if found[name].shape != values.shape or not np.array_equal(found[name], values):
                raise Mismatch(
                    f"token {number} ({token}): {_first(name, found[name], values)}; "
                    + _culprit(model, program, feeds, token)
                )
        progress(number + 1)


def _first(name: str, found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> str:
    if found.shape != wanted.shape:
        return f"{name} has shape {list(found.shape)}, not {list(wanted.shape)}"
    at = int(np.flatnonzero(found.reshape(-1) != wanted.reshape(-1))[0])
    return f"{name}[{at}] is {found.reshape(-1)[at]:g}, NumPy has {wanted.reshape(-1)[at]}"


def _culprit(model: onnx.ModelProto, program: Program, feeds: Feeds, token: int) -> str:
    """Return the first value that ONNX Runtime and NumPy compute differently from the same state."""
    executor = NumpyExecutor(program)
    state = executor.open()
    for name, row in executor.state_dict(state).items():
        row[:] = feeds[name].astype(np.int16)
    trace: dict[str, Any] = {}
    executor.step(state, [token], trace)
    traced = onnx.ModelProto()
    traced.CopyFrom(model)
    made = {info.name: info for info in model.graph.value_info}
    traced.graph.output.extend(made[name] for name in trace if name in made)
    found = by_onnxruntime(traced)(feeds)
    for name, values in trace.items():
        if name in found and not np.array_equal(found[name], values):
            return f"first value to differ: {_first(name, found[name], values)}"
    return "in ONNX Runtime every value of the program agrees"
