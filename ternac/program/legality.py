"""Check that a program may run: names, types, lengths, attributes and value ranges of every op.

:func:`check` raises IllegalProgram with op index, name and reason.  An executor runs only what passed, and
may rely on it: no intermediate overflows 32 bits (64 in REQUANT with a multiplier and in ops of imports),
no index leaves its table.
"""

from __future__ import annotations

from ternac.errors import IllegalProgram
from ternac.program.numerics import MAX_DIM, MAX_SHIFT
from ternac.program.ops import (
    KINDS,
    MAX_NAME,
    RESERVED_KINDS,
    Refused,
    Role,
    Value,
    check_name,
    state_read,
    state_written,
)
from ternac.program.program import TOKENIZER_TENSOR, Program
from ternac.program.special import SpecialTokens
from ternac.program.strict_json import BadJson, check_data, dump

MAX_OPS = 65535
MAX_CONSTS = 16384
MAX_STATES = 4096
MAX_STATE_WORDS = 1 << 24
MAX_TRITS = 1 << 33
MAX_META = 1 << 18
TOKENIZERS = ("bytes", "huggingface")
MAX_TOKENIZER = 1 << 26


def check(program: Program) -> None:
    """Raise IllegalProgram unless the program is legal."""
    infer(program)


def shapes(program: Program) -> dict[str, tuple[str, int]]:
    """Value name to (dtype, length); raises IllegalProgram like :func:`check`."""
    return {name: (value.dtype, value.length) for name, value in infer(program).items()}


def infer(program: Program) -> dict[str, Value]:
    """Value name to its type, in program order; raises IllegalProgram."""
    _check_frame(program)
    _check_consts(program)
    values: dict[str, Value] = {}
    touched: set[str] = set()
    for index, op in enumerate(program.ops):
        try:
            kind = KINDS.get(op.kind)
            if kind is None:
                later = "is not implemented by this version" if op.kind in RESERVED_KINDS else "is unknown"
                raise Refused(f"op kind {op.kind} {later}")
            kind.check_attrs(op)
            check_name(op.out)
            result = kind.infer(op, values, program)
            touched.update(state for state in (state_read(op), state_written(op)) if state)
            if kind.result:
                if op.out in values or op.out in program.consts or op.out in program.states:
                    raise Refused("its name is already taken")
                values[op.out] = result
        except Refused as reason:
            raise IllegalProgram(f"op {index} ({op.kind} {str(op.out)[:MAX_NAME]}): {reason}") from None
    for name in program.states:
        if name not in touched:
            raise IllegalProgram(f"state {name}: no op loads or stores it")
    roles = program.roles()
    for name in program.consts:
        if name not in roles:
            raise IllegalProgram(f"constant {name}: no op uses it")
    logits = values.get(program.logits) if isinstance(program.logits, str) else None
    if logits is None:
        raise IllegalProgram(f"logits: no op defines {program.logits!r}")
    if (logits.dtype, logits.length) != ("i16", program.vocab):
        raise IllegalProgram(
            f"logits: {program.logits} is {logits.dtype}[{logits.length}], not i16[{program.vocab}]"
        )
    return values


def _check_frame(program: Program) -> None:
    """Everything outside the ops: names, counts, states, tokenizer, special tokens."""
    try:
        for name in (program.name, *program.states, *program.consts):
            check_name(name)
    except Refused as reason:
        raise IllegalProgram(str(reason)) from None
    limits = (
        ("vocab", program.vocab, 1, MAX_DIM),
        ("logit_scale_bits", program.logit_scale_bits, 0, MAX_SHIFT),
        ("number of ops", len(program.ops), 1, MAX_OPS),
        ("number of constants", len(program.consts), 0, MAX_CONSTS),
        ("number of states", len(program.states), 0, MAX_STATES),
        *((f"length of state {name}", length, 1, MAX_DIM) for name, length in program.states.items()),
    )
    for what, value, low, high in limits:
        if type(value) is not int or not low <= value <= high:
            raise IllegalProgram(f"{what} is {value!r}, outside {low}..{high}")
    if program.state_words > MAX_STATE_WORDS:
        raise IllegalProgram(f"{program.state_words} words of state, limit {MAX_STATE_WORDS}")
    for name in program.states:
        if name in program.consts:
            raise IllegalProgram(f"state {name}: its name is already taken")
    try:
        check_data(dict(program.meta), "meta")
        size = len(dump(dict(program.meta)))
    except BadJson as reason:
        raise IllegalProgram(str(reason)) from None
    try:
        SpecialTokens.parse(program.meta, program.vocab)
    except ValueError as reason:
        raise IllegalProgram(str(reason)) from None
    if size > MAX_META:
        raise IllegalProgram(f"meta has {size} bytes, limit {MAX_META}")
    tokenizer = program.meta.get("tokenizer")
    if tokenizer is not None and tokenizer not in TOKENIZERS:
        raise IllegalProgram(f"tokenizer {str(tokenizer)[:40]!r} is not supported by this version")
    if tokenizer == "bytes" and program.vocab != 256:
        raise IllegalProgram(f"tokenizer 'bytes' needs a vocabulary of 256, not {program.vocab}")
    if (tokenizer == "huggingface") != bool(program.tokenizer):
        holds = f"{len(program.tokenizer)} bytes of tokenizer.json"
        raise IllegalProgram(f"tokenizer {str(tokenizer)[:40]!r} does not go with {holds}")
    if len(program.tokenizer) > MAX_TOKENIZER:
        raise IllegalProgram(f"the tokenizer has {len(program.tokenizer)} bytes, limit {MAX_TOKENIZER}")
    if program.tokenizer and TOKENIZER_TENSOR in program.consts:
        raise IllegalProgram(f"constant {TOKENIZER_TENSOR}: the name is the tokenizer's")


def _check_consts(program: Program) -> None:
    """Raise IllegalProgram unless every constant has one role, and the type and contents of that role."""
    roles: dict[str, Role] = {}
    for index, op in enumerate(program.ops):
        kind = KINDS.get(op.kind)
        for attr, role in kind.constants.items() if kind else ():
            name = op.attrs.get(attr)
            if isinstance(name, str) and roles.setdefault(name, role) != role:
                where = f"op {index} ({op.kind} {op.out})"
                raise IllegalProgram(f"{where}: {name} is already used as {roles[name].name}")
    for name, role in roles.items():
        try:
            if name in program.consts:  # one that is missing is refused at its op
                role.check(name, program.consts[name])
        except Refused as reason:
            raise IllegalProgram(str(reason)) from None
    if program.trits > MAX_TRITS:
        raise IllegalProgram(f"{program.trits} ternary weights, limit {MAX_TRITS}")
