"""What other tools need of the AXI block besides its Verilog: register map, FuseSoC core, Vivado script."""

from __future__ import annotations

import json

from ternac.hdl.axi.export import c_header, svd, to_json
from ternac.hdl.axi.registers import MAP_VERSION, MAP_WORDS
from ternac.hdl.axi.top import AxiTop

__all__ = ["NAME", "axi_files", "fusesoc_core", "vivado_script"]

NAME = "ternac_axi"
VERSION = f"{MAP_VERSION}.0"


def fusesoc_core(name: str, version: str, files: list[str], headers: list[str], waivers: str) -> str:
    """A CAPI2 core file for a top module ``name`` in Verilog ``files``, with C ``headers`` for software.

    YAML 1.2 contains JSON, so the content is written as JSON and needs no YAML writer.
    """
    content = {
        "name": f"::{name}:{version}",
        "description": "Ternary language model engine: AXI4-Lite registers, AXI4-Stream frames",
        "filesets": {
            "rtl": {"files": files, "file_type": "verilogSource-2005"},
            "waivers": {"files": [waivers], "file_type": "vlt"},
            "software": {
                "files": [{each: {"is_include_file": True}} for each in headers],
                "file_type": "user",
            },
        },
        "targets": {
            "default": {"filesets": ["rtl"], "toplevel": name},
            "lint": {
                "default_tool": "verilator",
                "filesets": ["waivers", "rtl"],
                "toplevel": name,
                "tools": {"verilator": {"mode": "lint-only", "verilator_options": ["-Wall"]}},
            },
        },
    }
    return "CAPI=2:\n" + json.dumps(content, indent=2) + "\n"


def vivado_script(name: str, version: str, files: list[str], *, stream: bool) -> str:
    """Tcl that packages the top module ``name`` as IP-XACT in the folder ``ip`` next to it.

    Run it as ``vivado -mode batch -source package_ip.tcl``.
    """
    buses = ["s_axi", "s_axis", "m_axis", *(["m_axi"] if stream else [])]
    sources = " ".join(f"[file join $here {file}]" for file in files)
    lines = [
        f"# Packages {name} as IP: vivado -mode batch -source package_ip.tcl",
        "set here [file dirname [file normalize [info script]]]",
        f"create_project -in_memory {name}",
        f"add_files -norecurse [list {sources}]",
        f"set_property top {name} [current_fileset]",
        "update_compile_order -fileset sources_1",
        f"ipx::package_project -root_dir [file join $here ip] -vendor ternac -library user -name {name} "
        "-taxonomy /UserIP -import_files -set_current true",
        "set core [ipx::current_core]",
        f"set_property version {version} $core",
        f"set_property display_name {{Ternac engine {name}}} $core",
        "ipx::infer_bus_interface clk xilinx.com:signal:clock_rtl:1.0 $core",
        "ipx::infer_bus_interface rst xilinx.com:signal:reset_rtl:1.0 $core",
        "set reset [ipx::get_bus_interfaces rst -of_objects $core]",
        "set polarity [ipx::add_bus_parameter POLARITY $reset]",
        "set_property value ACTIVE_HIGH $polarity",
        "ipx::infer_bus_interface irq xilinx.com:signal:interrupt_rtl:1.0 $core",
    ]
    kinds = {"s_axi": "aximm", "m_axi": "aximm", "s_axis": "axis", "m_axis": "axis"}
    for bus in buses:
        lines += [
            f"if {{[llength [ipx::get_bus_interfaces {bus} -of_objects $core]] == 0}} {{",
            f"  ipx::infer_bus_interfaces xilinx.com:interface:{kinds[bus]}_rtl:1.0 $core",
            "}",
            f"ipx::associate_bus_interfaces -busif {bus} -clock clk $core",
        ]
    lines += [
        "set map [ipx::get_memory_maps s_axi -of_objects $core]",
        "set block [lindex [ipx::get_address_blocks -of_objects $map] 0]",
        f"set_property range {max(4096, 4 * MAP_WORDS)} $block",
        "ipx::create_xgui_files $core",
        "ipx::update_checksums $core",
        "ipx::save_core $core",
        "close_project",
    ]
    return "\n".join(lines) + "\n"


def axi_files(top: AxiTop, source: str, waivers: str) -> dict[str, tuple[str, str]]:
    """Return the files that other tools need besides the Verilog ``source``.

    By name, what each is and its text; ``waivers`` is the name of Verilator's control file.
    """
    parts = {"stream": top.stream is not None, "rows": top.rows is not None}
    header = "ternac_regs.h"
    return {
        "registers.json": ("register map", to_json(**parts)),
        "registers.svd": ("register map, CMSIS-SVD", svd(**parts)),
        header: ("register map, C header", c_header(**parts)),
        f"{NAME}.core": ("FuseSoC core", fusesoc_core(NAME, VERSION, [source], [header], waivers)),
        "package_ip.tcl": (
            "Vivado: packages the IP",
            vivado_script(NAME, VERSION, [source], stream=parts["stream"]),
        ),
    }
