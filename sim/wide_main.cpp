// A whole engine for imported models (hdl/wide/engine.py) on a behavioural AXI4 memory.
//
//   Vboard MEMORY CODE MATRICES TOKENS LOGITS STATES [name=number ...]
//
// MEMORY is memory from address 0, CODE instructions of `code_bytes`, MATRICES descriptors of `matrix_bytes`, TOKENS
// uint16. Of every token LOGITS gets int16 of each row, STATES all words of vector memory. The memory is that of
// stream_main.cpp: `latency_min` to `latency_max`, `gap`, `slow`; in `stall` of 1024 cycles nobody takes a logit.
// With `together` a token is given as soon as the one before has ended; else vector memory is read in between.
// Prints one JSON object. Status 1: a burst or a fault is wrong; 3: it took over `limit` cycles.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "Vboard.h"
#include "verilated.h"

struct Burst { uint64_t address, beats, ready; };

static uint64_t state = 0x9e3779b97f4a7c15ull;
static uint32_t draw() {  // xorshift64*
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return uint32_t((state * 0x2545f4914f6cdd1dull) >> 32);
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
template <typename T> static void get(const T &port, uint8_t *bytes, size_t size) {
    const uint64_t value = port;
    memcpy(bytes, &value, size);
}
template <std::size_t N> static void get(const VlWide<N> &port, uint8_t *bytes, size_t size) {
    memcpy(bytes, port.data(), size);
}

template <typename T> static std::vector<T> read_file(const char *path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) { fprintf(stderr, "cannot read %s\n", path); exit(2); }
    std::vector<T> content(size_t(file.tellg()) / sizeof(T));
    file.seekg(0);
    file.read(reinterpret_cast<char *>(content.data()), std::streamsize(content.size() * sizeof(T)));
    return content;
}

static void list(const char *name, const std::vector<uint64_t> &values, const char *end) {
    printf("\"%s\": [", name);
    for (size_t i = 0; i < values.size(); i++) printf("%s%llu", i ? ", " : "", (unsigned long long)values[i]);
    printf("]%s", end);
}

