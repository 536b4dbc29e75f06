// The ECP5 block RAM for simulation, where yosys has only its ports: 2048 units of 9 bits behind two ports of 1, 2, 4,
// 9 or 18 bits each (up to 4 bits use 8 bits of a unit), or one that writes and one that reads 36 bits: port A
// writes DIA and above it DIB, port B reads onto DOA and above it DOB. Synchronous reset; an output register with
// REGMODE "OUTREG". A port that writes keeps its output, or with "READBEFOREWRITE" reads the old word; so does a
// read that meets the other port's write. Anything else ends the simulation: it is not modelled.
module DP16KD(
    input DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8,
    input DIA9, DIA10, DIA11, DIA12, DIA13, DIA14, DIA15, DIA16, DIA17,
    input ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13,
    input CLKA, CEA, OCEA, WEA, RSTA, CSA0, CSA1, CSA2,
    output DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8,
    output DOA9, DOA10, DOA11, DOA12, DOA13, DOA14, DOA15, DOA16, DOA17,
    input DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8,
    input DIB9, DIB10, DIB11, DIB12, DIB13, DIB14, DIB15, DIB16, DIB17,
    input ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
    input CLKB, CEB, OCEB, WEB, RSTB, CSB0, CSB1, CSB2,
    output DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8,
    output DOB9, DOB10, DOB11, DOB12, DOB13, DOB14, DOB15, DOB16, DOB17
);
    parameter DATA_WIDTH_A = 18, REGMODE_A = "NOREG", WRITEMODE_A = "NORMAL", CSDECODE_A = "0b000";
    parameter DATA_WIDTH_B = 18, REGMODE_B = "NOREG", WRITEMODE_B = "NORMAL", CSDECODE_B = "0b000";
    parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB", GSR = "ENABLED";
    parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC";
    parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0;
    parameter [319:0] INITVAL_04 = 0, INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0;
    parameter [319:0] INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0;
    parameter [319:0] INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0;
    parameter [319:0] INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0;
    parameter [319:0] INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0;
    parameter [319:0] INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0;
    parameter [319:0] INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0;
    parameter [319:0] INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0;
    parameter [319:0] INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0;
    parameter [319:0] INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0;
    parameter [319:0] INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0;
    parameter [319:0] INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0;
    parameter [319:0] INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0;
    parameter [319:0] INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0;
    parameter [319:0] INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0;

    reg [8:0] units [0:2047];
    localparam [64*320-1:0] INITIAL = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38,
        INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30,
        INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
        INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20,
        INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18,
        INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
        INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
        INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00
    };
    integer i;
    initial for (i = 0; i < 2048; i = i + 1) units[i] = INITIAL[i / 2 * 20 + i % 2 * 9 +: 9];

    wire [17:0] in_a = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9,
        DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
    wire [13:0] at_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5,
        ADA4, ADA3, ADA2, ADA1, ADA0};
    reg [35:0] read_a = 0, out_a = 0;
    wire [17:0] in_b = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9,
        DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0};
    wire [13:0] at_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5,
        ADB4, ADB3, ADB2, ADB1, ADB0};
    reg [35:0] read_b = 0, out_b = 0;

    always @(posedge CLKA) begin
        if (RSTA) out_a <= 0;
        else if (OCEA) out_a <= read_a;
        if (RSTA) read_a <= 0;
        else if (CEA && (!WEA || WRITEMODE_A != "NORMAL"))
            case (DATA_WIDTH_A)
                18: read_a <= {units[{at_a[13:4], 1'b1}], units[{at_a[13:4], 1'b0}]};
                9: read_a <= units[at_a[13:3]];
                4: read_a <= units[at_a[13:3]][{at_a[2], 2'd0} +: 4];
                2: read_a <= units[at_a[13:3]][{at_a[2:1], 1'd0} +: 2];
                default: read_a <= units[at_a[13:3]][at_a[2:0]];
            endcase
        if (CEA && WEA)
            case (DATA_WIDTH_A)
                36: begin
                    if (at_a[0]) units[{at_a[13:5], 2'd0}] <= in_a[8:0];
                    if (at_a[1]) units[{at_a[13:5], 2'd1}] <= in_a[17:9];
                    if (at_a[2]) units[{at_a[13:5], 2'd2}] <= in_b[8:0];
                    if (at_a[3]) units[{at_a[13:5], 2'd3}] <= in_b[17:9];
                end
                18: begin
                    if (at_a[0]) units[{at_a[13:4], 1'b0}] <= in_a[8:0];
                    if (at_a[1]) units[{at_a[13:4], 1'b1}] <= in_a[17:9];
                end
                9: units[at_a[13:3]] <= in_a[8:0];
                4: units[at_a[13:3]][{at_a[2], 2'd0} +: 4] <= in_a[3:0];
                2: units[at_a[13:3]][{at_a[2:1], 1'd0} +: 2] <= in_a[1:0];
                default: units[at_a[13:3]][at_a[2:0]] <= in_a[0];
            endcase
    end

    always @(posedge CLKB) begin
        if (RSTB) out_b <= 0;
        else if (OCEB) out_b <= read_b;
        if (RSTB) read_b <= 0;
        else if (CEB && (!WEB || WRITEMODE_B != "NORMAL"))
            case (DATA_WIDTH_B)
                36: read_b <= {units[{at_b[13:5], 2'd3}], units[{at_b[13:5], 2'd2}],
                               units[{at_b[13:5], 2'd1}], units[{at_b[13:5], 2'd0}]};
                18: read_b <= {units[{at_b[13:4], 1'b1}], units[{at_b[13:4], 1'b0}]};
                9: read_b <= units[at_b[13:3]];
                4: read_b <= units[at_b[13:3]][{at_b[2], 2'd0} +: 4];
                2: read_b <= units[at_b[13:3]][{at_b[2:1], 1'd0} +: 2];
                default: read_b <= units[at_b[13:3]][at_b[2:0]];
            endcase
        if (CEB && WEB)
            case (DATA_WIDTH_B)
                18: begin
                    if (at_b[0]) units[{at_b[13:4], 1'b0}] <= in_b[8:0];
                    if (at_b[1]) units[{at_b[13:4], 1'b1}] <= in_b[17:9];
                end
                9: units[at_b[13:3]] <= in_b[8:0];
                4: units[at_b[13:3]][{at_b[2], 2'd0} +: 4] <= in_b[3:0];
                2: units[at_b[13:3]][{at_b[2:1], 1'd0} +: 2] <= in_b[1:0];
                default: units[at_b[13:3]][at_b[2:0]] <= in_b[0];
            endcase
    end

    wire [35:0] from_a = REGMODE_A == "OUTREG" ? out_a : read_a, from_b = REGMODE_B == "OUTREG" ? out_b : read_b;
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9,
        DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0}
        = DATA_WIDTH_B == 36 ? from_b[17:0] : from_a[17:0];
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9,
        DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0}
        = DATA_WIDTH_B == 36 ? from_b[35:18] : from_b[17:0];

    always @(posedge CLKA, posedge CLKB)
        if (WRITEMODE_A == "WRITETHROUGH" || WRITEMODE_B == "WRITETHROUGH" || CLKAMUX == "INV" || CLKBMUX == "INV"
            || CSA0 || CSA1 || CSA2 || CSB0 || CSB1 || CSB2 || (RESETMODE != "SYNC" && (RSTA || RSTB))
            || (DATA_WIDTH_B == 36 && WEB)) begin
            $display("DP16KD %m: this use of the cell is not modelled");
            $finish;
        end
endmodule
