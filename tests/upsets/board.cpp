// The simulated board with faults: a bit of its state flips, or it is reset, at a cycle that the host names.
//
//   board SOCKET
//
// Each connection to the socket is a board of its own, a copy (fork) of the one that the first connection left: so a
// program is loaded once. Packets are a letter, a length of 4 bytes, and that many bytes. From the host: W bytes for the
// board; F "cycle item bit row", a bit to flip; R "cycle", a reset at that cycle; Z, a reset now; L, list the items.
// To the host: D bytes of the board; I, the board waits, and T, it makes no progress, each with the number of bytes that
// had come; L lines "item name bits rows"; C the cycle, with I and T. Time is that of the board: a host that reads I or
// T after all that it wrote would wait in vain.

#include "design.cpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

static const uint64_t STUCK = 60000;    // cycles without a byte in or out
static const uint64_t LONGEST = 400000; // cycles after the host's last word

struct Item {
    std::string name;
    cxxrtl::debug_item item;
};

struct Board {
    cxxrtl_design::p_upset__board top;
    cxxrtl::debug_items all;
    std::vector<Item> items;
    uint32_t *clk, *rst, *rx_valid, *rx_payload, *rx_ready, *tx_valid, *tx_payload, *tx_ready, *idle;

    uint32_t *port(const char *name) { return all.at(name).front().curr; }

    Board() {
        top.debug_info(&all, nullptr, "");
        clk = port("clk"), rst = port("rst"), rx_valid = port("rx_valid"), rx_payload = port("rx_payload");
        rx_ready = port("rx_ready"), tx_valid = port("tx_valid"), tx_payload = port("tx_payload");
        tx_ready = port("tx_ready"), idle = port("idle");
        for (auto &entry : all.table)
            for (auto &item : entry.second)
                if (item.type == cxxrtl::debug_item::MEMORY ||
                    (item.type == cxxrtl::debug_item::WIRE && (item.flags & cxxrtl::debug_item::DRIVEN_SYNC)))
                    items.push_back({entry.first, item});
    }

    void flip(size_t number, size_t bit, size_t row) {
        if (number >= items.size()) return;
        auto &item = items[number].item;
        size_t chunks = (item.width + 31) / 32, at = row * chunks + bit / 32;
        item.curr[at] ^= 1u << bit % 32;
        if (item.next) item.next[at] = item.curr[at];
    }

    void reset() {
        *rst = 1;
        *rx_valid = 0;
        for (int i = 0; i < 4; i++) {
            *clk = 0, top.step();
            *clk = 1, top.step();
        }
        *rst = 0;
    }
};

struct Flip {
    uint64_t cycle;
    size_t item, bit, row;
};

static bool all_of(int fd, void *data, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t n = read(fd, (char *)data + done, size - done);
        if (n <= 0) return false;
        done += n;
    }
    return true;
}

static void packet(int fd, char kind, const std::string &data) {
    uint32_t size = data.size();
    std::string out(1, kind);
    out.append((char *)&size, 4);
    out += data;
    for (size_t done = 0; done < out.size();) {
        ssize_t n = write(fd, out.data() + done, out.size() - done);
        if (n <= 0) _exit(0);
        done += n;
    }
}

static void serve(Board &board, int fd) {
    std::deque<uint8_t> input;
    std::string output;
    std::vector<Flip> flips;
    std::vector<uint64_t> resets;
    uint64_t cycle = 0, progress = 0, heard = 0, came = 0;
    bool stopped = false;
    *board.tx_ready = 1;
    auto wait = [&](char why) {
        if (!output.empty()) packet(fd, 'D', output), output.clear();
        if (why) packet(fd, why, std::to_string(came) + " " + std::to_string(cycle));
        char kind;
        uint32_t size;
        if (!all_of(fd, &kind, 1) || !all_of(fd, &size, 4)) return false;
        std::string data(size, 0);
        if (!all_of(fd, &data[0], size)) return false;
        if (kind == 'W') {
            input.insert(input.end(), data.begin(), data.end());
            came += size;
        } else if (kind == 'F') {
            Flip f;
            if (sscanf(data.c_str(), "%lu %zu %zu %zu", &f.cycle, &f.item, &f.bit, &f.row) == 4) flips.push_back(f);
        } else if (kind == 'R') {
            resets.push_back(strtoull(data.c_str(), nullptr, 10));
        } else if (kind == 'Z') {
            board.reset();
            input.clear();
        } else if (kind == 'L') {
            std::string text;
            for (size_t i = 0; i < board.items.size(); i++) {
                auto &one = board.items[i];
                text += std::to_string(i) + " " + std::to_string(one.item.width) + " " + std::to_string(one.item.depth) +
                        " " + one.name + "\n";
            }
            packet(fd, 'L', text);
        }
        progress = heard = cycle;
        stopped = false;
        return true;
    };
    if (!wait(0)) return;
    for (;;) {
        if (stopped) {
            if (!wait('T')) return;
            continue;
        }
        *board.rx_valid = !input.empty();
        *board.rx_payload = input.empty() ? 0 : input.front();
        *board.clk = 0;
        board.top.step();
        if (input.empty() && *board.idle && !*board.tx_valid) {
            if (!wait('I')) return;
            continue;
        }
        if (*board.rx_valid && *board.rx_ready) input.pop_front(), progress = cycle;
        if (*board.tx_valid) output += (char)*board.tx_payload, progress = cycle;
        for (auto &f : flips)
            if (f.cycle == cycle) board.flip(f.item, f.bit, f.row);
        *board.clk = 1;
        board.top.step();
        for (auto at : resets)
            if (at == cycle) board.reset();
        cycle++;
        stopped = cycle - progress > STUCK || cycle - heard > LONGEST;
    }
}

int main(int, char **argv) {
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    if (bind(listener, (sockaddr *)&address, sizeof address) || listen(listener, 8)) return 1;
    auto board = std::make_unique<Board>();
    board->reset();
    printf("ready\n");
    fflush(stdout);
    for (bool first = true;; first = false) {
        int fd = accept(listener, nullptr, nullptr);
        if (fd < 0) continue;
        if (first) {
            serve(*board, fd);
        } else if (!fork()) {
            close(listener);
            serve(*board, fd);
            _exit(0);
        }
        close(fd);
        while (waitpid(-1, nullptr, WNOHANG) > 0) {}
    }
}
