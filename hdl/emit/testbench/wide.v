// A bus master that does what bus.hex says, and compares every logit that leaves by the stream with logits.hex. Weights,
// constants and the embedding come from a memory on the AXI4 port.

`default_nettype none

module testbench;
  localparam LOGITS = @LOGITS_WORDS@;
  localparam ACCESSES = @BUS_WORDS@;
  localparam LIMIT = 1000000;  // cycles without progress

  reg clk = 1'b0;
  always #5 clk = ~clk;

  // bus.hex: kind 4, address 12, data 32, mask 32. Kinds: 1 write, 2 read and compare the bits of the mask, 3 read
  // until they are equal.
  reg [79:0] script [0:ACCESSES-1];
  reg [19:0] logits [0:LOGITS-1];  // last 4, logit 16
  reg rst = 1'b1, asked = 1'b0;
  reg [15:0] noise = 16'hace1;
  integer at = 0, got = 0, wrong = 0, quiet = 0;

  wire [79:0] row = at < ACCESSES ? script[at] : 80'h0;
  wire writes = row[79:76] == 4'd1, reads = row[79:76] == 4'd2 || row[79:76] == 4'd3;
  wire [6:0] address = row[70:64];

  wire awready, wready, bvalid, arready, rvalid, m_valid, m_last, irq;
  wire [1:0] bresp, rresp;
  wire [31:0] rdata;
  wire [15:0] m_data;
  wire m_ready = noise[0] | noise[3];  // three cycles of four
  wire arvalid, arready_m, rvalid_m, rlast, rready;
  wire [@ADDRESS_BITS@-1:0] araddr;
  wire [7:0] arlen;
  wire [@PORT_BITS@-1:0] rdata_m;

  ternac_wide dut (
    .clk(clk), .rst(rst),
    .s_axi_awaddr(address), .s_axi_awprot(3'b000), .s_axi_awvalid(!rst && writes && !asked), .s_axi_awready(awready),
    .s_axi_wdata(row[63:32]), .s_axi_wstrb(4'hf), .s_axi_wvalid(!rst && writes && !asked), .s_axi_wready(wready),
    .s_axi_bresp(bresp), .s_axi_bvalid(bvalid), .s_axi_bready(1'b1),
    .s_axi_araddr(address), .s_axi_arprot(3'b000), .s_axi_arvalid(!rst && reads && !asked), .s_axi_arready(arready),
    .s_axi_rdata(rdata), .s_axi_rresp(rresp), .s_axi_rvalid(rvalid), .s_axi_rready(1'b1),
    .m_axis_tdata(m_data), .m_axis_tvalid(m_valid), .m_axis_tready(m_ready), .m_axis_tlast(m_last),
    .m_axi_arid(), .m_axi_araddr(araddr), .m_axi_arlen(arlen), .m_axi_arsize(), .m_axi_arburst(),
    .m_axi_arcache(), .m_axi_arprot(), .m_axi_arvalid(arvalid), .m_axi_arready(arready_m),
    .m_axi_rid(1'b0), .m_axi_rdata(rdata_m), .m_axi_rresp(2'b00), .m_axi_rlast(rlast), .m_axi_rvalid(rvalid_m),
    .m_axi_rready(rready),
    .irq(irq)
  );
  wire [31:0] whole = araddr;
  axi_memory #(.PORT_BITS(@PORT_BITS@), .WORDS(@MEMORY_WORDS@)) memory (
    .clk(clk), .rst(rst), .araddr(whole), .arlen(arlen), .arvalid(arvalid), .arready(arready_m),
    .rdata(rdata_m), .rlast(rlast), .rvalid(rvalid_m), .rready(rready)
  );

  initial begin
    $readmemh("bus.hex", script);
    $readmemh("logits.hex", logits);
  end

  always @(posedge clk) begin
    noise <= { noise[14:0], noise[15] ^ noise[13] ^ noise[12] ^ noise[10] };
    quiet <= quiet + 1;
    if (rst) rst <= quiet < 3;

    // The bus: an access is asked for once, and the next one follows its answer.
    if ((writes && awready && wready) || (reads && arready)) asked <= !rst;
    if (writes && asked && bvalid) begin
      if (bresp !== 2'd@OKAY@) begin
        $display("access %0d: a write to %0h answers %b", at, address, bresp);
        wrong = wrong + 1;
      end
      asked <= 1'b0;
      at <= at + 1;
      quiet <= 0;
    end
    if (reads && asked && rvalid) begin
      asked <= 1'b0;
      if (rresp === 2'd@OKAY@ && (rdata & row[31:0]) === (row[63:32] & row[31:0])) begin
        at <= at + 1;
        quiet <= 0;
      end else if (row[79:76] == 4'd2) begin
        if (wrong < 10)
          $display("access %0d: register %0h is %08x, expected %08x (mask %08x)", at, address, rdata, row[63:32],
                   row[31:0]);
        wrong = wrong + 1;
        at <= at + 1;
      end
    end

    if (m_valid && m_ready) begin
      if (got >= LOGITS || m_data !== logits[got][15:0] || m_last !== logits[got][16]) begin
        if (wrong < 10)
          $display("logit %0d is %04x, last %b; expected %05x", got, m_data, m_last, got < LOGITS ? logits[got] : 0);
        wrong = wrong + 1;
      end
      got <= got + 1;
      quiet <= 0;
    end

    if (quiet == LIMIT || at == ACCESSES) begin
      if (wrong == 0 && at == ACCESSES && got == LOGITS)
        $display("PASS: %0d bus accesses, %0d logits as expected", at, got);
      else $display("FAIL: access %0d of %0d, %0d of %0d logits came, %0d differences", at, ACCESSES, got, LOGITS,
                    wrong);
      $finish;
    end
  end
endmodule
