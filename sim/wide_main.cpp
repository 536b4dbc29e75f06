// A whole engine for imported models (hdl/wide/engine.py) on a behavioural AXI4 memory.
//
//   Vboard MEMORY CODE MATRICES TOKENS LOGITS STATES [name=number ...]
//   Vboard MEMORY CODE MATRICES - - - [name=number ...]
//
// MEMORY is memory from address 0 (axi_memory.h), CODE instructions of `code_bytes`, MATRICES descriptors of
// `matrix_bytes`, TOKENS uint16. Of every token LOGITS gets int16 of each row, STATES the first `vectors` words of
// vector memory; in `stall` of 1024 cycles nobody takes a logit. With `together` a token is given as soon as the one
// before has ended; else vector memory is read in between. At the end it prints one JSON object.
//
// The second form serves: standard input has a token (uint16), how many words of vector memory are written before it
// (uint16), and those, `write_bytes` each. Standard output gets, when the token has ended, logits and states as above,
// then its cycles, its beats and the faults (uint64). The clock rests while no token is there.
// Status 1: a burst or, in the first form, a fault is wrong; 3: it took over `limit`
// cycles, in the second form for one token.

#include <memory>

#include "axi_memory.h"

template <typename T> static void get(const T &port, uint8_t *bytes, size_t size) {
    const uint64_t value = port;
    memcpy(bytes, &value, size);
}
template <std::size_t N> static void get(const VlWide<N> &port, uint8_t *bytes, size_t size) {
    memcpy(bytes, port.data(), size);
}

// Read `size` bytes of standard input; false at its end.
static bool receive(void *bytes, size_t size) {
    const size_t found = fread(bytes, 1, size, stdin);
    if (found && found < size) { fprintf(stderr, "standard input ended within a token\n"); exit(2); }
    return found == size;
}

int main(int argc, char **argv) {
    Options option = {
        {"stall", 0}, {"limit", UINT64_MAX}, {"together", 0}, {"vector_bytes", 0}, {"vectors", 0}, {"write_bytes", 0},
        {"code_bytes", 0}, {"matrix_bytes", 0}, {"constants_base", 0}, {"constants_words", 0}, {"rows_base", 0},
        {"rows_words", 0}, {"warm", 0},
    };
    if (argc < 7) {
        fprintf(stderr, "usage: %s MEMORY CODE MATRICES TOKENS LOGITS STATES [name=number ...]\n", argv[0]);
        return 2;
    }
    parse_options(argc, argv, 7, option);
    const bool serves = !strcmp(argv[4], "-");
    const auto bytes = read_file<uint8_t>(argv[1]), code = read_file<uint8_t>(argv[2]);
    const auto matrices = read_file<uint8_t>(argv[3]);
    std::vector<uint16_t> tokens;
    if (!serves) tokens = read_file<uint16_t>(argv[4]);
    FILE *logits = serves ? stdout : fopen(argv[5], "wb"), *states = serves ? stdout : fopen(argv[6], "wb");
    if (!logits || !states) { fprintf(stderr, "cannot write results\n"); return 2; }

    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Vboard>(context.get());
    const uint64_t stall = option["stall"], limit = option["limit"], together = option["together"];
    const uint64_t vectors = option["vectors"], write_size = option["write_bytes"];
    const size_t code_size = option["code_bytes"], matrix_size = option["matrix_bytes"];
    const size_t codes = code.size() / code_size, count = matrices.size() / matrix_size;
    AxiMemory memory(bytes, option);
    std::vector<uint64_t> begun, ended, beats_begun, beats_ended, last_logit;
    uint64_t cycle = 0, fault = 0;
    size_t token = 0;

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

    // A token runs, or after it (`look` counts) vector memory is read, or before it written.
    bool running = false, logits_out = false, done = false;
    uint64_t look = 0, pause = option["warm"], writes_left = 0, asked_at = 0;
    std::vector<uint8_t> writes;
    while (serves || ended.size() < tokens.size() || look) {
        check_limit(cycle - asked_at, limit);
        if (serves && !running && !look && !pause && token == tokens.size()) {
            uint16_t asked[2];
            if (!receive(asked, sizeof asked)) break;
            asked_at = cycle;
            tokens.push_back(asked[0]);
            writes_left = asked[1];
            writes.resize(writes_left * write_size);
            if (writes_left && !receive(writes.data(), writes.size())) return 2;
        }
        top->wr_en = writes_left > 0;
        if (top->wr_en) put(top->wr, &writes[writes.size() - writes_left-- * write_size], write_size);
        top->tokens_valid = token < tokens.size() && !running && !look && !pause && !top->wr_en;
        if (pause) pause--;
        if (top->tokens_valid) top->tokens_payload = tokens[token];
        memory.offer(*top, cycle);
        top->logits_ready = !chance(stall);
        if (look) top->peek = (look - 1) / 4;
        top->clk = 0;
        top->eval();
        if (top->tokens_valid && top->tokens_ready) {
            running = true, logits_out = done = false;
            begun.push_back(cycle), beats_begun.push_back(memory.beats);
            token++;
        }
        memory.take(*top, cycle);
        if (top->logits_valid && top->logits_ready) {
            const uint32_t payload = top->logits_payload;
            const int16_t y = int16_t(payload & 0xffff);
            fwrite(&y, 2, 1, logits);
            if (payload >> 16 & 1) logits_out = true, last_logit.push_back(cycle);
        }
        if (top->done) done = true, ended.push_back(cycle), beats_ended.push_back(memory.beats);
        if (look) {  // four cycles a word
            if (look % 4 == 0) {
                uint8_t word[512];
                get(top->peeked, word, option["vector_bytes"]);
                fwrite(word, 1, option["vector_bytes"], states);
            }
            look = look == 4 * vectors ? 0 : look + 1;
            if (serves && !look) {
                const uint64_t counts[] = {ended.back() - begun.back(), beats_ended.back() - beats_begun.back(), fault};
                fwrite(counts, sizeof counts, 1, stdout);
                if (fflush(stdout)) return 1;  // nobody listens any more
            }
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
    if (!serves) {
        fclose(logits), fclose(states);
        printf("{\"cycles\": %llu, \"beats\": %llu, \"fault\": %llu, ", (unsigned long long)cycle,
               (unsigned long long)memory.beats, (unsigned long long)fault);
        print_list("begun", begun, ", "), print_list("ended", ended, ", "), print_list("last_logit", last_logit, ", ");
        print_list("beats_begun", beats_begun, ", "), print_list("beats_ended", beats_ended, "}\n");
    }
    top->final();
    return !serves && fault != 0;
}
