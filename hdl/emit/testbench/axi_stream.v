  wire arvalid, arready_m, rvalid_m, rlast, rready;
  wire [31:0] araddr;
  wire [7:0] arlen;
  wire [@PORT_BITS@-1:0] rdata_m;
//--
    .m_axi_arid(), .m_axi_araddr(araddr), .m_axi_arlen(arlen), .m_axi_arsize(), .m_axi_arburst(),
    .m_axi_arcache(), .m_axi_arprot(), .m_axi_arvalid(arvalid), .m_axi_arready(arready_m),
    .m_axi_rid(1'b0), .m_axi_rdata(rdata_m), .m_axi_rresp(2'b00), .m_axi_rlast(rlast), .m_axi_rvalid(rvalid_m),
    .m_axi_rready(rready),
//--
  axi_memory #(.PORT_BITS(@PORT_BITS@), .WORDS(@MEMORY_WORDS@)) memory (
    .clk(clk), .rst(rst), .araddr(araddr), .arlen(arlen), .arvalid(arvalid), .arready(arready_m),
    .rdata(rdata_m), .rlast(rlast), .rvalid(rvalid_m), .rready(rready)
  );
