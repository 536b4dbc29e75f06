// A behavioural memory behind an AXI4 read port, for the programs around a unit that reads one.
//
// It answers bursts in order, each after `latency_min` to `latency_max` cycles; of 1024 cycles, `gap` have no data and
// `slow` take no address. A program calls `offer` before it evaluates a cycle and `take` behind it.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "Vboard.h"
#include "verilated.h"

using Options = std::map<std::string, uint64_t>;
static const Options MEMORY_OPTIONS = {
    {"latency_min", 0}, {"latency_max", 0}, {"gap", 0}, {"slow", 0}, {"seed", 1}, {"word_bytes", 0},
};

static uint64_t random_state = 0x9e3779b97f4a7c15ull;
static uint32_t draw() {  // xorshift64*
    random_state ^= random_state >> 12, random_state ^= random_state << 25, random_state ^= random_state >> 27;
    return uint32_t((random_state * 0x2545f4914f6cdd1dull) >> 32);
}
static bool chance(uint64_t of_1024) { return of_1024 && (draw() & 1023) < of_1024; }

template <typename T> static void put(T &port, const uint8_t *bytes, size_t size) {  // up to 64 bits
    uint64_t value = 0;
    memcpy(&value, bytes, size);
    port = T(value);
}
template <std::size_t N> static void put(VlWide<N> &port, const uint8_t *bytes, size_t size) {
    memcpy(port.data(), bytes, size);
}

template <typename T> static std::vector<T> read_file(const char *path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) { fprintf(stderr, "cannot read %s\n", path); exit(2); }
    std::vector<T> content(size_t(file.tellg()) / sizeof(T));
    file.seekg(0);
    file.read(reinterpret_cast<char *>(content.data()), std::streamsize(content.size() * sizeof(T)));
    return content;
}

// Read name=number from argv[first] on into options that are known; then go to the seed's place in the draws.
static void parse_options(int argc, char **argv, int first, Options &option) {
    option.insert(MEMORY_OPTIONS.begin(), MEMORY_OPTIONS.end());
    for (int i = first; i < argc; i++) {
        std::string word = argv[i], name = word.substr(0, word.find('='));
        if (!option.count(name) || name == word) { fprintf(stderr, "unknown option %s\n", argv[i]); exit(2); }
        option[name] = strtoull(word.c_str() + name.size() + 1, nullptr, 0);
    }
    for (uint64_t i = 0; i < option["seed"]; i++) draw();
}

static void check_limit(uint64_t cycle, uint64_t limit) {
    if (cycle < limit) return;
    fprintf(stderr, "stopped after %llu cycles\n", (unsigned long long)cycle);
    exit(3);
}

static void print_list(const char *name, const std::vector<uint64_t> &values, const char *end) {
    printf("\"%s\": [", name);
    for (size_t i = 0; i < values.size(); i++) printf("%s%llu", i ? ", " : "", (unsigned long long)values[i]);
    printf("]%s", end);
}

class AxiMemory {
  public:
    // What a cycle of the data port was: a beat taken; offered and not taken, or a pause; not yet due; not asked for.
    enum class Cycle { TAKEN, PAUSED, LATE, UNASKED };

    AxiMemory(const std::vector<uint8_t> &bytes, Options &option)
        : beats(0), bursts(0), bytes(bytes), size(option["word_bytes"]), gap(option["gap"]), slow(option["slow"]),
          latency(option["latency_min"]), spread(option["latency_max"] - latency + 1) {}

    void offer(Vboard &top, uint64_t cycle) {
        top.m_axi_arready = !chance(slow);
        const bool due = !flight.empty() && cycle >= flight.front().ready;
        skipped = false;
        if (!holding && due) { skipped = chance(gap); holding = !skipped; }
        top.m_axi_rvalid = holding;
        if (!holding) return;
        put(top.m_axi_rdata, &bytes[flight.front().address], size);
        top.m_axi_rlast = flight.front().beats == 1;
        top.m_axi_rresp = 0;
    }

    // A burst that leaves the memory or crosses a page ends the program with status 1.
    Cycle take(Vboard &top, uint64_t cycle) {
        Cycle what = skipped || holding ? Cycle::PAUSED : flight.empty() ? Cycle::UNASKED : Cycle::LATE;
        if (holding && top.m_axi_rready) {
            what = Cycle::TAKEN;
            holding = false;
            beats++;
            flight.front().address += size;
            if (!--flight.front().beats) flight.pop_front();
        }
        if (top.m_axi_arvalid && top.m_axi_arready) {
            const uint64_t length = uint64_t(top.m_axi_arlen) + 1, address = top.m_axi_araddr, page = 4096;
            if (address / page != (address + length * size - 1) / page ||
                address + length * size > bytes.size() || address % size) {
                fprintf(stderr, "bad burst: %llu, %llu beats\n", (unsigned long long)address,
                        (unsigned long long)length);
                exit(1);
            }
            flight.push_back({address, length, cycle + latency + draw() % spread});
            bursts++;
        }
        return what;
    }

    uint64_t beats, bursts;

  private:
    struct Burst { uint64_t address, beats, ready; };
    const std::vector<uint8_t> &bytes;
    const uint64_t size, gap, slow, latency, spread;
    std::deque<Burst> flight;
    bool holding = false, skipped = false;  // a beat is offered and not yet taken; it is due, but the memory pauses
};
