"""Mutants of a Python module: one operator, number, condition or statement of it is another."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE,),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.GtE,),
    ast.GtE: (ast.Gt,),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Add,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
}
CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
SPARED = (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)
"""Not mutated: messages, and what says nothing at run time."""
SPARED_CALLS = {"require", "Refused", "TypeVar", "cast"}
"""Calls whose text arguments are messages: only their numbers are mutated."""


@dataclass(frozen=True)
class Mutant:
    """A change of one place. ``key`` names it by what the line says, so that it outlives other edits."""

    where: str
    line: int
    text: str
    change: str
    place: tuple[int, int]
    """Number of the node in the tree, and which of its changes."""
    copy: int = 0
    """Which of the mutants of one function with the same text and change."""

    @property
    def key(self) -> str:
        again = f" #{self.copy + 1}" if self.copy else ""
        return f"{self.where}: {self.text}: {self.change}{again}"

    def code(self, source: str, file: str) -> object:
        """Return the mutated module, compiled."""
        tree = ast.parse(source)
        number, which = self.place
        node = [*ast.walk(tree)][number]
        changed = [*_changes(node)][which][1]
        return compile(ast.fix_missing_locations(_replaced(tree, node, changed)), file, "exec")


def _replaced(tree: ast.Module, old: ast.AST, new: ast.AST) -> ast.Module:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list):
                setattr(parent, name, [new if one is old else one for one in value])
    return tree


def _with(node: ast.AST, **fields: object) -> ast.AST:
    made = copy.copy(node)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _negated(test: ast.expr) -> ast.expr:
    return test.operand if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else _not(test)


def _not(test: ast.expr) -> ast.expr:
    return ast.copy_location(ast.UnaryOp(ast.Not(), test), test)


def _short(node: ast.AST) -> str:
    text = ast.unparse(node).partition("\n")[0]
    return text if len(text) <= 60 else f"{text[:57]}..."


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield the changes of one node: what is done, and the node that takes its place."""
    if isinstance(node, ast.Compare):
        for at, op in enumerate(node.ops):
            for other in COMPARED[type(op)]:
                ops = [*node.ops]
                ops[at] = other()
                changed = _with(node, ops=ops)
                yield f"{_short(node)} -> {_short(changed)}", changed
    elif isinstance(node, ast.BinOp):
        sides = (node.left, node.right)
        if not any(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in sides):
            changed = _with(node, op=COMPUTED[type(node.op)]())
            yield f"{_short(node)} -> {_short(changed)}", changed
    elif isinstance(node, ast.AugAssign):
        yield f"without {_short(node)}", ast.copy_location(ast.Pass(), node)
    elif isinstance(node, ast.UnaryOp):
        if not isinstance(node.operand, ast.Constant):
            yield f"{_short(node)} -> {_short(node.operand)}", node.operand
    elif isinstance(node, ast.BoolOp):
        changed = _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        yield f"{_short(node)} -> {_short(changed)}", changed
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield f"{node.value} -> {not node.value}", ast.copy_location(ast.Constant(not node.value), node)
        elif isinstance(node.value, int):
            other = node.value + 1
            yield f"{node.value} -> {other}", ast.copy_location(ast.Constant(other), node)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        if not isinstance(node.test, ast.Compare | ast.UnaryOp):
            changed = _with(node, test=_negated(node.test))
            yield f"if {_short(node.test)} -> if not", changed
    elif isinstance(node, ast.comprehension):
        for at in range(len(node.ifs)):
            yield f"without if {_short(node.ifs[at])}", _with(node, ifs=node.ifs[:at] + node.ifs[at + 1 :])
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in CALLED:
            other = CALLED[node.func.id]
            yield f"{node.func.id} -> {other}", _with(node, func=_with(node.func, id=other))
    elif isinstance(node, ast.Expr):
        if isinstance(node.value, ast.Call):
            yield f"without {_short(node)}", ast.copy_location(ast.Pass(), node)
    elif isinstance(node, ast.Continue):
        yield "continue -> break", ast.copy_location(ast.Break(), node)
    elif isinstance(node, ast.Break):
        yield "break -> continue", ast.copy_location(ast.Continue(), node)


def mutants(source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its text."""
    tree = ast.parse(source)
    lines = source.splitlines()
    where, spared = _scopes(tree), _spared(tree)
    found: list[Mutant] = []
    seen: dict[str, int] = {}
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in spared:
            continue
        for which, (change, _) in enumerate(_changes(node)):
            line = getattr(node, "lineno", 0) or getattr(getattr(node, "target", None), "lineno", 0)
            text = " ".join(lines[line - 1].split())
            made = Mutant(where[id(node)], line, text, change, (number, which))
            again = seen[made.key] = seen.get(made.key, -1) + 1
            found.append(Mutant(made.where, line, text, change, made.place, again))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.place))


def _scopes(tree: ast.Module) -> dict[int, str]:
    """Return the name of the function or class around each node."""
    found: dict[int, str] = {}

    def visit(node: ast.AST, name: str) -> None:
        found[id(node)] = name or "module"
        inner = isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            visit(child, f"{name}.{node.name}".strip(".") if inner else name)  # type: ignore[attr-defined]

    visit(tree, "")
    return found


def _spared(tree: ast.Module) -> set[int]:
    """Return the nodes that are not mutated: annotations, messages, asserts, decorators."""
    found: set[int] = set()

    def spare(node: ast.AST | None) -> None:
        if node is not None:
            found.update(id(one) for one in ast.walk(node))

    for node in ast.walk(tree):
        if isinstance(node, SPARED):
            spare(node)
        elif isinstance(node, ast.AnnAssign | ast.arg):
            spare(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            spare(node.returns)
            for one in node.decorator_list:
                spare(one)
        elif isinstance(node, ast.ClassDef):
            for one in node.decorator_list:
                spare(one)
        elif isinstance(node, ast.Assign) and _is_message(node):
            spare(node)
    return found


def _is_message(node: ast.Assign) -> bool:
    names = {one.id for one in node.targets if isinstance(one, ast.Name)}
    return bool(names & {"message", "words", "hint", "text", "many", "__all__"})


def digest(*parts: bytes) -> str:
    """Return a short digest of texts."""
    made = hashlib.sha256()
    for part in parts:
        made.update(len(part).to_bytes(8, "big") + part)
    return made.hexdigest()[:16]
