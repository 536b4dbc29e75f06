// An SDRAM of 16 Mi words of 16 bits that knows its data sheet: the rules of sim/sdram_model.py, for Verilator.
//
// clock() is one rising edge of the chip's clock. A broken rule is named in `fault`. Only what a controller with read
// bursts of 8 and single writes uses is known; everything else is a fault too.
#pragma once

#include <cstdint>
#include <cstdio>
#include <vector>

class SdramModel {
public:
    static constexpr int TIMES = 10;
    char fault[160] = "";

    // "period,tRCD,tRP,tRAS,tRC,tRFC,tRRD,tWR,refresh interval,power-up" in ps; false unless all are there.
    bool set_up(const char *text) {
        long long t[TIMES];
        int used = 0;
        if (sscanf(text, "%lld,%lld,%lld,%lld,%lld,%lld,%lld,%lld,%lld,%lld%n", t, t + 1, t + 2, t + 3, t + 4, t + 5, t + 6,
                   t + 7, t + 8, t + 9, &used) != TIMES || text[used] || t[0] <= 0)
            return false;
        period = t[0], rcd = t[1], rp = t[2], ras = t[3], rc = t[4], rfc = t[5], rrd = t[6];
        wr = t[7] > 2 * period ? t[7] : 2 * period, interval = t[8], power_up = t[9];
        return true;
    }

    // code: CS, RAS, CAS, WE, 1 = active; dq: what the controller drives, or -1. Returns what the chip drives, or -1.
    int clock(bool cke, int code, int ba, int a, int dqm, int dq) {
        now = edge * period;
        int command = code & 8 ? code & 7 : 0;
        if (!cke) return fail("CKE is low");
        if (command) {
            if (now < power_up) return fail("a command before the end of power-up");
            need(refreshed, rfc, "tRFC");
            need(moded, 2 * period, "tMRD");
            if (!live && (command == 4 || command == 2 || command == 3)) return fail("not initialised");
            switch (command) {
            case 4: activate(ba, a); break;
            case 2: read(ba, a); break;
            case 3: write(ba, a, dqm, dq); break;
            case 5: precharge(ba, a); break;
            case 6: refresh(); break;
            case 7: mode(ba, a); break;
            default: fail("BURST STOP is not part of this model");
            }
        }
        if (live && (now - live_since) / interval - done > 8) return fail("refreshes are missing");
        if (dqm && live && command == 2) return fail("DQM at a read is not part of this model");
        int driven = out[edge & 15];
        out[edge & 15] = -1;
        if (dq >= 0 && (driven >= 0 || drove + 1 == edge)) return fail("bus contention");
        if (driven >= 0) drove = edge;
        edge++;
        return driven;
    }

private:
    static constexpr int64_t NEVER = -(int64_t(1) << 60);
    struct Bank {
        int row = -1;
        int64_t activated = NEVER, precharged = NEVER, busy = NEVER;
    } banks[4];
    std::vector<uint16_t> words = std::vector<uint16_t>(size_t(1) << 24);
    int64_t period = 1, rcd = 0, rp = 0, ras = 0, rc = 0, rfc = 0, rrd = 0, wr = 0, interval = 1, power_up = 0;
    int64_t now = 0, edge = 0, drove = -2, refreshed = NEVER, moded = NEVER, last_activate = NEVER, live_since = 0, done = 0;
    int cas = 0, first_refreshes = 0;
    bool live = false, precharged_all = false;
    int out[16] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

    int fail(const char *rule) {
        if (!fault[0])
            snprintf(fault, sizeof fault, "edge %lld (%lld ns): %s", (long long)edge, (long long)(now / 1000), rule);
        return -1;
    }
    void need(int64_t since, int64_t least, const char *rule) {
        if (now - since < least) fail(rule);
    }
    void all_idle() {
        for (const Bank &bank : banks) {
            if (bank.row >= 0) fail("a row is open");
            need(bank.precharged, rp, "tRP");
        }
    }
    void mode(int ba, int a) {
        all_idle();
        if (!precharged_all || first_refreshes < 2) fail("mode before precharge and two refreshes");
        cas = a >> 4 & 7;
        if (ba || (a & ~0x70) != 0x203 || (cas != 2 && cas != 3)) fail("this mode is not part of this model");
        moded = now;
        if (!live) live = true, live_since = now;
    }
    void refresh() {
        all_idle();
        refreshed = now;
        if (live) done++;
        else first_refreshes++;
    }
    void activate(int ba, int a) {
        Bank &bank = banks[ba];
        if (bank.row >= 0) fail("ACTIVATE of a bank with an open row");
        need(bank.precharged, rp, "tRP");
        need(bank.activated, rc, "tRC");
        need(last_activate, rrd, "tRRD");
        bank.row = a, bank.activated = last_activate = now;
    }
    void precharge(int ba, int a) {
        precharged_all |= a >> 10 & 1;
        for (int i = 0; i < 4; i++) {
            Bank &bank = banks[i];
            if ((!(a >> 10 & 1) && i != ba) || bank.row < 0) continue;
            need(bank.activated, ras, "tRAS");
            if (now - bank.activated > 100000000) fail("a row was open for too long");
            need(bank.busy, 0, "precharge within a burst or tWR");
            bank.row = -1, bank.precharged = now;
        }
    }
    size_t column(int ba, int a) {
        Bank &bank = banks[ba];
        if (bank.row < 0) fail("no row is open");
        if (a >> 10 & 1) fail("auto precharge is not part of this model");
        need(bank.activated, rcd, "tRCD");
        return (size_t(bank.row < 0 ? 0 : bank.row) << 2 | ba) << 9 | (a & 511);
    }
    void read(int ba, int a) {
        size_t at = column(ba, a);
        for (int i = 0; i < 8; i++) out[(edge + cas + i) & 15] = words[(at & ~size_t(7)) | ((at + i) & 7)];
        banks[ba].busy = now + 8 * period;
    }
    void write(int ba, int a, int dqm, int dq) {
        size_t at = column(ba, a);
        if (dq < 0) { fail("nobody drives DQ"); return; }
        uint16_t keep = (dqm & 1 ? 0x00FF : 0) | (dqm & 2 ? 0xFF00 : 0);
        words[at] = (words[at] & keep) | (dq & ~keep);
        if (now + wr > banks[ba].busy) banks[ba].busy = now + wr;
    }
};
