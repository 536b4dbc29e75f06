"""Ternac: bit-exact ternary accumulate, from training to FPGA.

The front door::

    import ternac

    with ternac.Device.open("sim", ternac.load("shakespeare")) as device, device.session(seed=1) as session:
        print("".join(session.generate("ROMEO:", 100, temperature=0.8)))

A name is imported when it is first used, so that ``import ternac`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ternac.compile.geometry import Geometry as Geometry
    from ternac.host.device import Device as Device
    from ternac.host.session import Session as Session
    from ternac.program.program import Program as Program
    from ternac.program.zoo import open_program as load
    from ternac.run.sampling import Sampling as Sampling

    __version__: str

__all__ = ["Device", "Geometry", "Program", "Sampling", "Session", "__version__", "load"]

_HOMES = {
    "Device": ("ternac.host.device", "Device"),
    "Geometry": ("ternac.compile.geometry", "Geometry"),
    "Program": ("ternac.program.program", "Program"),
    "Sampling": ("ternac.run.sampling", "Sampling"),
    "Session": ("ternac.host.session", "Session"),
    "load": ("ternac.program.zoo", "open_program"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        found: Any = _version()
    elif name in _HOMES:
        module, attribute = _HOMES[name]
        found = getattr(importlib.import_module(module), attribute)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ternac")
    except PackageNotFoundError:
        return "0+checkout"
