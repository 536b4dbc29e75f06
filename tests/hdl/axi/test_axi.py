"""The AXI block's papers: one register table, what is written for other tools, what is refused."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from amaranth.back import rtlil

from ternac.cli import main as cli
from ternac.hdl.axi.export import c_header, svd, to_json
from ternac.hdl.axi.lite import AxiLiteSlave
from ternac.hdl.axi.package import axi_files
from ternac.hdl.axi.registers import MAP_WORDS, REGISTERS, chosen, engine_map, register
from ternac.hdl.axi.rows import RowShape
from ternac.hdl.axi.top import AxiTop
from ternac.hdl.emit.tops import ports_of
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.top import LinkedEngine
from ternac.hdl.stream.matvec import StreamMatVec
from ternac.sim.stub_core import StubCore


def _engine() -> LinkedEngine:
    return LinkedEngine(StubCore(), LinkController(0, bytes(16), bytes(8)))


def test_table_is_in_order() -> None:
    """Offsets upwards, whole words, inside the map; fields apart and inside the word; names once."""
    offsets = [each.offset for each in REGISTERS]
    assert offsets == sorted(set(offsets))
    assert all(at % 4 == 0 and at < 4 * MAP_WORDS for at in offsets)
    assert len({each.name for each in REGISTERS}) == len(REGISTERS)
    for each in REGISTERS:
        used = 0
        for part in each.fields:
            mask = ((1 << part.bits) - 1) << part.low
            assert not used & mask and not mask >> 32, each.name
            used |= mask
    with pytest.raises(KeyError):
        register("NOSUCH")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("rows", [False, True])
def test_json_svd_and_header_say_the_same(stream: bool, rows: bool) -> None:
    table = engine_map(stream=stream, rows=rows)
    wanted = {
        each.name: (each.offset, {part.name: (part.low, part.bits) for part in each.fields})
        for each in table.registers
    }
    found = {
        each["name"]: (
            each["offset"],
            {part["name"]: (part["low"], part["bits"]) for part in each["fields"]},
        )
        for each in json.loads(to_json(table))["registers"]
    }
    assert found == wanted
    shown: dict[str | None, tuple[int, dict[str | None, tuple[int, int]]]] = {}
    for each in ElementTree.fromstring(svd(table)).iter("register"):
        fields = {
            part.findtext("name"): (int(part.findtext("bitOffset", "")), int(part.findtext("bitWidth", "")))
            for part in each.iter("field")
        }
        shown[each.findtext("name")] = (int(each.findtext("addressOffset", ""), 16), fields)
    assert shown == wanted
    macros = dict(re.findall(r"^#define TERNAC_(\w+) (0x[0-9a-f]+|\d+)", c_header(table), re.M))
    for name, (offset, places) in wanted.items():
        assert int(macros[name], 16) == offset
        for part, (low, bits) in places.items():
            assert int(macros[f"{name}_{part}_SHIFT"]) == low
            assert int(macros[f"{name}_{part}_MASK"], 16) == ((1 << bits) - 1) << low


def test_a_block_without_rows_is_what_it_was() -> None:
    """Byte for byte: its files, and its design around a stand-in of the engine."""
    frozen = {
        False: ("255b5f94bc7b5ca0", "bd8ec7b0018e121e"),
        True: ("cf0720c025590ea6", "773d4375af3c8d1f"),
    }
    for stream, wanted in frozen.items():
        top = AxiTop(_engine(), StreamMatVec(port_bits=32) if stream else None)
        files = repr(sorted(axi_files(top, "a.v", "w.vlt").items()))
        text = rtlil.convert(top, name="t", ports=ports_of(top), emit_src=False)
        assert tuple(hashlib.sha256(each.encode()).hexdigest()[:16] for each in (files, text)) == wanted


def test_rows_add_registers_and_change_none() -> None:
    """Below those of rows, the maps differ in two fields that were reserved."""
    with_rows = {each.name: each for each in chosen(stream=True, rows=True)}
    for each in chosen(stream=True, rows=False):
        more = with_rows.pop(each.name)
        assert (more.offset, more.access, more.text) == (each.offset, each.access, each.text)
        assert set(more.fields) >= set(each.fields)
    assert all(name.startswith("ROW_") for name in with_rows)


@pytest.mark.slow
def test_the_folder_holds_what_tools_accept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "axi"
    assert cli.main(["emit", "--top", "axi", "--port-bits", "64", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["files"]) == {path.name for path in out.iterdir()}
    assert found["lint"]["clean"] and not found["lint"]["beyond"]
    core = (out / "ternac_axi.core").read_text()
    head, _, body = core.partition("\n")
    assert head == "CAPI=2:"
    sets = json.loads(body)["filesets"]
    assert all((out / name).is_file() for name in [*sets["rtl"]["files"], *sets["waivers"]["files"]])
    for name in re.findall(r"file join \$here (\S+?)\]", (out / "package_ip.tcl").read_text()):
        assert name == "ip" or (out / name).is_file()
    ports = (out / "ternac_axi.v").read_text().partition("module ternac_axi(")[2].partition(")")[0]
    for port in ("s_axi_awaddr", "s_axis_tdata", "m_axis_tlast", "m_axi_araddr", "irq", "clk", "rst"):
        assert re.search(rf"\b{port}\b", ports), port
    if shutil.which("gcc"):
        command = ["gcc", "-fsyntax-only", "-Werror", "-x", "c", str(out / "ternac_regs.h")]
        subprocess.run(command, check=True)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="fifo must be at least 2"):
        AxiTop(_engine(), fifo=1)
    with pytest.raises(ValueError, match="rows need an engine whose memories are shared"):
        AxiTop(_engine(), rows=RowShape(4, 64))
    with pytest.raises(ValueError, match="have no register"):
        AxiTop(_engine(), StreamMatVec(port_bits=32, x_depth=1 << 17))
    with pytest.raises(ValueError, match="address_bits must be 3 to 32"):
        AxiLiteSlave(2)
    assert cli.main(["emit", "--top", "axi", "--clock", "0"]) == 2
