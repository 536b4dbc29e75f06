// The streaming matrix-vector unit on a behavioural AXI4 memory.
//
//   Vboard JOB WEIGHTS ACTIVATIONS SUMS [name=number ...]
//
// WEIGHTS is memory from address 0, ACTIVATIONS words of int8 in the order in which they are written, SUMS int32,
// what every row must come to. JOB is text, a phase after the other:
//   P                                        a phase: its activations depend on all sums before it
//   X base words                             write that many words of ACTIVATIONS, then say that they are there
//   M address beats rows words x_base fence  one matrix
// Descriptors are handed over as fast as they are taken. A phase's activations are written, a word a cycle, from
// `turnaround` cycles after the last sum before it. The memory answers bursts in order, each after `latency_min` to
// `latency_max` cycles; of 1024 cycles, `gap` have no data and `slow` take no address; in `stall` of 1024 cycles
// nobody takes a sum. Prints one JSON object. Status 1: a sum is wrong or a fault was raised; 3: it took over `limit`.

#include <algorithm>
#include <memory>
#include <sstream>

#include "axi_memory.h"

struct Matrix { uint64_t address, beats, rows, words, x_base, fence; };
struct Write { uint64_t base, words; };
struct Phase { std::vector<Write> writes; uint64_t sums_before; };

template <typename T> static void field(T &port, unsigned &at, uint64_t value, unsigned bits) {
    for (unsigned i = 0; i < bits; i++, at++) {
        uint32_t bit = uint32_t(1) << (at % 32);
        if (value >> i & 1) port[at / 32] |= bit;
        else port[at / 32] &= ~bit;
    }
}

int main(int argc, char **argv) {
    Options option = {
        {"stall", 0}, {"turnaround", 64}, {"limit", UINT64_MAX}, {"address_bits", 32}, {"beats_bits", 0},
        {"rows_bits", 0}, {"words_bits", 0}, {"x_bits", 0}, {"sum_bits", 0},
    };
    if (argc < 5) { fprintf(stderr, "usage: %s JOB WEIGHTS ACTIVATIONS SUMS [name=number ...]\n", argv[0]); return 2; }
    parse_options(argc, argv, 5, option);
    const auto weights = read_file<uint8_t>(argv[2]), activations = read_file<uint8_t>(argv[3]);
    const auto expected = read_file<int32_t>(argv[4]);
    std::vector<Matrix> matrices;
    std::vector<Phase> phases;
    uint64_t rows_so_far = 0;
    {
        std::ifstream job(argv[1]);
        std::string line;
        while (std::getline(job, line)) {
            std::istringstream words(line);
            std::string kind;
            words >> kind;
            if (kind == "P") phases.push_back({{}, rows_so_far});
            if (kind == "X") { Write w; words >> w.base >> w.words; phases.back().writes.push_back(w); }
            if (kind == "M") {
                Matrix x;
                words >> x.address >> x.beats >> x.rows >> x.words >> x.x_base >> x.fence;
                rows_so_far += x.rows;
                matrices.push_back(x);
            }
        }
    }
    if (rows_so_far != expected.size()) { fprintf(stderr, "sums do not fit the job\n"); return 2; }

    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Vboard>(context.get());
    const uint64_t size = option["word_bytes"], stall = option["stall"];
    const uint64_t turnaround = option["turnaround"], limit = option["limit"];
    const unsigned sum_bits = unsigned(option["sum_bits"]);
    const unsigned widths[] = {unsigned(option["address_bits"]), unsigned(option["beats_bits"]),
                               unsigned(option["rows_bits"]), unsigned(option["words_bits"]),
                               unsigned(option["x_bits"]), 1};
    AxiMemory memory(weights, option);
    std::vector<uint64_t> phase_done;
    size_t matrix = 0, phase = 0, write = 0, x_at = 0;
    uint64_t written = 0, sums = 0, wrong = 0, first_wrong = 0;
    uint64_t first_beat = 0, last_beat = 0, gaps = 0, late = 0, unasked = 0, pending_late = 0, pending_unasked = 0;
    uint64_t pending_gaps = 0, fault = 0, cycle = 0;
    top->rst = 1;
    for (int i = 0; i < 4; i++) { top->clk = 0; top->eval(); top->clk = 1; top->eval(); }
    top->rst = 0;
    for (; sums < expected.size(); cycle++) {
        check_limit(cycle, limit);
        top->desc_valid = matrix < matrices.size();
        if (top->desc_valid) {
            const Matrix &x = matrices[matrix];
            const uint64_t values[] = {x.address, x.beats, x.rows, x.words, x.x_base, x.fence};
            unsigned at = 0;
            for (int i = 0; i < 6; i++) field(top->desc_payload, at, values[i], widths[i]);
        }
        top->x_wr_en = 0;
        top->x_ready = 0;
        if (phase < phases.size() && phase_done.size() >= phase &&
            (!phase || cycle >= phase_done[phase - 1] + turnaround)) {
            const Write &w = phases[phase].writes[write];
            top->x_wr_en = 1;
            top->x_wr_addr = w.base + written;
            put(top->x_wr_data, &activations[x_at], size);
            x_at += size;
            if (++written == w.words) {
                top->x_ready = 1;
                written = 0;
                if (++write == phases[phase].writes.size()) write = 0, phase++;
            }
        }
        memory.offer(*top, cycle);
        top->sums_ready = !chance(stall);
        top->clk = 0;
        top->eval();
        matrix += top->desc_valid && top->desc_ready;
        switch (memory.take(*top, cycle)) {
        case AxiMemory::Cycle::TAKEN:
            if (memory.beats == 1) first_beat = cycle;
            else gaps += pending_gaps, late += pending_late, unasked += pending_unasked;
            pending_gaps = pending_late = pending_unasked = 0;
            last_beat = cycle;
            break;
        case AxiMemory::Cycle::PAUSED: pending_gaps++; break;
        case AxiMemory::Cycle::LATE: pending_late++; break;
        case AxiMemory::Cycle::UNASKED: pending_unasked++; break;
        }
        if (top->sums_valid && top->sums_ready) {
            int32_t sum = int32_t(uint32_t(top->sums_payload) << (32 - sum_bits)) >> (32 - sum_bits);
            if (sum != expected[sums] && !wrong++) first_wrong = sums;
            sums++;
            if (phase_done.size() < phases.size() &&
                sums == (phase_done.size() + 1 < phases.size() ? phases[phase_done.size() + 1].sums_before
                                                               : expected.size()))
                phase_done.push_back(cycle);
        }
        fault |= top->fault;
        top->clk = 1;
        top->eval();
    }
    printf("{\"cycles\": %llu, \"beats\": %llu, \"bursts\": %llu, \"first_beat\": %llu, \"last_beat\": %llu, ",
           (unsigned long long)cycle, (unsigned long long)memory.beats, (unsigned long long)memory.bursts,
           (unsigned long long)first_beat, (unsigned long long)last_beat);
    printf("\"gaps\": %llu, \"late\": %llu, \"unasked\": %llu, \"sums\": %llu, \"wrong\": %llu, ",
           (unsigned long long)gaps, (unsigned long long)late, (unsigned long long)unasked, (unsigned long long)sums,
           (unsigned long long)wrong);
    printf("\"first_wrong\": %llu, \"fault\": %llu, ", (unsigned long long)first_wrong, (unsigned long long)fault);
    print_list("phase_done", phase_done, "}\n");
    top->final();
    return wrong || fault;
}
