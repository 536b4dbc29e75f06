// Choices and shifts as chains of two-way choices, which every tool reads alike (a parallel case promises that
// two conditions are never true together, and simulators do not hold it to that). Used by yosys' techmap.

(* techmap_celltype = "$shr $shift $shiftx" *)
module shift_right (A, B, Y);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  input [A_WIDTH-1:0] A;
  input [B_WIDTH-1:0] B;
  output [Y_WIDTH-1:0] Y;
  wire _TECHMAP_FAIL_ = A_SIGNED || B_SIGNED || B_WIDTH > 16;
  localparam W = A_WIDTH > Y_WIDTH ? A_WIDTH : Y_WIDTH;
  wire [W-1:0] whole = A;
  genvar k;
  generate
    // Step k is A shifted by the bits of B from k upwards. Wires of their own: no simulator sees a loop.
    for (k = B_WIDTH - 1; k >= 0; k = k - 1) begin : step
      wire [W-1:0] before, after;
      if (k == B_WIDTH - 1) assign before = whole;
      else assign before = step[k+1].after;
      if ((1 << k) >= W) assign after = B[k] ? {W{1'b0}} : before;
      else assign after = B[k] ? { {(1<<k){1'b0}}, before[W-1:(1<<k)] } : before;
    end
  endgenerate
  assign Y = step[0].after;
endmodule

(* techmap_celltype = "$pmux" *)
module choose (A, B, S, Y);
  parameter WIDTH = 1;
  parameter S_WIDTH = 1;
  input [WIDTH-1:0] A;
  input [WIDTH*S_WIDTH-1:0] B;
  input [S_WIDTH-1:0] S;
  output [WIDTH-1:0] Y;
  genvar i;
  generate
    for (i = 0; i < S_WIDTH; i = i + 1) begin : step
      wire [WIDTH-1:0] before, after;
      if (i == 0) assign before = A;
      else assign before = step[i-1].after;
      assign after = S[i] ? B[WIDTH*i +: WIDTH] : before;
    end
  endgenerate
  assign Y = step[S_WIDTH-1].after;
endmodule
