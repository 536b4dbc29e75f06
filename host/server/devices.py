"""The devices of a server: how to open each, its speed and its energy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ternac.compile.fitting import Model
from ternac.compile.geometry import Geometry
from ternac.errors import UsageError
from ternac.host.backend import Backend
from ternac.host.device import Device
from ternac.host.executors import parse_executor
from ternac.host.server.worker import Source
from ternac.manifest import DEFAULT_BOARD
from ternac.program.program import Program

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Energy:
    """Joules per token (None: unknown), and where the number comes from."""

    joules_per_token: float | None = None
    origin: str = NOT_MEASURED


class Devices:
    """Devices by the ``names`` that `Device.open` takes, all with the program of ``model``.

    ``fallback`` adds native, or NumPy, as the last one unless one of these is named. Raises UsageError if no
    device is named, or a recording.
    """

    def __init__(
        self,
        model: Program | Model,
        names: Sequence[str],
        board: str = DEFAULT_BOARD,
        *,
        geometry: Geometry | None = None,
        fallback: bool = True,
    ) -> None:
        self._model = model
        self.program = model.program if isinstance(model, Model) else model
        self.board, self.geometry = board, geometry
        self._opened: dict[str, Device] = {}
        self._energy: dict[str, Energy] = {}
        seen: Counter[str] = Counter()
        kinds: set[str] = set()
        self.sources: list[Source] = []
        for name in names:
            kind = parse_executor(name).kind
            if kind == "replay":
                raise UsageError(f"{name}: a recording answers only what was recorded", "serve a device")
            kinds.add(kind)
            seen[name] += 1
            self._add(name, name if seen[name] == 1 else f"{name}#{seen[name]}")
        if not names:
            raise UsageError("no device is named", "give --device, for example --device native")
        if fallback and not kinds & {"numpy", "native", "auto"}:
            self._add("auto", "fallback", fallback=True)

    def _add(self, name: str, label: str, *, fallback: bool = False) -> None:
        def open_it() -> Backend:
            device = Device.open(name, self._model, board=self.board, geometry=self.geometry)
            self._opened[label] = device
            self._energy.setdefault(label, _energy(device))
            return device.backend

        self.sources.append(Source(label, open_it, fallback))

    def executor(self, label: str) -> str:
        """Return the kind of executor under a label; "" before it is opened."""
        device = self._opened.get(label)
        return device.kind if device else ""

    def energy(self, label: str) -> Energy:
        """Return the energy of a token on a device."""
        return self._energy.get(label, Energy())

    def about(self, label: str) -> dict[str, Any]:
        """Return executor, board, speed with its origin, and energy, for reports."""
        device = self._opened.get(label)
        energy = self.energy(label)
        return {
            "executor": self.executor(label),
            "board": device.board_name if device else "",
            "speed": str(device.speed()) if device else "",
            "joules_per_token": energy.joules_per_token,
            "joules_origin": energy.origin,
        }


def _energy(device: Device) -> Energy:
    """Return the estimate of `ternac estimate` for the board that a device is, or simulates."""
    if device.identity is None:
        return Energy()
    image = device.board.image
    from ternac.hdl.boards.boards import find_board
    from ternac.hdl.engine.schedule import schedule
    from ternac.hdl.planner.estimate import energy, routed_clock

    target = find_board(device.board_name)
    if target is None:
        return Energy(None, f"not estimated: {device.board_name} is an engine's geometry, not a board")
    speed = routed_clock(target)[0] * 1e6 / schedule(image).cycles
    found = energy(target, speed, exact=not image.geometry.streams)
    return Energy(found["joules_per_token"], found["origin"])
