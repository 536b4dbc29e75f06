"""Link controller: byte stream on one side, engine core on the other."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac import protocol
from ternac.hdl.link.ports import ByteStream, EngineSignature


class LinkController(wiring.Component):
    """Receives frames, checks, executes and answers them (interface skeleton).

    Members: ``rx`` In(stream of bytes), ``tx`` Out(stream of bytes), ``engine`` Out(EngineSignature), ``idle`` Out(1):
    nothing will happen before the next received byte; ``fault`` Out(1): pulse, a frame was dropped or refused.
    """

    def __init__(self, clock_hz: int, bitstream_id: bytes, geometry_hash: bytes,
                 program_hash_init: bytes = bytes(protocol.HASH_BYTES), *,
                 word_bytes: Sequence[int] = (2, 3, 1, 2, 2, 1, 2), crc_bits: int = 8) -> None:
        self.identity = protocol.Identity(bitstream_id, geometry_hash, clock_hz, program_hash_init)
        self.identity.encode()
        self.word_bytes = tuple(word_bytes)
        self.crc_bits = crc_bits
        super().__init__({"rx": In(ByteStream), "tx": Out(ByteStream), "engine": Out(EngineSignature),
                          "idle": Out(1), "fault": Out(1)})

    def elaborate(self, platform: object) -> Module:
        return Module()
