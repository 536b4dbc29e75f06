// The AXI block on a bus whose master is on standard input and output.
//
//   board [--cycles N]
//
// An access is six bytes: kind ('r' or 'w'), byte address, 32 bits of data (of a write; lowest byte first). It is
// answered by five: response (0 OKAY, 2 SLVERR), 32 bits of data (of a read). Accesses are made one after the other,
// in as few cycles as the block allows; while none is there the clock rests. End of input ends the program,
// --cycles ends it with status 3.

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <unistd.h>

#include "Vboard.h"
#include "verilated.h"

static const size_t ACCESS = 6, ANSWER = 5;
static uint8_t input[ACCESS << 12], output[ANSWER << 12];

static void send(size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t n = write(STDOUT_FILENO, output + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) _exit(1);  // nobody listens any more
        done += size_t(n);
    }
}

int main(int argc, char **argv) {
    uint64_t limit = UINT64_MAX, cycle = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--cycles") && i + 1 < argc) limit = strtoull(argv[++i], nullptr, 0);
        else {
            fprintf(stderr, "usage: %s [--cycles N]\n", argv[0]);
            return 2;
        }
    }
    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Vboard>(context.get());
    auto tick = [&] {
        top->clk = 1;
        top->eval();
        top->clk = 0;
        top->eval();
        if (++cycle >= limit) {
            fprintf(stderr, "stopped after %llu cycles\n", (unsigned long long)cycle);
            exit(3);
        }
    };
    top->clk = 0;
    top->rst = 1;
    top->s_axi_bready = top->s_axi_rready = 1;
    for (int i = 0; i < 4; i++) tick();
    top->rst = 0;
    top->eval();
    for (size_t have = 0;;) {
        ssize_t n = read(STDIN_FILENO, input + have, sizeof input - have);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
        have += size_t(n);
        size_t at = 0, size = 0;
        for (; have - at >= ACCESS; at += ACCESS, size += ANSWER) {
            const uint8_t *in = input + at;
            const uint32_t data = in[2] | in[3] << 8 | in[4] << 16 | uint32_t(in[5]) << 24;
            uint32_t response, found = 0;
            bool writes = in[0] == 'w';
            top->s_axi_awaddr = top->s_axi_araddr = in[1];
            top->s_axi_wdata = data;
            top->s_axi_wstrb = 15;
            top->s_axi_awvalid = top->s_axi_wvalid = writes;
            top->s_axi_arvalid = !writes;
            top->eval();
            while (writes ? !(top->s_axi_awready && top->s_axi_wready) : !top->s_axi_arready) tick();
            tick();
            top->s_axi_awvalid = top->s_axi_wvalid = top->s_axi_arvalid = 0;
            top->eval();
            while (writes ? !top->s_axi_bvalid : !top->s_axi_rvalid) tick();
            response = writes ? top->s_axi_bresp : top->s_axi_rresp;
            if (!writes) found = top->s_axi_rdata;
            tick();
            output[size] = uint8_t(response);
            for (int i = 0; i < 4; i++) output[size + 1 + i] = uint8_t(found >> 8 * i);
        }
        send(size);
        memmove(input, input + at, have - at);
        have -= at;
    }
}
