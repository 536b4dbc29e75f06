
// Answers AXI4 reads from memory.hex: one burst at a time, the first beat a few cycles after its address.
module axi_memory #(
  parameter PORT_BITS = 128,
  parameter WORDS = 1
) (
  input wire clk,
  input wire rst,
  input wire [31:0] araddr,
  input wire [7:0] arlen,
  input wire arvalid,
  output wire arready,
  output wire [PORT_BITS-1:0] rdata,
  output wire rlast,
  output reg rvalid,
  input wire rready
);
  localparam DELAY = 5;
  reg [PORT_BITS-1:0] memory [0:WORDS-1];
  reg [31:0] word;
  reg [8:0] left;
  reg [3:0] wait_for;

  assign arready = left == 9'd0 && !rst;
  assign rdata = memory[word];
  assign rlast = left == 9'd1;
  initial $readmemh("memory.hex", memory);

  always @(posedge clk) begin
    if (rst) begin
      left <= 9'd0;
      rvalid <= 1'b0;
      word <= 32'd0;
    end else if (arvalid && arready) begin
      word <= araddr / (PORT_BITS / 8);
      left <= { 1'b0, arlen } + 9'd1;
      wait_for <= DELAY;
    end else if (left != 9'd0 && !rvalid) begin
      wait_for <= wait_for - 4'd1;
      rvalid <= wait_for == 4'd1;
    end else if (rvalid && rready) begin
      word <= rlast ? 32'd0 : word + 32'd1;
      left <= left - 9'd1;
      rvalid <= !rlast;
    end
  end
endmodule
