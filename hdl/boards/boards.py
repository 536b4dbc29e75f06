"""The table of boards: an entry is all that a board needs to be named, built, flashed and listed."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ternac.compile.geometry import PRESETS
from ternac.compile.sdram import NOMINAL_HZ
from ternac.errors import UsageError
from ternac.hdl.boards.board import Board, Chip, Led
from ternac.hdl.boards.file import is_file_name, load_board
from ternac.hdl.cells.tech import Technology

__all__ = ["BOARDS", "CHIPS", "VARIANTS", "board", "find_board", "with_geometry"]

MIB = 1 << 20


def _ecp5(size: int, comb: int, bram: int, *, option: str | None = None, prefix: str = "LFE5U") -> Chip:
    name = f"{prefix}-{size}F".lower()
    return Chip(
        name=name,
        title=f"Lattice ECP5 {prefix}-{size}F",
        family="ecp5",
        tech=Technology.ECP5,
        nextpnr=(option or f"--{size}k",),
        resources={"comb": comb, "ff": comb, "bram": bram},
        floor_plans=size == 85,
    )


CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        # One die is sold under two names. The open tools use all of it; Lattice warrants 12,000 tables and 32
        # block RAMs of the 12F.
        _ecp5(12, 24_288, 56),
        _ecp5(25, 24_288, 56),
        _ecp5(45, 43_848, 108),
        _ecp5(85, 83_640, 208),
        _ecp5(45, 43_848, 108, option="--um5g-45k", prefix="LFE5UM5G"),
        _ecp5(85, 83_640, 208, option="--um5g-85k", prefix="LFE5UM5G"),
        Chip(
            name="ice40up5k",
            title="Lattice iCE40UP5K",
            family="ice40",
            tech=Technology.ICE40,
            nextpnr=("--up5k",),
            resources={"comb": 5_280, "ff": 5_280, "bram": 30, "spram": 4},
        ),
        Chip(
            name="gw1nr-9c",
            title="Gowin GW1NR-9",
            family="gowin",
            tech=Technology.GOWIN,
            nextpnr=("GW1NR-LV9", "GW1N-9C"),
            resources={"comb": 8_640, "ff": 6_480, "bram": 26},
            synth=("-family gw1n",),
            pll_hz=(400_000_000, 1_200_000_000),
        ),
        Chip(
            name="gw2ar-18c",
            title="Gowin GW2AR-18",
            family="gowin",
            tech=Technology.GOWIN,
            nextpnr=("GW2AR-LV18", "GW2A-18C"),
            resources={"comb": 20_736, "ff": 15_552, "bram": 46},
            synth=("-family gw2a",),
            pll_hz=(500_000_000, 1_250_000_000),
        ),
    )
}


def _amaranth(module: str, name: str) -> Callable[[], Any]:
    """Make a platform of amaranth-boards, which is imported when it is made."""
    return lambda: getattr(importlib.import_module(f"amaranth_boards.{module}"), name)()


def _own(name: str) -> Callable[[], Any]:
    """Make a platform of `ternac.hdl.boards.platforms`, likewise."""
    return lambda: getattr(importlib.import_module("ternac.hdl.boards.platforms"), name)()


_NEVER = "routed by nextpnr, engine simulated cycle by cycle; never run on the board"

_ULX3S = Board(
    name="ulx3s-85f",
    title="Radiona ULX3S, Lattice ECP5-85F speed grade 6",
    chip=CHIPS["lfe5u-85f"],
    package="CABGA381",
    speed="6",
    engine=PRESETS["ulx3s-85f"],
    make_platform=_amaranth("ulx3s", "ULX3S_85F_Platform"),
    clock_pin="clk25",
    crystal_hz=25_000_000,
    clock_hz=75_000_000,
    target_hz=84_000_000,
    baud=3_000_000,
    serial="FTDI FT231X on USB port 1",
    leds=(Led("led", 0), Led("led", 1), Led("led", 2)),
    loader=("--board", "ulx3s"),
    verified=_NEVER,
    route=("--router", "router2", "--tmg-ripup"),
    held_high={"tx_enable": "uart_tx_enable"},
)

_TANG_NANO_9K = Board(
    name="tang-nano-9k",
    title="Sipeed Tang Nano 9K, Gowin GW1NR-9 C6/I5",
    chip=CHIPS["gw1nr-9c"],
    package="QN88P",
    speed="C6/I5",
    engine=PRESETS["gw1nr-9"],
    make_platform=_amaranth("tang_nano_9k", "TangNano9kPlatform"),
    clock_pin="clk27",
    crystal_hz=27_000_000,
    clock_hz=27_000_000,
    target_hz=30_000_000,
    baud=1_000_000,
    serial="Bouffalo BL702 on the USB port",
    leds=(Led("led", 0), Led("led", 1), Led("led", 2)),
    loader=("--board", "tangnano9k"),
    verified=_NEVER,
    window=1,
)

_ICEBREAKER = Board(
    name="icebreaker",
    title="1BitSquared iCEBreaker, Lattice iCE40UP5K",
    chip=CHIPS["ice40up5k"],
    package="sg48",
    speed="",
    engine=PRESETS["icebreaker"],
    make_platform=_amaranth("icebreaker", "ICEBreakerPlatform"),
    clock_pin="clk12",
    crystal_hz=12_000_000,
    clock_hz=30_000_000,
    target_hz=34_000_000,
    baud=1_000_000,
    serial="FTDI FT2232H, second channel",
    leds=(Led("led", 0), Led("led", 1)),
    loader=("--board", "ice40_generic"),
    verified=_NEVER,
    flash_offset=MIB,
    window=1,
)

_SMALL_ULX3S = replace(
    _ULX3S,
    name="ulx3s-25f",
    title="Radiona ULX3S, Lattice ECP5-25F speed grade 6",
    chip=CHIPS["lfe5u-25f"],
    engine=PRESETS["ecp5-25f"],
    make_platform=_amaranth("ulx3s", "ULX3S_25F_Platform"),
    clock_hz=60_000_000,
    target_hz=75_000_000,
    route=("--router", "router2"),
)

_COLORLIGHT = replace(
    _SMALL_ULX3S,
    name="colorlight-i5",
    title="Colorlight i5 7.0 on its extension board, Lattice ECP5-25F speed grade 6",
    make_platform=_own("ColorlightI5"),
    baud=115_200,
    serial="DAPLink of the extension board",
    leds=(Led("led", 0),),
    loader=("--board", "colorlight-i5"),
    held_high={},
)

_ORANGECRAB = replace(
    _SMALL_ULX3S,
    name="orangecrab-25f",
    title="OrangeCrab r0.2, Lattice ECP5-25F speed grade 8",
    package="CSFBGA285",
    speed="8",
    make_platform=_own("OrangeCrab25F"),
    clock_pin="clk",
    crystal_hz=48_000_000,
    baud=1_000_000,
    serial="header pins 0 (to the board) and 1 (from it)",
    leds=(Led("rgb_led", 0, "g"), Led("rgb_led", 0, "b"), Led("rgb_led", 0, "r")),
    loader=("--board", "orangeCrab"),
    held_high={},
    notes="there is no USB bridge on the board: connect a 3.3 V serial adapter to the header",
)

_ECPIX5 = replace(
    _SMALL_ULX3S,
    name="ecpix5-45f",
    title="LambdaConcept ECPIX-5, Lattice ECP5-5G-45F speed grade 8",
    chip=CHIPS["lfe5um5g-45f"],
    package="CABGA554",
    speed="8",
    engine=PRESETS["ecp5-45f"],
    make_platform=_amaranth("ecpix5", "ECPIX545Platform"),
    clock_pin="clk100",
    crystal_hz=100_000_000,
    serial="FTDI FT2232H, second channel",
    leds=(Led("rgb_led", 0, "g"), Led("rgb_led", 1, "b"), Led("rgb_led", 2, "r")),
    loader=("--board", "ecpix5"),
    held_high={},
)

BOARDS: dict[str, Board] = {
    board.name: board
    for board in (
        _ULX3S,
        replace(
            _SMALL_ULX3S,
            name="ulx3s-45f",
            title="Radiona ULX3S, Lattice ECP5-45F speed grade 6",
            chip=CHIPS["lfe5u-45f"],
            engine=PRESETS["ecp5-45f"],
            make_platform=_amaranth("ulx3s", "ULX3S_45F_Platform"),
        ),
        _SMALL_ULX3S,
        replace(
            _SMALL_ULX3S,
            name="ulx3s-12f",
            title="Radiona ULX3S, Lattice ECP5-12F speed grade 6",
            chip=CHIPS["lfe5u-12f"],
            make_platform=_amaranth("ulx3s", "ULX3S_12F_Platform"),
            notes="the engine takes more of the die than the 12,000 tables and 32 block RAMs that Lattice "
            "warrants for a 12F",
        ),
        _COLORLIGHT,
        replace(
            _COLORLIGHT,
            name="colorlight-i9",
            title="Colorlight i9 7.2 on its extension board, Lattice ECP5-45F speed grade 6",
            chip=CHIPS["lfe5u-45f"],
            engine=PRESETS["ecp5-45f"],
            make_platform=_own("ColorlightI9"),
            loader=("--board", "colorlight-i9"),
        ),
        replace(
            _SMALL_ULX3S,
            name="icepi-zero",
            title="Icepi Zero 1.3, Lattice ECP5-25F speed grade 6",
            package="CABGA256",
            make_platform=_amaranth("icepi_zero", "IcepiZero1_3Platform"),
            clock_pin="clk50",
            crystal_hz=50_000_000,
            serial="FTDI FT231X",
            loader=("--board", "icepi-zero"),
            held_high={},
        ),
        replace(
            _SMALL_ULX3S,
            name="icesugar-pro",
            title="MuseLab iCESugar-Pro, Lattice ECP5-25F speed grade 6",
            package="CABGA256",
            make_platform=_amaranth("icesugar_pro", "ICESugarProPlatform"),
            clock_pin="clk25",
            baud=115_200,
            serial="iCELink of the extension board",
            leds=(Led("rgb_led", 0, "g"), Led("rgb_led", 0, "b"), Led("rgb_led", 0, "r")),
            loader=("--cable", "cmsisdap"),
            held_high={},
        ),
        _ORANGECRAB,
        replace(
            _ORANGECRAB,
            name="orangecrab-85f",
            title="OrangeCrab r0.2, Lattice ECP5-85F speed grade 8",
            chip=CHIPS["lfe5u-85f"],
            engine=PRESETS["ulx3s-85f"],
            make_platform=_own("OrangeCrab85F"),
            route=_ULX3S.route,
        ),
        _ECPIX5,
        replace(
            _ECPIX5,
            name="ecpix5-85f",
            title="LambdaConcept ECPIX-5, Lattice ECP5-5G-85F speed grade 8",
            chip=CHIPS["lfe5um5g-85f"],
            engine=PRESETS["ulx3s-85f"],
            make_platform=_amaranth("ecpix5", "ECPIX585Platform"),
            clock_hz=75_000_000,
            target_hz=84_000_000,
            route=_ULX3S.route,
        ),
        _ICEBREAKER,
        replace(
            _ICEBREAKER,
            name="icesugar",
            title="MuseLab iCESugar, Lattice iCE40UP5K",
            make_platform=_amaranth("icesugar", "ICESugarPlatform"),
            seed=2,  # with seed 1 nextpnr finds no legal place for all cells
            baud=115_200,
            serial="iCELink",
            leds=(Led("led", 0), Led("led", 1), Led("led", 2)),
            loader=(),
            notes="openFPGALoader does not know iCELink: ternac build --out FILE.bin, icesprog FILE.bin, or "
            "copy it to the drive that the board shows",
        ),
        replace(
            _ICEBREAKER,
            name="icebreaker-bitsy",
            title="1BitSquared iCEBreaker bitsy, Lattice iCE40UP5K",
            make_platform=_own("ICEBreakerBitsy"),
            serial="edge pins P1 (to the board) and P0 (from it)",
            loader=("--board", "icebreaker-bitsy"),
            flash_offset=None,
            notes="there is no USB bridge on the board: connect a 3.3 V serial adapter to the edge",
        ),
        replace(
            _ICEBREAKER,
            name="ice40up5k-evn",
            title="Lattice iCE40 UltraPlus breakout board, iCE40UP5K",
            make_platform=_own("ICE40UP5KBreakout"),
            serial="PMOD pins 7 (to the board) and 8 (from it)",
            leds=(Led("led", 0), Led("led", 1), Led("led", 2)),
            flash_offset=None,
            notes="connect a 3.3 V serial adapter to the PMOD; jumper J51, as delivered, brings 12 MHz",
        ),
        replace(
            _ICEBREAKER,
            name="upduino-v3",
            title="tinyVision.ai UPduino 3, Lattice iCE40UP5K",
            make_platform=_own("UPduino"),
            clock_through_fabric=True,
            serial="FTDI FT232H",
            leds=(Led("led", 0), Led("led", 1), Led("led", 2)),
            loader=("--board", "ice40_generic", "--cable", "ft232"),
            held_high={"flash_off": "flash_off"},
            flash_offset=None,
            notes="close the jumper OSC, which brings 12 MHz to pin 20; the serial line has the pins of the "
            "flash, so a model is loaded over the line and not kept in the flash",
        ),
        _TANG_NANO_9K,
        replace(
            _TANG_NANO_9K,
            name="tang-nano-20k",
            title="Sipeed Tang Nano 20K, Gowin GW2AR-18 C8/I7",
            chip=CHIPS["gw2ar-18c"],
            package="QN88",
            speed="C8/I7",
            engine=PRESETS["gw2ar-18"],
            make_platform=_own("TangNano20K"),
            clock_hz=54_000_000,
            target_hz=60_000_000,
            serial="Bouffalo BL616 on the USB port",
            loader=("--board", "tangnano20k"),
        ),
    )
}


VARIANTS: dict[str, Board] = {
    variant.geometry: variant
    for variant in (
        replace(_ULX3S, engine=PRESETS["ulx3s-85f-rows"], target_hz=80_000_000),
        replace(_ULX3S, engine=PRESETS["ulx3s-85f-rows-sdram"], clock_hz=NOMINAL_HZ, target_hz=75_000_000),
        replace(
            _ULX3S,
            engine=PRESETS["ulx3s-85f-sdram"],
            clock_hz=NOMINAL_HZ,
            target_hz=70_000_000,
            route=("--router", "router2"),
            seed=5,  # of seeds 1 to 6, before link 4: 68.5, 70.8, 72.9, 70.5, 76.1 and 64.3 MHz
        ),  # fmt: skip
    )
}
"""Other engines that boards have bitstreams for, by geometry."""


def with_geometry(target: Board, geometry: str | None) -> Board:
    """``target`` with another of its engines; None: the one it has. UsageError when there is none for it."""
    if geometry in (None, target.geometry):
        return target
    variant = VARIANTS.get(str(geometry))
    if variant is None or variant.name != target.name:
        known = [target.geometry, *(v.geometry for v in VARIANTS.values() if v.name == target.name)]
        raise UsageError(f"{target.name} has no engine {geometry!r}", f"choose one of: {', '.join(known)}")
    return variant


def board(given: str) -> Board:
    """Return the board of that name, or the one that a Python file declares.

    Raises UsageError if there is none; it names those that are there, the nearest first.
    """
    if given in BOARDS:
        return BOARDS[given]
    if is_file_name(given):
        return load_board(given, BOARDS)
    near = difflib.get_close_matches(given, BOARDS, 3, 0.5)
    names = [*near, *(name for name in BOARDS if name not in near)]
    raise UsageError(
        f"no board is called {given!r}",
        f"choose one of: {', '.join(names)}; or name a file: docs/add_your_board.md",
    )


def find_board(given: str) -> Board | None:
    """Return the board of that name, of that file, or the one with another engine of that name; else None."""
    if given in VARIANTS:
        return VARIANTS[given]
    return board(given) if given in BOARDS or is_file_name(given) else None
