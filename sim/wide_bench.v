// A whole engine for imported models on a behavioural AXI4 memory, for simulators of Verilog (sim/wide_verilog.py).
//
// Widths come as macros W_<PORT>. Plusargs: memory, code, matrices, tokens: files of hexadecimal words; out: the file
// that gets "L" and a logit a line, "S" and a word of vector memory, "D" and the cycles of a token; numbers: beats,
// codes, count (of matrices), tokens_count, vectors, latency, gap (of 1024 cycles), and the registers' values.
`timescale 1ns / 1ps

module bench;
    reg [`W_M_AXI_RDATA-1:0] memory [0:`MEMORY_DEPTH-1];
    reg [`W_CODE_DATA-1:0] code [0:`CODE_DEPTH-1];
    reg [`W_MATRIX_DATA-1:0] matrices [0:`MATRIX_DEPTH-1];
    reg [15:0] tokens [0:1023];
    reg [8*256-1:0] name;
    integer out, codes, count, tokens_count, vectors, latency, gap, seed, i, limit;
    integer constants_base, constants_words, rows_base, rows_words;

    reg clk = 0, rst = 1;
    reg code_en = 0, matrix_en = 0, enable = 0, tokens_valid = 0, arready = 0, rvalid = 0, rlast = 0;
    reg [`W_CODE_ADDR-1:0] code_addr = 0;
    reg [`W_CODE_DATA-1:0] code_data = 0;
    reg [`W_MATRIX_ADDR-1:0] matrix_addr = 0;
    reg [`W_MATRIX_DATA-1:0] matrix_data = 0;
    reg [15:0] tokens_payload = 0;
    reg [`W_PEEK-1:0] peek = 0;
    reg [`W_M_AXI_RDATA-1:0] rdata = 0;
    wire [`W_LOGITS_PAYLOAD-1:0] logits_payload;
    wire [`W_PEEKED-1:0] peeked;
    wire [`W_M_AXI_ARADDR-1:0] araddr;
    wire [7:0] arlen;
    wire [6:0] fault;
    wire tokens_ready, logits_valid, done, arvalid, rready;

    board dut (
        .clk(clk), .rst(rst), .code_en(code_en), .code_addr(code_addr), .code_data(code_data),
        .matrix_en(matrix_en), .matrix_addr(matrix_addr), .matrix_data(matrix_data),
        .last_matrix(count[`W_LAST_MATRIX-1:0] - 1'b1), .constants_base(constants_base),
        .constants_words(constants_words[`W_CONSTANTS_WORDS-1:0]), .rows_base(rows_base),
        .rows_words(rows_words[`W_ROWS_WORDS-1:0]), .enable(enable),
        .tokens_payload(tokens_payload), .tokens_valid(tokens_valid), .tokens_ready(tokens_ready),
        .logits_payload(logits_payload), .logits_valid(logits_valid), .logits_ready(1'b1),
        .done(done), .wr_en(1'b0), .wr({`W_WR{1'b0}}), .peek(peek), .peeked(peeked), .fault(fault), .clear(1'b0),
        .m_axi_araddr(araddr), .m_axi_arlen(arlen), .m_axi_arvalid(arvalid), .m_axi_arready(arready),
        .m_axi_rid(1'b0), .m_axi_rdata(rdata), .m_axi_rresp(2'b00), .m_axi_rlast(rlast), .m_axi_rvalid(rvalid),
        .m_axi_rready(rready)
    );

    // Bursts in flight: word, beats left, cycle of the first beat.
    integer word [0:63], beats [0:63], due [0:63], head = 0, tail = 0, cycle = 0, begun = 0;
    reg logits_out = 0, ended = 0;

    task drive;  // the memory's side of a cycle
        begin
            arready = 1;
            if (!rvalid && head != tail && cycle >= due[head & 63] && ($random(seed) & 1023) >= gap) rvalid = 1;
            if (rvalid) begin
                rdata = memory[word[head & 63]];
                rlast = beats[head & 63] == 1;
            end
        end
    endtask

    task take;  // what was handed over in it
        begin
            if (rvalid && rready) begin
                rvalid = 0;
                word[head & 63] = word[head & 63] + 1;
                beats[head & 63] = beats[head & 63] - 1;
                if (beats[head & 63] == 0) head = head + 1;
            end
            if (arvalid === 1'b1) begin
                word[tail & 63] = araddr / (`W_M_AXI_RDATA / 8);
                beats[tail & 63] = arlen + 1;
                due[tail & 63] = cycle + latency;
                tail = tail + 1;
            end
            if (logits_valid) begin
                $fdisplay(out, "L %0d", $signed(logits_payload[15:0]));
                if (logits_payload[16]) logits_out = 1;
            end
            if (done) begin
                ended = 1;
                $fdisplay(out, "D %0d", cycle - begun);
            end
            if (fault !== 0 && !rst) begin
                $display("the engine's fault bits are %b", fault);
                $finish(1);
            end
            if (cycle > limit) begin
                $display("stopped after %0d cycles", cycle);
                $finish(1);
            end
        end
    endtask

    task clock;
        begin
            drive;
            clk = 0;
            #5 take;
            clk = 1;
            #5 cycle = cycle + 1;
        end
    endtask

    initial begin
        if (!$value$plusargs("codes=%d", codes) || !$value$plusargs("count=%d", count) ||
            !$value$plusargs("tokens_count=%d", tokens_count) || !$value$plusargs("vectors=%d", vectors) ||
            !$value$plusargs("latency=%d", latency) || !$value$plusargs("gap=%d", gap) ||
            !$value$plusargs("seed=%d", seed) || !$value$plusargs("limit=%d", limit) ||
            !$value$plusargs("constants_base=%d", constants_base) ||
            !$value$plusargs("constants_words=%d", constants_words) ||
            !$value$plusargs("rows_base=%d", rows_base) || !$value$plusargs("rows_words=%d", rows_words)) begin
            $display("a number is missing");
            $finish(1);
        end
        $readmemh("memory.hex", memory);
        $readmemh("code.hex", code);
        $readmemh("matrices.hex", matrices);
        $readmemh("tokens.hex", tokens);
        out = $fopen("out.txt");
        for (i = 0; i < 4; i = i + 1) begin
            clk = 0;
            #5 clk = 1;
            #5;
        end
        rst = 0;
        for (i = 0; i < codes; i = i + 1) begin
            code_en = 1;
            code_addr = i;
            code_data = code[i];
            clock;
        end
        code_en = 0;
        for (i = 0; i < count; i = i + 1) begin
            matrix_en = 1;
            matrix_addr = i;
            matrix_data = matrices[i];
            clock;
        end
        matrix_en = 0;
        enable = 1;
        for (i = 0; i < tokens_count; i = i + 1) begin : token
            integer at;
            tokens_valid = 1;
            tokens_payload = tokens[i];
            logits_out = 0;
            ended = 0;
            begun = cycle;
            #1;
            while (!tokens_ready) clock;
            begun = cycle;
            clock;
            tokens_valid = 0;
            while (!(ended && logits_out)) clock;
            for (at = 0; at < vectors; at = at + 1) begin
                peek = at;
                clock;
                clock;
                clock;
                clock;
                $fdisplay(out, "S %h", peeked);
            end
        end
        $fclose(out);
        $finish(0);
    end
endmodule