int main(int argc, char **argv) {
    std::map<std::string, uint64_t> option = {
        {"latency_min", 0}, {"latency_max", 0}, {"gap", 0}, {"slow", 0}, {"stall", 0}, {"seed", 1},
        {"limit", UINT64_MAX}, {"together", 0}, {"word_bytes", 0}, {"vector_bytes", 0}, {"vectors", 0},
        {"code_bytes", 0}, {"matrix_bytes", 0}, {"constants_base", 0}, {"constants_words", 0}, {"rows_base", 0},
        {"rows_words", 0}, {"warm", 0},
    };
    if (argc < 7) {
        fprintf(stderr, "usage: %s MEMORY CODE MATRICES TOKENS LOGITS STATES [name=number ...]\n", argv[0]);
        return 2;
    }
    for (int i = 7; i < argc; i++) {
        std::string word = argv[i], name = word.substr(0, word.find('='));
        if (!option.count(name) || name == word) { fprintf(stderr, "unknown option %s\n", argv[i]); return 2; }
        option[name] = strtoull(word.c_str() + name.size() + 1, nullptr, 0);
    }
    for (uint64_t i = 0; i < option["seed"]; i++) draw();
    const auto memory = read_file<uint8_t>(argv[1]), code = read_file<uint8_t>(argv[2]);
    const auto matrices = read_file<uint8_t>(argv[3]);
    const auto tokens = read_file<uint16_t>(argv[4]);
    FILE *logits = fopen(argv[5], "wb"), *states = fopen(argv[6], "wb");
    if (!logits || !states) { fprintf(stderr, "cannot write results\n"); return 2; }

    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Vboard>(context.get());
    const uint64_t size = option["word_bytes"], gap = option["gap"], slow = option["slow"], stall = option["stall"];
    const uint64_t latency = option["latency_min"], spread = option["latency_max"] - latency + 1;
    const uint64_t limit = option["limit"], page = 4096, together = option["together"], warm = option["warm"];
    const size_t code_size = option["code_bytes"], matrix_size = option["matrix_bytes"];
    const size_t codes = code.size() / code_size, count = matrices.size() / matrix_size;
    std::deque<Burst> flight;
    std::vector<uint64_t> begun, ended, beats_begun, beats_ended, last_logit;
    uint64_t cycle = 0, beats = 0, fault = 0;
    size_t token = 0;
    bool holding = false;  // a beat is offered and not yet taken

    auto clock = [&]() { top->clk = 0; top->eval(); top->clk = 1; top->eval(); };
    top->rst = 1;
    for (int i = 0; i < 4; i++) clock();
    top->rst = 0;
    for (size_t i = 0; i < codes; i++) {
        top->code_en = 1;
        top->code_addr = i;
        put(top->code_data, &code[i * code_size], code_size);
        clock();
    }
    top->code_en = 0;
    for (size_t i = 0; i < count; i++) {
        top->matrix_en = 1;
        top->matrix_addr = i;
        put(top->matrix_data, &matrices[i * matrix_size], matrix_size);
        clock();
    }
    top->matrix_en = 0;
    top->last_matrix = count - 1;
    top->constants_base = option["constants_base"];
    top->constants_words = option["constants_words"];
    top->rows_base = option["rows_base"];
    top->rows_words = option["rows_words"];
    top->enable = 1;

    // A token runs, or after it (`look` counts) vector memory is read.
    bool running = false, logits_out = false, done = false;
    uint64_t look = 0, pause = warm;
    while (ended.size() < tokens.size() || look) {
        if (cycle >= limit) { fprintf(stderr, "stopped after %llu cycles\n", (unsigned long long)cycle); return 3; }
        top->tokens_valid = token < tokens.size() && !running && !look && !pause;
        if (pause) pause--;
        if (top->tokens_valid) top->tokens_payload = tokens[token];
        top->m_axi_arready = !chance(slow);
        const bool due = !flight.empty() && cycle >= flight.front().ready;
        if (!holding && due) holding = !chance(gap);
        top->m_axi_rvalid = holding;
        if (holding) {
            const Burst &burst = flight.front();
            put(top->m_axi_rdata, &memory[burst.address], size);
            top->m_axi_rlast = burst.beats == 1;
            top->m_axi_rresp = 0;
        }
        top->logits_ready = !chance(stall);
        if (look) top->peek = (look - 1) / 4;
        top->clk = 0;
        top->eval();
        if (top->tokens_valid && top->tokens_ready) {
            running = true, logits_out = done = false;
            begun.push_back(cycle), beats_begun.push_back(beats);
            token++;
        }
        if (holding && top->m_axi_rready) {
            holding = false;
            beats++;
            flight.front().address += size;
            if (!--flight.front().beats) flight.pop_front();
        }
        if (top->m_axi_arvalid && top->m_axi_arready) {
            const uint64_t length = uint64_t(top->m_axi_arlen) + 1, address = top->m_axi_araddr;
            if (address / page != (address + length * size - 1) / page ||
                address + length * size > memory.size() || address % size) {
                fprintf(stderr, "bad burst: %llu, %llu beats\n", (unsigned long long)address,
                        (unsigned long long)length);
                return 1;
            }
            flight.push_back({address, length, cycle + latency + draw() % spread});
        }
        if (top->logits_valid && top->logits_ready) {
            const uint32_t payload = top->logits_payload;
            const int16_t y = int16_t(payload & 0xffff);
            fwrite(&y, 2, 1, logits);
            if (payload >> 16 & 1) logits_out = true, last_logit.push_back(cycle);
        }
        if (top->done) done = true, ended.push_back(cycle), beats_ended.push_back(beats);
        if (look) {  // four cycles a word
            if (look % 4 == 0) {
                uint8_t word[64];
                get(top->peeked, word, option["vector_bytes"]);
                fwrite(word, 1, option["vector_bytes"], states);
            }
            look = look == 4 * option["vectors"] ? 0 : look + 1;
        }
        if (running && done && logits_out) {
            running = false;
            if (!together || token == tokens.size()) look = 1;
        }
        fault |= top->fault;
        top->clk = 1;
        top->eval();
        cycle++;
    }
    fclose(logits), fclose(states);
    printf("{\"cycles\": %llu, \"beats\": %llu, \"fault\": %llu, ", (unsigned long long)cycle,
           (unsigned long long)beats, (unsigned long long)fault);
    list("begun", begun, ", "), list("ended", ended, ", "), list("last_logit", last_logit, ", ");
    list("beats_begun", beats_begun, ", "), list("beats_ended", beats_ended, "}\n");
    top->final();
    return fault != 0;
}
