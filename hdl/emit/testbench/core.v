// Loads the engine, feeds it tokens one at a time and reads its banks, by load.hex and script.hex. Compares the
// token that was chosen, the generator after it, the clock cycles, and in the end logits and state words.

`default_nettype none

module testbench;
  localparam LOADS = @LOAD_WORDS@;
  localparam ROWS = @SCRIPT_WORDS@;
  localparam LIMIT = 1000000;  // cycles that a step may take
  localparam SETTLE = 8;  // the loader's path is a pipeline

  localparam RESET = 0, LOAD = 1, IDLE = 2, STEPPING = 3, READING = 4, DONE = 5;

  reg clk = 1'b0;
  always #5 clk = ~clk;

  // load.hex: memory 4, block 8, address 16, word 20
  reg [47:0] load [0:LOADS-1];
  // script.hex. A step (1): entry 16, token 16, session base 16, emit 4, greedy 4, mantissa 8, shift 8, top_k 16,
  // generator 32, and expected: token 16, generator 32, cycles 28. A read (2): block 16, address 16, word 164.
  reg [199:0] script [0:ROWS-1];

  reg rst = 1'b1, start = 1'b0, rd_en = 1'b0;
  integer state = RESET, at = 0, waited = 0, steps = 0, reads = 0, tokens = 0, wrong = 0;
  reg [47:0] write = 48'h0;
  reg wr_en = 1'b0;
  reg [199:0] row = 200'h0;

  wire busy, done, rd_valid;
  wire [1:0] done_context;
  wire [15:0] next_token, rd_data;
  wire [31:0] rng_out, cycles;

  ternac_core dut (
    .clk(clk), .rst(rst),
    .wr_en(wr_en), .wr_mem(write[46:44]), .wr_block(write[43:36]), .wr_addr(write[35:20]), .wr_data(write[17:0]),
    .rd_en(rd_en), .rd_block(row[187:180]), .rd_addr(row[179:164]), .rd_valid(rd_valid), .rd_data(rd_data),
    .start(start), .start_context(2'd0), .again(1'b0), .hold_done(1'b0), .entry(row[195:180]), .token(row[179:164]),
    .session_base(row[163:148]), .emit(row[144]), .greedy(row[140]), .inv_m(row[139:132]), .inv_s(row[128:124]),
    .top_k(row[123:108]), .rng_in(row[107:76]),
    .busy(busy), .done(done), .done_context(done_context), .next_token(next_token), .rng_out(rng_out),
    .clear(start), .cycles(cycles)
  );

  initial begin
    $readmemh("load.hex", load);
    $readmemh("script.hex", script);
  end

  task fail_step;
    begin
      $display("step %0d: token %0d, generator %08x, %0d cycles; expected token %0d, generator %08x, %0d cycles",
               steps, next_token, rng_out, cycles, row[75:60], row[59:28], row[27:0]);
      wrong = wrong + 1;
    end
  endtask

  always @(posedge clk) begin
    waited <= waited + 1;
    case (state)
      RESET: if (waited == 3) begin
        rst <= 1'b0;
        state <= LOAD;
      end
      LOAD: begin
        wr_en <= at < LOADS;
        if (at < LOADS) begin
          write <= load[at];
          at <= at + 1;
          waited <= 0;
        end else if (waited == SETTLE) begin
          at <= 0;
          state <= IDLE;
        end
      end
      IDLE: if (at == ROWS) state <= DONE;
      else if (!busy) begin
        row <= script[at];
        at <= at + 1;
        waited <= 0;
        if (script[at][199:196] == 4'd1) begin
          start <= 1'b1;
          state <= STEPPING;
        end else if (script[at][199:196] == 4'd2) begin
          rd_en <= 1'b1;
          state <= READING;
        end else begin
          $display("script.hex: row %0d is neither a step nor a read", at);
          wrong = wrong + 1;
          state <= DONE;
        end
      end
      STEPPING: begin
        start <= 1'b0;
        if (done) begin
          if (cycles !== { 4'h0, row[27:0] }) fail_step;
          else if (row[144] && (next_token !== row[75:60] || rng_out !== row[59:28])) fail_step;
          steps <= steps + 1;
          tokens <= tokens + (row[144] ? 1 : 0);
          state <= IDLE;
        end else if (waited == LIMIT) begin
          $display("step %0d did not end within %0d cycles", steps, LIMIT);
          wrong = wrong + 1;
          state <= DONE;
        end
      end
      READING: begin
        rd_en <= 1'b0;
        if (rd_valid) begin
          if (rd_data !== row[15:0]) begin
            if (wrong < 10)
              $display("bank %0d, word %0d: %04x, expected %04x", row[187:180], row[179:164], rd_data, row[15:0]);
            wrong = wrong + 1;
          end
          reads <= reads + 1;
          state <= IDLE;
        end else if (waited == LIMIT) begin
          $display("no answer to a read");
          wrong = wrong + 1;
          state <= DONE;
        end
      end
      default: begin
        if (wrong == 0 && steps > 0 && steps + reads == ROWS)
          $display("PASS: %0d tokens chosen, %0d steps with their cycles, %0d bank words", tokens, steps, reads);
        else $display("FAIL: %0d differences", wrong);
        $finish;
      end
    endcase
  end
endmodule
