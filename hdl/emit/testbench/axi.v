// A bus master that does what bus.hex says, and a host on the streams that sends requests.hex and compares every
// byte that comes back with answers.hex.

`default_nettype none

module testbench;
  localparam REQUESTS = @REQUESTS_WORDS@;
  localparam ANSWERS = @ANSWERS_WORDS@;
  localparam ACCESSES = @BUS_WORDS@;
  localparam LIMIT = 5000000;  // cycles without progress
  localparam [7:0] END = 8'hc0;  // of a frame

  reg clk = 1'b0;
  always #5 clk = ~clk;

  // bus.hex: kind 4, address 12, data 32, mask 32. Kinds: 1 write, 2 read and compare the bits of the mask, 3 read
  // until they are equal, 4 send and receive all frames.
  reg [79:0] script [0:ACCESSES-1];
  reg [7:0] requests [0:REQUESTS-1];
  reg [7:0] answers [0:ANSWERS-1];
  reg rst = 1'b1, asked = 1'b0, frames = 1'b0, in_frame = 1'b0;
  reg [15:0] noise = 16'hace1;
  integer at = 0, sent = 0, got = 0, wrong = 0, quiet = 0;

  wire [79:0] row = at < ACCESSES ? script[at] : 80'h0;
  wire writes = row[79:76] == 4'd1, reads = row[79:76] == 4'd2 || row[79:76] == 4'd3;
  wire [6:0] address = row[70:64];

  wire awready, wready, bvalid, arready, rvalid, s_ready, m_valid, m_last, irq;
  wire [1:0] bresp, rresp;
  wire [31:0] rdata;
  wire [7:0] m_data;
  wire s_valid = frames && sent < REQUESTS;
  wire [7:0] s_data = s_valid ? requests[sent] : 8'h00;
  wire m_ready = noise[0] | noise[3];  // three cycles of four
@STREAM_WIRES@
  ternac_axi dut (
    .clk(clk), .rst(rst),
    .s_axi_awaddr(address), .s_axi_awprot(3'b000), .s_axi_awvalid(!rst && writes && !asked), .s_axi_awready(awready),
    .s_axi_wdata(row[63:32]), .s_axi_wstrb(4'hf), .s_axi_wvalid(!rst && writes && !asked), .s_axi_wready(wready),
    .s_axi_bresp(bresp), .s_axi_bvalid(bvalid), .s_axi_bready(1'b1),
    .s_axi_araddr(address), .s_axi_arprot(3'b000), .s_axi_arvalid(!rst && reads && !asked), .s_axi_arready(arready),
    .s_axi_rdata(rdata), .s_axi_rresp(rresp), .s_axi_rvalid(rvalid), .s_axi_rready(1'b1),
    .s_axis_tdata(s_data), .s_axis_tvalid(s_valid), .s_axis_tready(s_ready), .s_axis_tlast(1'b0),
    .m_axis_tdata(m_data), .m_axis_tvalid(m_valid), .m_axis_tready(m_ready), .m_axis_tlast(m_last),
@STREAM_PORTS@
    .irq(irq)
  );
@STREAM_MEMORY@
  initial begin
    $readmemh("bus.hex", script);
    $readmemh("requests.hex", requests);
    $readmemh("answers.hex", answers);
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
    if (row[79:76] == 4'd4) begin
      frames <= 1'b1;
      if (got == ANSWERS && sent == REQUESTS) at <= at + 1;
    end

    // The streams.
    if (s_valid && s_ready) begin
      sent <= sent + 1;
      quiet <= 0;
    end
    if (m_valid && m_ready) begin
      in_frame <= m_data != END;
      if (got >= ANSWERS || m_data !== answers[got] || m_last !== (in_frame && m_data == END)) begin
        if (wrong < 10)
          $display("answer byte %0d is %02x, last %b; expected %02x", got, m_data, m_last,
                   got < ANSWERS ? answers[got] : 8'h00);
        wrong = wrong + 1;
      end
      got <= got + 1;
      quiet <= 0;
    end

    if (quiet == LIMIT || at == ACCESSES) begin
      if (wrong == 0 && at == ACCESSES && got == ANSWERS)
        $display("PASS: %0d bus accesses, %0d bytes of answers as expected", at, got);
      else $display("FAIL: access %0d of %0d, %0d of %0d bytes came, %0d differences", at, ACCESSES, got, ANSWERS,
                    wrong);
      $finish;
    end
  end
endmodule
