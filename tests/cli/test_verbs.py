"""What holds for every verb and bench: help, --json, typed errors, one meaning per option, cheap imports."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import Action
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ternac.cli import arguments, emit, explore, sim
from ternac.cli.arguments import number, open_model
from ternac.cli.bench.main import BENCHES, find_bench
from ternac.cli.board.main import CHECKS, find_check
from ternac.cli.main import VERBS, find_verb, main, verb_and_parser
from ternac.cli.verb import Parser, Say
from ternac.compile.fitting import default_model
from ternac.compile.geometry import PRESETS, Geometry, preset
from ternac.errors import UsageError
from ternac.manifest import DEFAULT_BOARD
from ternac.program import zoo

COMMANDS = [*VERBS, *(f"bench {name}" for name in BENCHES), *(f"board {name}" for name in CHECKS)]
FIXED = ["MODEL", "--board", "--geometry", "--executor", "--device", "--out", "--seed"]


def actions(command: str) -> list[Action]:
    """The arguments of a verb or a bench."""
    verb, *bench = command.split()
    _, parser = verb_and_parser(verb)
    return parser.benches[bench[0]].arguments if bench else parser.arguments


def failure(capsys: pytest.CaptureFixture[str], command: str) -> dict[str, str]:
    """The error of a command that is refused, as the only thing on standard output."""
    capsys.readouterr()
    assert main([*shlex.split(command), "--json"]) == 2
    error: dict[str, str] = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "UsageError" and error["hint"]
    return error


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_one_sentence_with_an_example_and_json(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    paragraphs = text.split("\n\n")
    assert re.fullmatch(r"[A-Z][a-z]+[ ,].*[^.]\.", paragraphs[1]) and len(paragraphs[1]) <= 110
    assert "--json" in text
    example = text.split("example:\n")[1].strip()
    assert example.startswith(f"ternac {command}")
    _, parser = verb_and_parser(command.split()[0])
    parser.parse_args(shlex.split(example)[2:])
    assert all(action.help for action in actions(command))


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_a_typed_error(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    required = {
        "import": "mmfreelm x --out y", "tokenizer": "show x", "completion": "bash", "bench": "hdl",
        "memory": "list", "sleep": "x y --out z", "board": "check sim", "board check": "sim",
        "board loopback": "sim", "compress": "x", "decompress": "x", "score": "x",
        "watch": "x", "task": "bench",
    }  # fmt: skip
    error = failure(capsys, f"{command} {required.get(command, '')} --nonsense")
    assert "--nonsense" in error["message"]
    assert error["hint"] == f"see: ternac {command} --help" or command.startswith(("bench", "board"))


def test_an_option_means_the_same_everywhere() -> None:
    """Same choices, metavar and type wherever it appears; training chooses among torch's devices."""
    for name in FIXED:
        kinds = set()
        for command in COMMANDS:
            for action in actions(command):
                if name in (*action.option_strings, action.metavar) and "train" not in command:
                    choices = None if action.choices is None else tuple(action.choices)
                    kinds.add((choices, None if name == "--out" else action.metavar))
        assert len(kinds) == 1, (name, kinds)


