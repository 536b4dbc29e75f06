// The simulated board of a whole engine: its byte streams on standard input and output, its AXI4 port on a memory.
//
//   board MEMORY [name=number ...]
//
// MEMORY is memory from address 0 (axi_memory.h); in `stall` of 1024 cycles nobody takes a byte. Bytes are offered to the design as fast as it takes them. When it is
// idle and no byte is left for it, standard input is waited for; the clock rests then. End of input while idle ends the
// program. Status 1: a burst is wrong; 3: it took over `limit` cycles; 4: the port's fault was raised.

#include <cerrno>
#include <memory>
#include <unistd.h>

#include "axi_memory.h"

static uint8_t input[1 << 16], output[1 << 16];
static size_t input_at = 0, input_end = 0, output_end = 0;

static void flush_output() {
    for (size_t done = 0; done < output_end;) {
        const ssize_t n = write(STDOUT_FILENO, output + done, output_end - done);
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
    if (argc < 2) { fprintf(stderr, "usage: %s MEMORY [name=number ...]\n", argv[0]); return 2; }
    Options option = {{"stall", 0}, {"limit", UINT64_MAX}};
    parse_options(argc, argv, 2, option);
    const auto bytes = read_file<uint8_t>(argv[1]);
    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Vboard>(context.get());
    AxiMemory memory(bytes, option);
    int status = 0;
    top->clk = 0;
    top->rst = 1;
    top->rx_valid = 0;
    for (uint64_t cycle = 0;; cycle++) {
        check_limit(cycle, option["limit"]);
        if (cycle == 4) top->rst = 0;
        const bool runs = cycle >= 4;
        top->rx_valid = runs && input_at < input_end;
        top->rx_payload = top->rx_valid ? input[input_at] : 0;
        top->tx_ready = !chance(option["stall"]);
        if (runs) memory.offer(*top, cycle);
        top->clk = 0;
        top->eval();
        if (runs) {
            if (!top->rx_valid && top->idle) {
                flush_output();
                if (!fill_input()) break;
                top->rx_valid = 1;
                top->rx_payload = input[input_at];
                top->eval();
            }
            if (top->rx_valid) input_at += top->rx_ready;
            if (top->tx_valid && top->tx_ready) {
                output[output_end++] = top->tx_payload;
                if (output_end == sizeof output) flush_output();
            }
            memory.take(*top, cycle);
            if (top->port_fault) {
                fprintf(stderr, "the port's fault bits are %#x\n", unsigned(top->port_fault));
                status = 4;
                break;
            }
        }
        top->clk = 1;
        top->eval();
    }
    flush_output();
    top->final();
    return status;
}
