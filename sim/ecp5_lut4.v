// The lookup table of ECP5 in one step, which Verilator makes half as much C++ of as of yosys' model.
module LUT4(input A, B, C, D, output Z);
    parameter [15:0] INIT = 16'h0000;
    wire [15:0] cases = INIT;
    assign Z = cases[{D, C, B, A}];
endmodule