@pytest.mark.parametrize("command", COMMANDS)
def test_former_spellings_name_the_new_one(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    verb, _, what = command.partition(" ")
    made = {"bench": find_bench, "board": find_check}[verb](what) if what else find_verb(command)
    for old, new in made.renamed.items():
        assert new in failure(capsys, f"{command} {old} x")["message"]
        assert new in failure(capsys, f"{command} {old}=x")["message"]


def test_a_board_is_no_engine(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "serve", "estimate", "build", "bench hdl"):
        assert failure(capsys, f"{command} --board tiny")["hint"] == "write --geometry tiny"


OWN = replace(PRESETS["icebreaker"], name="2x10-own", lanes=10, chain=1)


@pytest.mark.parametrize(
    "command",
    [
        "estimate shakespeare-small --board icebreaker",
        "report shakespeare-small --board icebreaker",
        "verify shakespeare-small --executors numpy,isa --tokens 2",
        "run shakespeare-small --device isa --tokens 2 --check",
    ],
)
def test_a_geometry_of_explore_works_in_every_verb(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.json").write_text(json.dumps({"front": [{"name": OWN.name, "geometry": asdict(OWN)}]}))
    assert main([*command.split(), "--geometry", "own.json:2x10-own", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    if command.startswith("run"):
        assert data["check"]["equal"]
    else:
        assert data["geometry"] == "2x10-own"
    if command.startswith("estimate"):  # the figure of explore; the board's engine takes 14,950
        assert data["cycles_per_token"] == 18_086


def test_a_geometry_of_explore_reaches_the_simulations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ternac.host import device
    from ternac.sim.cocotb import benches

    found = []

    def stop(*given: object, **_: object) -> None:
        found.extend(item for item in given if isinstance(item, Geometry))
        raise UsageError("stopped", "as planned")

    monkeypatch.chdir(tmp_path)
    Path("own.json").write_text(json.dumps(asdict(OWN)))
    monkeypatch.setattr(benches, "run_engine", stop)
    monkeypatch.setattr(device, "open_line", stop)
    commands = (
        "sim",
        "run --device sim",
        "bench hdl",
        "verify --executors numpy,rtl",
        "run --device serial:x",
    )
    for command in commands:
        assert failure(capsys, f"{command} --geometry own.json")["message"] == "stopped"
    assert found == [OWN] * len(commands)


def test_names_in_help_are_those_of_the_modules() -> None:
    from ternac.hdl.axi.resources import PARTS
    from ternac.hdl.emit.tops import TOPS
    from ternac.hdl.planner.explore import GOALS
    from ternac.hdl.stream.axi import PORT_BITS
    from ternac.sim.cocotb.benches import names

    assert arguments.PORT_BITS == PORT_BITS
    assert tuple(GOALS) == explore.GOALS
    assert tuple(PARTS) == emit.PARTS
    assert tuple(TOPS) == emit.TOPS
    assert names() == sim.BENCHES


def run_python(code: str) -> tuple[str, float]:
    """Run a program here; returns its output and its CPU seconds."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return done.stdout, spent


def test_the_overview_is_quick_and_imports_nothing_large() -> None:
    code = """
import sys
from ternac.cli.main import main
main(["--help"])
print([name for name in ("numpy", "torch", "amaranth", "matplotlib") if name in sys.modules])
"""
    runs = [run_python(code) for _ in range(3)]
    assert runs[0][0].splitlines()[-1] == "[]"
    assert min(seconds for _, seconds in runs) < 0.3


def test_the_help_of_no_verb_imports_torch_or_amaranth() -> None:
    code = f"""
import sys
from ternac.cli.main import main
for command in {COMMANDS}:
    main([*command.split(), "--help"])
    large = [name for name in ("torch", "amaranth", "matplotlib") if name in sys.modules]
    assert not large, (command, large)
"""
    run_python(code)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0", "--n is 0, needs 1 to 9"),
        ("1048576", "--n is 1048576, needs 1 to 9"),
        ("x", "--n is 'x', needs a whole number"),
        ("1.5", "--n is '1.5', needs a whole number"),
    ],
)
def test_a_number_outside_its_range_is_named(given: str, message: str) -> None:
    parser = Parser(prog="ternac try")
    number(parser, "--n", "things", least=1, most=9)
    with pytest.raises(UsageError, match=re.escape(message)):
        parser.parse_args(["--n", given])
    assert parser.parse_args(["--n", "9"]).n == 9
    number(parser, "--x", "seconds", kind=float, default=2.5)
    with pytest.raises(UsageError, match="--x is 'nan', needs a number"):
        parser.parse_args(["--x", "nan"])
    assert "seconds (default: 2.5)" in parser.format_help()


SMALL = ("tiny", "tiny-rows", "tiny-rows-sdram", "gw1nr-9", "gw2ar-18", "ecp5-25f")
"""Engines that hold no shipped model."""


@pytest.mark.parametrize("name", PRESETS)
def test_the_default_model_fits_and_says_where_it_is_random(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = open_model(None, preset(name), Say())
    said = capsys.readouterr().out
    assert (model.path is None) == ("a fixed random program" in said) == (name in SMALL)
    assert default_model(preset(name)).program.hash == model.program.hash
    if name == DEFAULT_BOARD:
        assert model.program.name == zoo.DEFAULT == open_model(None, None, Say()).program.name


@pytest.mark.parametrize(
    ("command", "model"),
    [
        ("report --board icebreaker", "shakespeare-small"),
        ("estimate --geometry tiny", "random-24x20x2-256"),
        ("verify --executors numpy,isa --geometry tiny --tokens 20", "random-24x20x2-256"),
        ("verify --executors numpy,isa --geometry icebreaker --tokens 2", "shakespeare-small"),
        ("run --device isa --board icebreaker --tokens 2 --check", "shakespeare-small"),
        ("run --device isa --geometry tiny --tokens 2 --check", "random-24x20x2-256"),
        ("run --geometry icebreaker --tokens 2", "shakespeare-small"),
    ],
)
def test_defaults_work_on_every_engine(
    command: str,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command.split(), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["model"] == model
    assert ("a fixed random program" in err) == model.startswith("random")


def test_options_that_would_be_ignored_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for command, message in (
        ("export --format gguf --text x", "--text is not for --format gguf"),
        ("export --gguf-type tq1_0", "--gguf-type is not for --format program"),
        ("flash --file x --geometry tiny", "--file is a whole bitstream"),
        ("sim --bench dot --geometry tiny", "--geometry has no effect with --bench dot"),
        ("sim --bench dot --tokens 3", "--tokens has no effect with --bench dot"),
        ("sim shakespeare --bench dot", "MODEL has no effect with --bench dot"),
        ("verify --geometries tiny --all-geometries", "--geometries has no effect with --all-geometries"),
        (
            "verify shakespeare --executors numpy,native --geometry tiny",
            "--geometry has no effect with --executors numpy,native",
        ),
        ("bench host --bits 2", "--bits has no effect with a shipped model"),
        ("bench host --threads 2", "--threads has no effect with a shipped model"),
        ("run --temperature 0 --top-k 3", "--top-k has no effect with --temperature 0"),
        ("run --seed 3 --temperature 0", "--seed has no effect with --temperature 0"),
        ("chat --greedy --seed 3", "--seed has no effect with --greedy"),
        ("run --device serial:x --waves x.vcd", "--waves has no effect with --device serial:x"),
        (
            "serve --device native --device numpy --board icebreaker",
            "--board has no effect with --device native,numpy",
        ),
        ("verify --geometries tiny --geometry tiny", "--geometries choose engine and model"),
        ("run --record x", "--record has no effect with --device numpy"),
        (f"tokenizer show {zoo.TEXT} --vocab 300", "--vocab and --out go with train"),
    ):
        capsys.readouterr()
        assert main([*command.split(), "--json"]) == 2
        assert message in json.loads(capsys.readouterr().out)["error"]["message"]


def written(action: Action) -> list[str]:
    """An option as it is written, with a value that it takes."""
    if action.nargs == 0:
        return [action.option_strings[-1]]
    return [action.option_strings[-1], "icebreaker" if action.choices else "1"]


@pytest.mark.parametrize("command", ["run shakespeare", "chat shakespeare", "serve shakespeare"])
@pytest.mark.parametrize("device", ["numpy", "native", "auto", "torch", "gpu:cpu"])
def test_what_a_device_does_not_heed_is_refused_by_name(
    command: str, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every option of a verb with --device is here: of the host or of boards. A new one must be sorted in."""
    unused = arguments.unused_on([device], named=True)
    of_host = {
        "run": "budget device prompt prompt-file tokens temperature top-k greedy seed ignore-eos loops "
        "resume save check json help",
        "chat": "budget device you model-as tokens temperature top-k greedy seed ignore-eos loops resume "
        "save json help",
        "serve": "budget device host port token-file allow-host max-body max-prompt max-tokens max-queue "
        "max-sessions max-session-bytes max-connections max-seconds session-seconds head-seconds "
        "stall-seconds json help",
    }
    verb = command.split()[0]
    options = {action.option_strings[-1]: action for action in actions(verb) if action.option_strings}
    assert set(options) == {f"--{name}" for name in of_host[verb].split()} | (set(unused) & set(options))
    for option in set(unused) & set(options):
        error = failure(capsys, shlex.join([*command.split(), "--device", device, *written(options[option])]))
        assert error["message"] == f"{option} has no effect with --device {device}"
        assert unused[option] in error["hint"] and "--device sim" in error["hint"]


def test_what_a_device_heeds() -> None:
    assert arguments.unused_on(["sim"], named=True) == {}
    assert set(arguments.unused_on(["serial:x", "numpy"], named=True)) == {"--waves"}
    assert "--board" not in arguments.unused_on(["isa"], named=True)
    assert "--geometry" not in arguments.unused_on(["numpy"], named=False)  # it chooses the model


def completions(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of ``words``."""
    line = " ".join(map(shlex.quote, words))
    code = f"""
source {script}
compopt() {{ :; }}
COMP_WORDS=({line}) COMP_CWORD={len(words) - 1}
_shtab_ternac
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_bash_completes_verbs_benches_options_and_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "ternac.bash"
    script.write_text(capsys.readouterr().out)
    assert completions(script, "ternac", "ver") == ["verify"]
    assert set(completions(script, "ternac", "bench", "")) >= set(BENCHES)
    assert completions(script, "ternac", "run", "--pro") == ["--prompt", "--prompt-file"]
    assert completions(script, "ternac", "estimate", "--board", "upd") == ["upduino-v3"]
    assert completions(script, "ternac", "verify", "--geometry", "ulx3s-85f-d") == ["ulx3s-85f-dense"]
    assert completions(script, "ternac", "bench", "gpu", "--size", "2") == ["2.7b"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_name_every_verb(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["shell"] == shell
    assert all(re.search(rf"\b{name}\b", data["script"]) for name in (*VERBS, *BENCHES))
    if shutil.which(shell):
        (tmp_path / "script").write_text(data["script"])
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)
