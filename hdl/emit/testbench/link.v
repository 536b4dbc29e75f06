// Sends the bytes of requests.hex and compares every byte that comes back with answers.hex, where comments say
// what each frame is.

`default_nettype none

module testbench;
  localparam REQUESTS = @REQUESTS_WORDS@;
  localparam ANSWERS = @ANSWERS_WORDS@;
  localparam LIMIT = 5000000;  // cycles without a byte either way

  reg clk = 1'b0;
  always #5 clk = ~clk;

  reg [7:0] requests [0:REQUESTS-1];
  reg [7:0] answers [0:ANSWERS-1];
  reg rst = 1'b1;
  reg [15:0] noise = 16'hace1;
  integer sent = 0, got = 0, wrong = 0, quiet = 0;

  wire rx_ready, tx_valid, idle, loaded, fault;
  wire [7:0] tx_payload;
  wire rx_valid = !rst && sent < REQUESTS;
  wire [7:0] rx_payload = rx_valid ? requests[sent] : 8'h00;
  wire tx_ready = noise[0] | noise[3];  // three cycles of four

  ternac_link dut (
    .clk(clk), .rst(rst),
    .rx_payload(rx_payload), .rx_valid(rx_valid), .rx_ready(rx_ready),
    .tx_payload(tx_payload), .tx_valid(tx_valid), .tx_ready(tx_ready),
    .idle(idle), .loaded(loaded), .fault(fault)
  );

  initial begin
    $readmemh("requests.hex", requests);
    $readmemh("answers.hex", answers);
  end

  always @(posedge clk) begin
    noise <= { noise[14:0], noise[15] ^ noise[13] ^ noise[12] ^ noise[10] };
    quiet <= quiet + 1;
    if (rst) rst <= quiet < 3;
    if (rx_valid && rx_ready) begin
      sent <= sent + 1;
      quiet <= 0;
    end
    if (tx_valid && tx_ready) begin
      if (got >= ANSWERS || tx_payload !== answers[got]) begin
        if (wrong < 10) begin
          if (got < ANSWERS) $display("answer byte %0d is %02x, expected %02x", got, tx_payload, answers[got]);
          else $display("a byte more than expected: %02x", tx_payload);
        end
        wrong = wrong + 1;
      end
      got <= got + 1;
      quiet <= 0;
    end
    if (quiet == LIMIT || (got >= ANSWERS && sent == REQUESTS && quiet == 1000)) begin
      if (got < ANSWERS) $display("only %0d of %0d bytes came", got, ANSWERS);
      if (fault) $display("the link reports a fault");
      if (!idle || !loaded) $display("idle is %b, loaded is %b, both must be 1", idle, loaded);
      if (wrong == 0 && got == ANSWERS && idle === 1'b1 && loaded === 1'b1 && fault === 1'b0)
        $display("PASS: %0d bytes sent, %0d bytes of answers as expected", sent, got);
      else $display("FAIL: %0d bytes differ", wrong);
      $finish;
    end
  end
endmodule
