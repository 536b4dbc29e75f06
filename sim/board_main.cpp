// The simulated board: the design's byte streams on standard input and output.
//
//   board [--trace FILE] [--cycles N] [--sdram PERIOD,TIMES]
//
// Bytes are offered to the design as fast as it takes them. When it is idle, offers no byte and none is left for it, output
// is flushed and standard input is waited for, so that a waiting board costs no processor time. End of input while
// idle ends the program. --trace (in builds made for it) writes waves; --cycles ends the run with status 3.
// --sdram (in builds with a memory, which need it) are times in ps, see sdram_model.h; a broken rule ends the run with
// status 4.

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <unistd.h>

#include "Vboard.h"
#include "verilated.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
typedef VerilatedFstC Trace;
#elif VM_TRACE
#include "verilated_vcd_c.h"
typedef VerilatedVcdC Trace;
#endif

#ifdef TERNAC_SDRAM
#include "sdram_model.h"
#endif

static uint8_t input[1 << 16], output[1 << 16];
static size_t input_at = 0, input_end = 0, output_end = 0;

static void flush_output() {
    size_t done = 0;
    while (done < output_end) {
        ssize_t n = write(STDOUT_FILENO, output + done, output_end - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) _exit(1);  // nobody listens any more
        done += size_t(n);
    }
    output_end = 0;
}

// Waits for bytes; false at end of input.
static bool fill_input() {
    ssize_t n;
    do n = read(STDIN_FILENO, input, sizeof input);
    while (n < 0 && errno == EINTR);
    input_at = 0;
    input_end = n > 0 ? size_t(n) : 0;
    return n > 0;
}

int main(int argc, char **argv) {
    const char *trace_path = nullptr;
    uint64_t limit = UINT64_MAX;
#ifdef TERNAC_SDRAM
    auto memory = std::make_unique<SdramModel>();
    int late = -1;  // what the chip sent a cycle ago
    bool set_up = false;
#endif
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--trace") && i + 1 < argc) trace_path = argv[++i];
        else if (!strcmp(argv[i], "--cycles") && i + 1 < argc) limit = strtoull(argv[++i], nullptr, 0);
#ifdef TERNAC_SDRAM
        else if (!strcmp(argv[i], "--sdram") && i + 1 < argc) set_up = memory->set_up(argv[++i]);
#endif
        else {
            fprintf(stderr, "usage: %s [--trace FILE] [--cycles N] [--sdram PERIOD,TIMES]\n", argv[0]);
            return 2;
        }
    }
    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Vboard>(context.get());
#if VM_TRACE
    std::unique_ptr<Trace> trace;
    if (trace_path) {
        context->traceEverOn(true);
        trace = std::make_unique<Trace>();
        top->trace(trace.get(), 99);
        trace->open(trace_path);
    }
#else
    if (trace_path) {
        fprintf(stderr, "this simulated board was built without waves\n");
        return 2;
    }
#endif
#ifdef TERNAC_SDRAM
    if (!set_up) {
        fprintf(stderr, "this simulated board needs --sdram with %d numbers\n", SdramModel::TIMES);
        return 2;
    }
#endif
    int status = 0;
    top->clk = 0;
    top->rst = 1;
    top->tx_ready = 1;
    top->rx_valid = 0;
    for (uint64_t cycle = 0;; cycle++) {
        if (cycle == 4) top->rst = 0;
        top->rx_valid = input_at < input_end;
        top->rx_payload = input_at < input_end ? input[input_at] : 0;
        top->clk = 0;
        top->eval();
#if VM_TRACE
        if (trace) trace->dump(2 * cycle);
#endif
        if (cycle > 4) {
            if (top->rx_valid) input_at += top->rx_ready;
            else if (top->idle) {
                flush_output();
                if (!fill_input()) break;
                continue;
            }
            if (top->tx_valid) {
                output[output_end++] = top->tx_payload;
                if (output_end == sizeof output) flush_output();
            }
        }
#ifdef TERNAC_SDRAM
        int word = late;
        if (cycle > 4)
            late = memory->clock(top->sdram_cke, top->sdram_cs << 3 | top->sdram_ras << 2 | top->sdram_cas << 1 | top->sdram_we,
                                 top->sdram_ba, top->sdram_a, top->sdram_dqm, top->sdram_dq_oe ? top->sdram_dq_o : -1);
        if (memory->fault[0]) {
            fprintf(stderr, "SDRAM: %s\n", memory->fault);
            status = 4;
            break;
        }
#endif
        if (cycle >= limit) {
            fprintf(stderr, "stopped after %llu cycles\n", (unsigned long long)cycle);
            status = 3;
            break;
        }
        top->clk = 1;
        top->eval();
#ifdef TERNAC_SDRAM
        top->sdram_dq_i = word < 0 ? 0xDEAD : word;
#endif
#if VM_TRACE
        if (trace) trace->dump(2 * cycle + 1);
#endif
    }
    flush_output();
#if VM_TRACE
    if (trace) trace->close();
#endif
    top->final();
    return status;
}
