"""Run tests on mutants, each in a process of its own; no file is touched.

The tests of a module are imported and collected once. For each mutant this process forks; the child swaps
the code of the changed function for the mutated one and runs the tests, those first that killed most mutants
so far, until one fails. What is changed outside of functions (tables, classes, defaults) runs in a process
that imports the mutated module in place of the real one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import math
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

import tests.mutants.settle  # noqa: F401
from tests.mutants.modules import Module
from tests.mutants.mutate import Mutant

ROOT = Path(__file__).resolve().parents[2]
SLOWER = 4
"""A mutant's tests may take so many times the processor time of the original's, and as much more time of the
clock, and `PATIENCE` seconds more."""
PATIENCE = 10
NOT_IMPORTED, NOT_SWAPPED = 99, 98
OPTIONS = (
    "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", "--tb=line", "--hypothesis-seed=17",
    "--hypothesis-profile=mutants",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",  # what was imported before the fork
)  # fmt: skip
Found = Callable[[Mutant, str], None]


def run(module: Module, todo: Sequence[Mutant], found: Found, log: Path) -> None:
    """Tell ``found`` what becomes of each mutant: "killed", "killed by time" or "survived"."""
    receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_collected, args=(module, todo, send, log))
    process.start()
    send.close()
    again: list[Mutant] = []
    limits = None
    while True:
        try:
            number, result = receive.recv()
        except EOFError:
            break
        if number is None:
            limits = result
        elif result == "not swapped":
            again.append(todo[number])
        else:
            found(todo[number], result)
    process.join()
    if limits is None:
        raise RuntimeError(f"the tests of {module.name} fail without a mutant: {log}")
    for one in again:
        found(one, imported(module, one, limits, log))


# ---- the code of one function swapped ------------------------------------------------------------------


def _inner(code: CodeType, names: Sequence[str]) -> CodeType | None:
    """Return the code of the outermost function on the way ``names``, as the compiler nests them."""
    for name in names:
        inner = [c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name]
        if len(inner) != 1:
            return None
        (code,) = inner
        if code.co_flags & 0x02:  # a function has fast local variables, a class body has not
            return code
    return None


def _function(target: Any) -> FunctionType | None:
    """Return the plain function behind a property, a cache, a class method."""
    if isinstance(target, property):
        target = target.fget
    if isinstance(target, functools.cached_property):
        target = target.func
    if hasattr(target, "cache_clear"):
        target.cache_clear()
    target = getattr(target, "__func__", target)
    while hasattr(target, "__wrapped__"):
        target = target.__wrapped__
    return target if isinstance(target, FunctionType) else None


def swap(module: Module, code: CodeType, where: str) -> bool:
    """Give the function ``where`` its mutated code; False if what is changed is not in a function."""
    place: Any = sys.modules.get(module.name)
    names = where.split(".")
    for number, name in enumerate(names):
        if place is None or name not in vars(place):
            return False
        place = vars(place)[name]
        function = _function(place)
        if function is not None:
            new = _inner(code, names[: number + 1])
            if new is None or new.co_freevars != function.__code__.co_freevars or new == function.__code__:
                return False
            function.__code__ = new
            return True
    return False


class _Forks:
    """A plugin of pytest that runs the collected tests once for each mutant, in forked processes."""

    def __init__(self, module: Module, todo: Sequence[Mutant], send: Any, log: Path) -> None:
        self.module, self.todo, self.send, self.log = module, todo, send, log
        self.kills: Counter[int] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        source, path = (ROOT / self.module.file).read_text(), str(ROOT / self.module.file)
        start, before = time.monotonic(), _processor()
        if self.fork(session, None, None, (600, 1800)) != "survived":
            return True
        processor = SLOWER * (_processor() - before) + PATIENCE
        limits = processor, SLOWER * (time.monotonic() - start) + processor
        self.send.send((None, limits))
        for number, one in enumerate(self.todo):
            code = one.code(source, path)
            assert isinstance(code, CodeType)
            self.send.send((number, self.fork(session, one, code, limits)))
        return True

    def fork(
        self,
        session: pytest.Session,
        mutant: Mutant | None,
        code: CodeType | None,
        limits: tuple[float, float],
    ) -> str:
        came, tell = os.pipe()
        child = os.fork()
        if not child:
            try:
                _alone(self.log, limits[0])
                if mutant is not None and code is not None and not swap(self.module, code, mutant.where):
                    os._exit(NOT_SWAPPED)
                self.tests(session, tell)
            finally:
                os._exit(3)
        os.close(tell)
        status = _wait(child, limits[1])
        killer = os.read(came, 8)
        os.close(came)
        if killer:
            self.kills[int.from_bytes(killer, "big")] += 1
        return "not swapped" if status == NOT_SWAPPED else _result(status)

    def tests(self, session: pytest.Session, tell: int) -> None:
        first = [number for number, _ in self.kills.most_common()]
        order = [*first, *(n for n in range(len(session.items)) if n not in self.kills)]
        for number in order:
            item = session.items[number]
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if session.testsfailed:
                os.write(tell, number.to_bytes(8, "big"))
                os._exit(1)
        os._exit(0)


def _collected(module: Module, todo: Sequence[Mutant], send: Any, log: Path) -> None:
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    pytest.main(_arguments(module), plugins=[_Forks(module, todo, send, log)])


def _arguments(module: Module) -> list[str]:
    without = [f"--deselect={test}" for test in module.without]
    return [*OPTIONS, f"--rootdir={ROOT}", *without, *(str(ROOT / test) for test in module.tests)]


# ---- the mutated module imported -----------------------------------------------------------------------


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self.code = code

    def get_code(self, fullname: str) -> CodeType:
        return self.code


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module, the mutated one."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        self.name, self.loader, self.used = name, _Loader(name, path, code), False

    def find_spec(self, fullname: str, path: object, target: object = None) -> Any:
        if fullname != self.name:
            return None
        self.used = True
        return importlib.util.spec_from_loader(fullname, self.loader)


def imported(module: Module, mutant: Mutant, limits: tuple[float, float], log: Path) -> str:
    """Return what becomes of a mutant that is imported in place of its module."""
    child = os.fork()
    if not child:
        try:
            # Importing and collecting come on top.
            _alone(log, limits[0] + PATIENCE)
            assert module.name not in sys.modules, f"{module.name} was imported before its mutant"
            path = str(ROOT / module.file)
            code = mutant.code((ROOT / module.file).read_text(), path)
            assert isinstance(code, CodeType)
            finder = _Finder(module.name, path, code)
            sys.meta_path.insert(0, finder)
            status = int(pytest.main(_arguments(module)))
            sys.stdout.flush()
            os._exit(status if status or finder.used else NOT_IMPORTED)
        finally:
            os._exit(3)
    status = _wait(child, limits[1] + 10 * PATIENCE)
    if status == NOT_IMPORTED:
        raise RuntimeError(f"the tests of {module.name} do not import it: {', '.join(module.tests)}")
    return _result(status)


def _result(status: int | None) -> str:
    return "killed by time" if status is None else "killed" if status else "survived"


# ---- processes -----------------------------------------------------------------------------------------


def _alone(log: Path, processor: float) -> None:
    """Make this forked process one that can be stopped, and is silent."""
    os.setsid()
    seconds = math.ceil(processor)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(sink, 1)
    os.dup2(sink, 2)


def _wait(child: int, clock: float) -> int | None:
    """Wait for a process; returns its status, or None if it took too long and was ended."""
    until = time.monotonic() + clock
    pause = 0.005
    late = False
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        late = time.monotonic() > until
        if late:
            _end(child)
            _, status = os.waitpid(child, 0)
            break
        time.sleep(pause)
        pause = min(0.1, pause * 1.5)
    _end(child)
    code = os.waitstatus_to_exitcode(status)
    return None if late or code in (-signal.SIGXCPU, -signal.SIGKILL) else code


def _end(child: int) -> None:
    """End what a process left, its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


def _processor() -> float:
    """Return the processor time of all processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
