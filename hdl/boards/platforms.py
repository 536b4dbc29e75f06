"""Platforms of boards that amaranth-boards does not carry, or carries without a serial line."""

from __future__ import annotations

from amaranth.build import Attrs, Clock, Pins, Resource
from amaranth.vendor import GowinPlatform, LatticeECP5Platform
from amaranth_boards.ice40_up5k_b_evn import ICE40UP5KBEVNPlatform
from amaranth_boards.icebreaker_bitsy import ICEBreakerBitsyPlatform
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_25FPlatform, OrangeCrabR0_2_85FPlatform
from amaranth_boards.resources import LEDResources, SPIFlashResources, UARTResource
from amaranth_boards.upduino_v3 import UpduinoV3Platform

__all__ = [
    "ColorlightI5", "ColorlightI9", "ICE40UP5KBreakout", "ICEBreakerBitsy", "OrangeCrab25F", "OrangeCrab85F",
    "TangNano20K", "UPduino",
]  # fmt: skip

_LVCMOS33 = Attrs(IO_TYPE="LVCMOS33")


class ColorlightI5(LatticeECP5Platform):
    """The module with its extension board, whose programmer also carries the serial line."""

    device, package, speed, default_clk = "LFE5U-25F", "BG381", "6", "clk25"
    resources = (
        Resource("clk25", 0, Pins("P3", dir="i"), Clock(25e6), _LVCMOS33),
        UARTResource(0, rx="H18", tx="J17", attrs=_LVCMOS33),
        *LEDResources(pins="U16", invert=True, attrs=_LVCMOS33),
    )
    connectors = ()


class ColorlightI9(LatticeECP5Platform):
    """Likewise, with the LFE5U-45F."""

    device, package, speed, default_clk = "LFE5U-45F", "BG381", "6", "clk25"
    resources = (
        Resource("clk25", 0, Pins("P3", dir="i"), Clock(25e6), _LVCMOS33),
        UARTResource(0, rx="H18", tx="J17", attrs=_LVCMOS33),
        *LEDResources(pins="L2", invert=True, attrs=_LVCMOS33),
    )
    connectors = ()


_FEATHER_SERIAL = UARTResource(0, rx="N17", tx="M18", attrs=Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"))
"""Pins 0 and 1 of the header."""


class OrangeCrab25F(OrangeCrabR0_2_25FPlatform):
    """With a serial line on the header."""

    resources = (*OrangeCrabR0_2_25FPlatform.resources, _FEATHER_SERIAL)


class OrangeCrab85F(OrangeCrabR0_2_85FPlatform):
    """With a serial line on the header."""

    resources = (*OrangeCrabR0_2_85FPlatform.resources, _FEATHER_SERIAL)


class ICEBreakerBitsy(ICEBreakerBitsyPlatform):
    """With a serial line on pins P0 and P1 of the edge."""

    resources = (
        *ICEBreakerBitsyPlatform.resources,
        UARTResource(0, rx="44", tx="47", attrs=Attrs(IO_STANDARD="SB_LVCMOS", PULLUP=1)),
    )


class ICE40UP5KBreakout(ICE40UP5KBEVNPlatform):
    """With a serial line on the PMOD."""

    resources = (
        *ICE40UP5KBEVNPlatform.resources,
        UARTResource(0, rx="27", tx="26", attrs=Attrs(IO_STANDARD="SB_LVCMOS", PULLUP=1)),
    )


class UPduino(UpduinoV3Platform):
    """With the serial line of its FT232H, which has two pins of the flash, and the flash's select alone."""

    default_clk = "clk12"
    resources = (
        Resource("clk12", 0, Pins("20", dir="i"), Clock(12e6), Attrs(GLOBAL=True, IO_STANDARD="SB_LVCMOS")),
        UARTResource(0, rx="15", tx="14", attrs=Attrs(IO_STANDARD="SB_LVCMOS", PULLUP=1)),
        Resource("flash_off", 0, Pins("16", dir="o"), Attrs(IO_STANDARD="SB_LVCMOS")),
        *LEDResources(pins="39 40 41", invert=True, attrs=Attrs(IO_STANDARD="SB_LVCMOS")),
    )


class TangNano20K(GowinPlatform):
    """Clock, serial line to the BL616 and lamps."""

    part, family, default_clk = "GW2AR-LV18QN88C8/I7", "GW2AR-18C", "clk27"
    resources = (
        Resource("clk27", 0, Pins("4", dir="i"), Clock(27e6), _LVCMOS33),
        UARTResource(0, rx="70", tx="69", attrs=Attrs(PULL_MODE="UP", IO_TYPE="LVCMOS33")),
        *LEDResources(pins="15 16 17 18 19 20", invert=True, attrs=_LVCMOS33),
        *SPIFlashResources(0, cs_n="60", clk="59", copi="61", cipo="62", attrs=_LVCMOS33),
    )
    connectors = ()
