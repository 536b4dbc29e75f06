// Operators with both sides, and the result, of one width: no tool extends or cuts anything by itself. Used by
// yosys' techmap. A side of no bits stands for 0.

(* techmap_celltype = "$add $sub $and $or $xor $xnor" *)
module same_width (A, B, Y);
  parameter _TECHMAP_CELLTYPE_ = "";
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  input [A_WIDTH-1:0] A;
  input [B_WIDTH-1:0] B;
  output [Y_WIDTH-1:0] Y;
  localparam S = A_SIGNED && B_SIGNED;
  wire _TECHMAP_FAIL_ = A_WIDTH == Y_WIDTH && B_WIDTH == Y_WIDTH && !S;
  wire [Y_WIDTH-1:0] AX, BX;
  generate
    if (A_WIDTH == 0) assign AX = 0;
    else assign AX = { {Y_WIDTH{S ? A[A_WIDTH-1] : 1'b0}}, A };
    if (B_WIDTH == 0) assign BX = 0;
    else assign BX = { {Y_WIDTH{S ? B[B_WIDTH-1] : 1'b0}}, B };
    if (_TECHMAP_CELLTYPE_ == "$add") assign Y = AX + BX;
    if (_TECHMAP_CELLTYPE_ == "$sub") assign Y = AX - BX;
    if (_TECHMAP_CELLTYPE_ == "$and") assign Y = AX & BX;
    if (_TECHMAP_CELLTYPE_ == "$or") assign Y = AX | BX;
    if (_TECHMAP_CELLTYPE_ == "$xor") assign Y = AX ^ BX;
    if (_TECHMAP_CELLTYPE_ == "$xnor") assign Y = AX ~^ BX;
  endgenerate
endmodule

(* techmap_celltype = "$not $neg $pos" *)
module same_width_of_one (A, Y);
  parameter _TECHMAP_CELLTYPE_ = "";
  parameter A_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter Y_WIDTH = 1;
  input [A_WIDTH-1:0] A;
  output [Y_WIDTH-1:0] Y;
  wire _TECHMAP_FAIL_ = A_WIDTH == Y_WIDTH && !A_SIGNED;
  wire [Y_WIDTH-1:0] AX;
  generate
    if (A_WIDTH == 0) assign AX = 0;
    else assign AX = { {Y_WIDTH{A_SIGNED ? A[A_WIDTH-1] : 1'b0}}, A };
    if (_TECHMAP_CELLTYPE_ == "$not") assign Y = ~AX;
    if (_TECHMAP_CELLTYPE_ == "$neg") assign Y = -AX;
    if (_TECHMAP_CELLTYPE_ == "$pos") assign Y = AX;
  endgenerate
endmodule

(* techmap_celltype = "$lt $le $gt $ge $eq $ne" *)
module same_width_to_compare (A, B, Y);
  parameter _TECHMAP_CELLTYPE_ = "";
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  input [A_WIDTH-1:0] A;
  input [B_WIDTH-1:0] B;
  output [Y_WIDTH-1:0] Y;
  localparam S = A_SIGNED && B_SIGNED;
  localparam W = A_WIDTH > B_WIDTH ? A_WIDTH : B_WIDTH;
  wire _TECHMAP_FAIL_ = A_WIDTH == B_WIDTH && Y_WIDTH == 1;
  wire [W-1:0] AX, BX;
  wire signed [W-1:0] AS = AX;
  wire signed [W-1:0] BS = BX;
  wire answer;
  assign Y = { {Y_WIDTH{1'b0}}, answer };
  generate
    if (A_WIDTH == 0) assign AX = 0;
    else assign AX = { {W{S ? A[A_WIDTH-1] : 1'b0}}, A };
    if (B_WIDTH == 0) assign BX = 0;
    else assign BX = { {W{S ? B[B_WIDTH-1] : 1'b0}}, B };
    if (_TECHMAP_CELLTYPE_ == "$eq") assign answer = AX == BX;
    if (_TECHMAP_CELLTYPE_ == "$ne") assign answer = AX != BX;
    if (S) begin
      if (_TECHMAP_CELLTYPE_ == "$lt") assign answer = AS < BS;
      if (_TECHMAP_CELLTYPE_ == "$le") assign answer = AS <= BS;
      if (_TECHMAP_CELLTYPE_ == "$gt") assign answer = AS > BS;
      if (_TECHMAP_CELLTYPE_ == "$ge") assign answer = AS >= BS;
    end else begin
      if (_TECHMAP_CELLTYPE_ == "$lt") assign answer = AX < BX;
      if (_TECHMAP_CELLTYPE_ == "$le") assign answer = AX <= BX;
      if (_TECHMAP_CELLTYPE_ == "$gt") assign answer = AX > BX;
      if (_TECHMAP_CELLTYPE_ == "$ge") assign answer = AX >= BX;
    end
  endgenerate
endmodule

(* techmap_celltype = "$logic_not" *)
module equal_to_zero (A, Y);
  parameter A_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter Y_WIDTH = 1;
  input [A_WIDTH-1:0] A;
  output [Y_WIDTH-1:0] Y;
  wire _TECHMAP_FAIL_ = A_WIDTH == 1 && Y_WIDTH == 1;
  wire answer = A == {A_WIDTH{1'b0}};
  assign Y = { {Y_WIDTH{1'b0}}, answer };
endmodule

(* techmap_celltype = "$shl $sshr" *)
module same_width_to_shift (A, B, Y);
  parameter _TECHMAP_CELLTYPE_ = "";
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  input [A_WIDTH-1:0] A;
  input [B_WIDTH-1:0] B;
  output [Y_WIDTH-1:0] Y;
  localparam W = A_WIDTH > Y_WIDTH ? A_WIDTH : Y_WIDTH;
  wire _TECHMAP_FAIL_ = A_WIDTH == Y_WIDTH;
  wire [W-1:0] AX, moved;
  wire signed [W-1:0] AS = AX;
  assign Y = moved;
  generate
    if (A_WIDTH == 0) assign AX = 0;
    else assign AX = { {W{A_SIGNED ? A[A_WIDTH-1] : 1'b0}}, A };
    if (_TECHMAP_CELLTYPE_ == "$shl") assign moved = AX << B;
    else if (A_SIGNED) assign moved = AS >>> B;
    else assign moved = AX >> B;
  endgenerate
endmodule
