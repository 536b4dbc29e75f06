// A whole engine on its SDRAM (hdl/wide/sdram.py): loads the memory, runs tokens, keeps logits and vector memory.
//
//   Vboard MEMORY CODE MATRICES TOKENS LOGITS STATES --sdram PERIOD,TIMES [name=number ...]
//
// The files and options are those of wide_main.cpp; MEMORY is loaded through the engine's own port. `flip` is a word of
// it, plus one, of which two bits are changed on the way. Prints one JSON object; status 1: a fault, 3: over `limit`, 4: a
// rule of the chip was broken.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "Vboard.h"
#include "sdram_model.h"
#include "verilated.h"

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
        {"limit", UINT64_MAX}, {"vector_bytes", 0}, {"vectors", 0}, {"code_bytes", 0}, {"matrix_bytes", 0},
        {"constants_base", 0}, {"constants_words", 0}, {"rows_base", 0}, {"rows_words", 0}, {"warm", 0}, {"flip", 0},
        {"word_bytes", 0},
    };
    auto chip = std::make_unique<SdramModel>();
    bool set_up = false;
    for (int i = 7; i < argc; i++) {
        std::string word = argv[i], name = word.substr(0, word.find('='));
        if (name == "--sdram" && i + 1 < argc) set_up = chip->set_up(argv[++i]);
        else if (!option.count(name) || name == word) { fprintf(stderr, "unknown option %s\n", argv[i]); return 2; }
        else option[name] = strtoull(word.c_str() + name.size() + 1, nullptr, 0);
    }
    if (argc < 7 || !set_up) {
        fprintf(stderr, "usage: %s MEMORY CODE MATRICES TOKENS LOGITS STATES --sdram TIMES [name=number ...]\n", argv[0]);
        return 2;
    }
    auto memory = read_file<uint16_t>(argv[1]);
    const auto code = read_file<uint8_t>(argv[2]), matrices = read_file<uint8_t>(argv[3]);
    const auto tokens = read_file<uint16_t>(argv[4]);
    FILE *logits = fopen(argv[5], "wb"), *states = fopen(argv[6], "wb");
    if (!logits || !states) { fprintf(stderr, "cannot write results\n"); return 2; }
    if (option["flip"]) memory.at(option["flip"] - 1) ^= 0x4040;

    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Vboard>(context.get());
    const uint64_t limit = option["limit"];
    const size_t code_size = option["code_bytes"], matrix_size = option["matrix_bytes"];
    const size_t codes = code.size() / code_size, count = matrices.size() / matrix_size;
    uint64_t cycle = 0, words = 0, fault = 0, loaded = 0;
    int late = -1;  // what the chip sent a cycle ago

    top->clk = 0;
    top->rst = 1;
    for (int i = 0; i < 4; i++) top->clk = 0, top->eval(), top->clk = 1, top->eval();
    top->rst = 0;
    auto low = [&]() { top->clk = 0; top->eval(); };
    auto high = [&]() {
        const int word = late;
        late = chip->clock(top->sdram_cke,
                           top->sdram_cs << 3 | top->sdram_ras << 2 | top->sdram_cas << 1 | top->sdram_we, top->sdram_ba,
                           top->sdram_a, top->sdram_dqm, top->sdram_dq_oe ? top->sdram_dq_o : -1);
        words += late >= 0;
        if (chip->fault[0]) { fprintf(stderr, "SDRAM: %s\n", chip->fault); exit(4); }
        if (++cycle > limit) { fprintf(stderr, "stopped after %llu cycles\n", (unsigned long long)cycle); exit(3); }
        top->clk = 1;
        top->eval();
        top->sdram_dq_i = word < 0 ? 0xDEAD : word;
    };

    for (size_t i = 0; i < memory.size(); low(), i += top->write_ready, high()) {
        top->write_valid = 1;
        top->write_payload = uint64_t(memory[i]) << 24 | i;
    }
    top->write_valid = 0;
    for (size_t i = 0; i < codes; i++, low(), high()) {
        top->code_en = 1;
        top->code_addr = i;
        put(top->code_data, &code[i * code_size], code_size);
    }
    top->code_en = 0;
    for (size_t i = 0; i < count; i++, low(), high()) {
        top->matrix_en = 1;
        top->matrix_addr = i;
        put(top->matrix_data, &matrices[i * matrix_size], matrix_size);
    }
    top->matrix_en = 0;
    top->last_matrix = count - 1;
    top->constants_base = option["constants_base"];
    top->constants_words = option["constants_words"];
    top->rows_base = option["rows_base"];
    top->rows_words = option["rows_words"];
    while (low(), !(top->ready && top->written)) high();
    high();
    loaded = cycle;
    top->enable = 1;
    for (int i = 0; i < 2; i++) low(), high();

    std::vector<uint64_t> begun, ended, words_begun, words_ended;
    bool running = false, logits_out = false, done = false;
    uint64_t look = 0, pause = option["warm"];
    size_t token = 0;
    top->logits_ready = 1;
    while (ended.size() < tokens.size() || look) {
        top->tokens_valid = token < tokens.size() && !running && !look && !pause;
        if (pause) pause--;
        if (top->tokens_valid) top->tokens_payload = tokens[token];
        if (look) top->peek = (look - 1) / 4;
        low();
        if (top->tokens_valid && top->tokens_ready) {
            running = true, logits_out = done = false;
            begun.push_back(cycle), words_begun.push_back(words);
            token++;
        }
        if (top->logits_valid) {
            const uint32_t payload = top->logits_payload;
            const int16_t y = int16_t(payload & 0xffff);
            fwrite(&y, 2, 1, logits);
            logits_out |= payload >> 16 & 1;
        }
        if (top->done) done = true, ended.push_back(cycle), words_ended.push_back(words);
        if (look) {  // four cycles a word
            if (look % 4 == 0) {
                uint8_t word[64];
                get(top->peeked, word, option["vector_bytes"]);
                fwrite(word, 1, option["vector_bytes"], states);
            }
            look = look == 4 * option["vectors"] ? 0 : look + 1;
        }
        if (running && done && logits_out) running = false, look = 1;
        fault |= top->fault;
        high();
    }
    fclose(logits), fclose(states);
    printf("{\"cycles\": %llu, \"loaded\": %llu, \"fault\": %llu, ", (unsigned long long)cycle,
           (unsigned long long)loaded, (unsigned long long)fault);
    list("begun", begun, ", "), list("ended", ended, ", ");
    list("words_begun", words_begun, ", "), list("words_ended", words_ended, "}\n");
    top->final();
    return fault != 0;
}
