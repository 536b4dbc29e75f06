// Gives the unit descriptors and activations by script.hex and compares every sum with sums.hex. The weights come
// from a memory on its AXI4 port.

`default_nettype none

module testbench;
  localparam PORT_BITS = @PORT_BITS@;
  localparam ROWS = @SCRIPT_WORDS@;
  localparam SUMS = @SUMS_WORDS@;
  localparam VECTORS = @ACTIVATIONS_WORDS@;
  localparam LIMIT = 100000;  // cycles without progress

  reg clk = 1'b0;
  always #5 clk = ~clk;

  // script.hex. A matrix (1): address 32, words in memory 32, rows 32, words of a row 16, x_base 16. A word of
  // activations (2): address 32, index in activations.hex 32, last one 32, sums that must have come before 32.
  reg [131:0] script [0:ROWS-1];
  reg [35:0] sums [0:SUMS-1];  // last 4, sum 32
  reg [PORT_BITS-1:0] activations [0:VECTORS-1];
  reg rst = 1'b1, described = 1'b0, x_ready = 1'b0;
  integer at = 0, got = 0, wrong = 0, quiet = 0;

  wire [131:0] row = at < ROWS ? script[at] : 132'h0;
  wire matrix = !rst && row[131:128] == 4'd1;
  wire vector = !rst && row[131:128] == 4'd2 && got >= row[31:0];

  wire desc_ready, sum_valid, sum_last, arvalid, arready, rvalid, rlast, rready;
  wire [@SUM_BITS@-1:0] sum;
  wire [2:0] fault;
  wire [31:0] araddr;
  wire [7:0] arlen;
  wire [PORT_BITS-1:0] rdata;
  wire [31:0] extended = { {(32-@SUM_BITS@){sum[@SUM_BITS@-1]}}, sum };

  ternac_stream dut (
    .clk(clk), .rst(rst),
    .desc_payload({ 1'b1, row[@X_BITS@-1:0], row[31:16], row[55:32], row[91:64], row[127:96] }),
    .desc_valid(matrix), .desc_ready(desc_ready),
    .x_wr_en(vector), .x_wr_addr(row[96+@X_BITS@-1:96]), .x_wr_data(activations[vector ? row[95:64] : 0]),
    .x_ready(x_ready),
    .sums_payload({ sum_last, sum }), .sums_valid(sum_valid), .sums_ready(1'b1),
    .fault(fault), .clear(1'b0),
    .m_axi_arid(), .m_axi_araddr(araddr), .m_axi_arlen(arlen), .m_axi_arsize(), .m_axi_arburst(),
    .m_axi_arcache(), .m_axi_arprot(), .m_axi_arvalid(arvalid), .m_axi_arready(arready),
    .m_axi_rid(1'b0), .m_axi_rdata(rdata), .m_axi_rresp(2'b00), .m_axi_rlast(rlast), .m_axi_rvalid(rvalid),
    .m_axi_rready(rready)
  );
  axi_memory #(.PORT_BITS(PORT_BITS), .WORDS(@MEMORY_WORDS@)) memory (
    .clk(clk), .rst(rst), .araddr(araddr), .arlen(arlen), .arvalid(arvalid), .arready(arready),
    .rdata(rdata), .rlast(rlast), .rvalid(rvalid), .rready(rready)
  );

  initial begin
    $readmemh("script.hex", script);
    $readmemh("sums.hex", sums);
    $readmemh("activations.hex", activations);
  end

  always @(posedge clk) begin
    quiet <= quiet + 1;
    if (rst) rst <= quiet < 3;
    x_ready <= vector && row[32];
    if (vector || (matrix && desc_ready)) begin
      at <= at + 1;
      quiet <= 0;
    end
    if (sum_valid) begin
      if (got >= SUMS || extended !== sums[got][31:0] || sum_last !== sums[got][32]) begin
        if (wrong < 10)
          $display("sum %0d is %08x, last %b; expected %09x", got, extended, sum_last, got < SUMS ? sums[got] : 0);
        wrong = wrong + 1;
      end
      got <= got + 1;
      quiet <= 0;
    end
    if (quiet == LIMIT || (got >= SUMS && at == ROWS && quiet == 1000)) begin
      if (fault !== 3'b000) $display("fault is %b", fault);
      if (wrong == 0 && got == SUMS && at == ROWS && fault === 3'b000)
        $display("PASS: %0d sums as expected", got);
      else $display("FAIL: %0d of %0d sums came, %0d differ", got, SUMS, wrong);
      $finish;
    end
  end
endmodule
