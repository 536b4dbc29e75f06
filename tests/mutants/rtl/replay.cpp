// Replays recorded cycles to a netlist that holds every mutant, chosen by its input `mutant`.
//
// replay PORTS TRACE FIRST LAST: a line for each mutant: its number; "killed", cycle and output where an output that
// counts differs; "masked" where only outputs differ that mean nothing at that cycle; "unseen". Mutant 0 is the
// original: it must be unseen, masked outputs included.
#include "design.cpp"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

struct Port {
    std::string name;
    unsigned bits, words, at;
    bool out;
    int when;  // index of the port of which a bit says whether this one counts; -1: always
    unsigned bit;
};

typedef std::vector<std::vector<uint32_t>> Trace;

static uint32_t *place(cxxrtl::debug_items &items, const std::string &name) {
    if (!items.count(name)) return nullptr;
    return items.at(name).front().curr;
}

int main(int, char **argv) {
    std::vector<Port> ports;
    std::ifstream list(argv[1]);
    unsigned width = 0;
    for (Port p; list >> p.name >> p.bits >> p.out >> p.when >> p.bit;) {
        p.words = (p.bits + 31) / 32, p.at = width, width += p.words;
        ports.push_back(p);
    }
    std::vector<Trace> traces;
    std::ifstream file(argv[2], std::ios::binary);
    for (uint32_t count; file.read((char *)&count, 4);) {
        Trace trace(count, std::vector<uint32_t>(width));
        for (auto &row : trace) file.read((char *)row.data(), 4 * width);
        traces.push_back(std::move(trace));
    }
    for (int mutant = atoi(argv[3]); mutant <= atoi(argv[4]); mutant++) {
        std::string verdict = "unseen";
        bool killed = false;
        for (size_t t = 0; t < traces.size() && !killed; t++) {
            auto top = std::make_unique<cxxrtl_design::p_mutated__block>();
            cxxrtl::debug_items items;
            top->debug_info(&items, nullptr, "");
            std::vector<uint32_t *> here;
            for (auto &p : ports) here.push_back(place(items, p.name));
            uint32_t *clk = place(items, "clk"), *choice = place(items, "mutant");
            if (choice) *choice = mutant;
            for (size_t cycle = 0; cycle < traces[t].size() && !killed; cycle++) {
                const auto &row = traces[t][cycle];
                for (size_t i = 0; i < ports.size(); i++)
                    if (!ports[i].out && here[i])
                        for (unsigned w = 0; w < ports[i].words; w++) here[i][w] = row[ports[i].at + w];
                if (clk) *clk = 0;
                top->step();
                for (size_t i = 0; i < ports.size() && !killed; i++) {
                    const Port &p = ports[i];
                    if (!p.out || !here[i]) continue;
                    bool differs = false;
                    for (unsigned w = 0; w < p.words; w++) differs |= here[i][w] != row[p.at + w];
                    if (!differs) continue;
                    // of a port that carries its own bit that bit counts always
                    auto says = [&](const uint32_t *words) { return words[p.bit / 32] >> p.bit % 32 & 1; };
                    if (p.when >= 0 && !says(&row[ports[p.when].at]) && !(here[p.when] && says(here[p.when]))) {
                        verdict = "masked";
                        continue;
                    }
                    killed = true;
                    printf("%d killed %zu.%zu %s\n", mutant, t, cycle, p.name.c_str());
                }
                if (clk) *clk = 1;
                top->step();
            }
        }
        if (!killed) printf("%d %s\n", mutant, verdict.c_str());
        fflush(stdout);
    }
}
