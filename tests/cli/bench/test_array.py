"""``ternac bench array``: what is counted, what is refused, and a peer beside it, on small arrays."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from amaranth.back import rtlil

from ternac.cli import main as cli
from ternac.errors import BuildFailed, UsageError
from ternac.hdl.array.bare import BareArray
from ternac.hdl.build import trial as array_builds
from ternac.hdl.build.array_bench import bare, bare_design, peer
from ternac.hdl.build.devices import DEVICES, device

PEER = """
module addends(input clk, input signed [7:0] a, b, c, input [1:0] n, output reg signed [9:0] y);
  always @(posedge clk) y <= a + (n[0] ? b : 0) + (n[1] ? c : 0);
endmodule
"""


def quiet(_: str) -> None:
    pass


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TERNAC_CACHE", str(tmp_path / "cache"))


def small(name: str, columns: int = 2) -> BareArray:
    return bare_design(device(name), columns, 8, chain=1, fold=2, radix=2)


@pytest.mark.parametrize("name", DEVICES)
def test_nothing_is_optimised_away(name: str) -> None:
    """Each lane costs what a lane must cost, and every register of the array is there."""
    array = small(name)
    said: list[str] = []
    found = bare(array, device(name), said.append, placed=False)
    assert found["macs"] == 16 and found["dsp"] == 0 and found["fmax_mhz"] is None
    least = 4 if name == "xilinx" else 8  # one table for two lanes there
    assert least <= found["comb_per_mac"] < 30
    unit = 4 * 9 + 2 * 10 + 11 + array.units[0].acc_bits
    control = 3 * (array.units[0].latency - 1) + 1
    assert found["ff"] == 2 * unit + control + 8 * 8 + 2 * 16
    assert "synthesis" in found["origin"] and ("estimate" in found["origin"]) == (name != "ecp5")
    assert any("synth: running" in line for line in said)
    said.clear()
    assert bare(array, device(name), said.append, placed=False) == found
    assert said == []  # from the cache


def test_feeders_take_block_ram_only() -> None:
    fed, target = small("ecp5"), device("ecp5")
    bare_cells = bare(fed, target, quiet, placed=False)
    assert bare_cells["cells"]["PDPW16KD"] == fed.feed_blocks
    ported = BareArray(2, 8, 1, 64, fold=2, tech=target.tech)
    design = array_builds.Design("ported", "design.il", rtlil.convert(ported, name="top", emit_src=False))
    plain = array_builds.synthesize(design, target, ported.macs, quiet)
    assert (plain["comb"], plain["ff"]) == (bare_cells["comb"], bare_cells["ff"])


def test_peer_is_synthesized_alike(tmp_path: Path) -> None:
    target = device("ecp5")
    ours = {"bare": bare(small("ecp5"), target, quiet, placed=False)}
    file = tmp_path / "peer.v"
    file.write_text(PEER)
    found = peer(file, "addends", 2, target, ours, quiet)
    assert found["ff"] == 10 and found["macs"] == 2
    expected = found["comb_per_mac"] / ours["bare"]["comb_per_mac"]
    assert found["ratios"]["bare"]["comb_per_mac"] == pytest.approx(expected, abs=1e-3)
    assert target.synth in found["origin"]
    with pytest.raises(BuildFailed, match="step synth"):
        peer(file, "absent", 2, target, ours, quiet)
    with pytest.raises(UsageError, match="cannot be read"):
        peer(tmp_path / "absent.v", "addends", 2, target, ours, quiet)


def test_area_counts_whole_names() -> None:
    cells = Counter({"LUT4": 3, "CCU2C": 2, "TRELLIS_FF": 5, "MULT18X18D": 1, "MY_LUT4": 9})
    assert device("ecp5").area(cells) == {"comb": 7, "ff": 5, "dsp": 1}
    with pytest.raises(UsageError, match="no device is called 'nexus'"):
        device("nexus")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--lanes", "10"], "lanes must be a positive multiple of chain 4, not 10"),
        (["--columns", "0"], "columns must be at least 1, not 0"),
        (["--lanes", "12", "--fold", "2"], "fold must divide the 3 chains, not 2"),
        (["--peer", "x.v", "--top", "x"], "--peer, --top and --macs belong together"),
        (["--peer", "x.v", "--top", "x", "--macs", "0"], "--macs is 0, needs at least 1"),
        (["--family", "gowin", "--place"], "--place needs --family ecp5"),
    ],
)
def test_refused(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "array", *arguments, "--json"]) == 2
    out = capsys.readouterr().out
    assert text in json.loads(out)["error"]["message"]


def test_verb_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "array", "--family", "gowin", "--columns", "1", "--lanes", "8", "--json"]
    assert cli.main(words) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert data["device"] == "gowin" and data["bare"]["lanes"] == 8 and "wrapped" not in data


@pytest.mark.slow
def test_placed() -> None:
    target = device("ecp5")
    found = bare(bare_design(target, 1, 24, chain=4, fold=2, radix=3), target, quiet, placed=True)
    assert found["comb_per_mac"] <= 15 and found["fmax_mhz"] > 80
    assert found["comb"] <= found["synthesis"]["comb"] + 4  # constants; no slice to feed a carry
    assert found["ff"] == found["synthesis"]["ff"]
    assert found["origin"].startswith("place and route")
