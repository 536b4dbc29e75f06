"""Which modules are mutated, with the few fast tests that must kill their mutants."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Module:
    """A module by its import name, the tests of it, and how many of its mutants a plain run takes."""

    name: str
    tests: tuple[str, ...]
    count: int
    without: tuple[str, ...] = ()
    """Of those tests, what takes long and kills no more."""

    @property
    def file(self) -> str:
        """Its file, from the root of the repository."""
        path = self.name.replace(".", "/") + ".py"
        return path.removeprefix("ternac/") if path.startswith("ternac/host/") else path


COMPILER = (
    "tests/compile/test_compiler.py",
    "tests/compile/test_passes.py",
    "tests/compile/test_images.py",
    "tests/compile/test_rows.py",
)
SLOW = (
    "tests/compile/test_compiler.py::test_widest_model_of_a_vocabulary",
    "tests/compile/test_rows.py::test_every_engine_with_rows_has_a_program_with_memories_to_be_verified_on",
    "tests/compile/test_rows.py::test_cycles_on_the_board_with_rows_are_those_of_the_page",
)
OPS = (
    "tests/program/test_vectors.py",
    "tests/program/test_bounds.py",
    "tests/program/test_ops.py",
    "tests/program/test_legality.py",
)
LAYOUT = ("tests/compile/test_weight_layout.py", "tests/compile/test_stream_layout.py")

MODULES = (
    Module(
        "ternac.program.numerics", ("tests/program/test_numerics.py", "tests/program/test_vectors.py"), 70
    ),
    Module("ternac.program.ops", OPS, 25),
    Module("ternac.program.op_kind", OPS, 30),
    Module("ternac.compile.assemble", COMPILER, 45, SLOW),
    Module("ternac.compile.fuse", COMPILER, 40, SLOW),
    Module("ternac.compile.lower", COMPILER, 25, SLOW),
    Module("ternac.compile.place_rows", COMPILER, 12, SLOW),
    Module("ternac.compile.layout", (*LAYOUT, *COMPILER), 15, SLOW),
    Module("ternac.compile.isa", ("tests/compile/test_isa.py", *COMPILER), 15, SLOW),
    Module(
        "ternac.host.board.requests",
        (
            "tests/host/board/test_requests.py",
            "tests/host/board/test_client.py",
            "tests/host/board/test_stream.py",
        ),
        40,
    ),
    Module("ternac.host.server.scheduler", ("tests/host/server/test_scheduler.py",), 30),
)
