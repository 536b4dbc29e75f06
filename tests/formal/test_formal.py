"""The proofs: the fast ones hold, a planted bug breaks its claim, and the page tells what is proven.

All of them, with both solvers and every planted bug: `make prove`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.back import rtlil

from ternac.errors import ToolMissing
from ternac.hdl.link.buffer import LineBuffer
from tests.formal import table
from tests.formal.bench import Bench, Fault
from tests.formal.line_buffer import line_buffer
from tests.formal.proofs import PROOFS
from tests.formal.prove import SOLVERS, Proof, check_fault, failures, find_solver, prove
from tests.formal.registers import register

QUICK = [proof for proof in PROOFS.values() if proof.quick]


@pytest.fixture
def yices() -> str:
    try:
        find_solver("yices")
    except ToolMissing as error:
        pytest.skip(str(error))
    return "yices"


@pytest.mark.parametrize("proof", QUICK, ids=lambda proof: proof.name)
def test_a_fast_proof_holds_and_reaches_its_covers(proof: Proof, yices: str, tmp_path: Path) -> None:
    result = prove(proof, yices, tmp_path)
    assert result.failed == []
    assert result.missed == []


@pytest.mark.parametrize(
    "name, claim", [("slip_encoder", "byte"), ("register", "in_order_unchanged"), ("trits_five", "negative")]
)
def test_a_planted_bug_breaks_its_claim(name: str, claim: str, yices: str, tmp_path: Path) -> None:
    assert failures(check_fault(PROOFS[name], claim, yices, tmp_path)) == [claim]


@pytest.mark.slow
@pytest.mark.parametrize("proof", QUICK, ids=lambda proof: proof.name)
def test_every_planted_bug_of_a_fast_proof_breaks_its_claim(proof: Proof, yices: str, tmp_path: Path) -> None:
    for claim in proof.faults:
        assert failures(check_fault(proof, claim, yices, tmp_path / claim)) == [claim]


@pytest.mark.parametrize("proof", PROOFS.values(), ids=lambda proof: proof.name)
def test_every_claim_has_a_bug_that_is_planted_and_a_name_of_its_own(proof: Proof) -> None:
    bench = proof.build(None, None)
    bench.rtlil()
    names = [*bench.claims, *bench.invariants, *bench.covers]
    assert len(names) == len(set(names))
    assert set(bench.claims) == set(proof.faults)
    assert bench.covers
    assert proof.solvers and set(proof.solvers) <= set(SOLVERS)


def weak(fault: Fault | None, only: set[str] | None) -> Bench:
    """A property that holds from reset for long, that no induction can know, and a cover out of reach."""
    bench = register(False, fault, only)
    late = bench.count(bench.dut.o.valid, 0, 6, "late")
    bench.claim("not_yet", late != 50)
    bench.reached("never", late == 50)
    return bench


def test_what_is_true_only_for_a_while_is_no_proof(yices: str, tmp_path: Path) -> None:
    result = prove(Proof("weak", "", weak, {}, bound=10), yices, tmp_path)
    assert result.failed == ["not_yet (induction)"]
    assert result.missed == ["never"]
    assert not result.good


def test_assumptions_that_exclude_each_other_prove_nothing(yices: str, tmp_path: Path) -> None:
    def impossible(fault: Fault | None, only: set[str] | None) -> Bench:
        bench = register(False, fault, only)
        bench.given("yes", bench.dut.o.ready)
        bench.given("no", ~bench.dut.o.ready)
        return bench

    result = prove(Proof("impossible", "", impossible, {}), yices, tmp_path)
    assert not result.good


def test_a_missing_solver_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    for solver, (_, package) in SOLVERS.items():
        with pytest.raises(ToolMissing, match=f"solver {solver} .* is not installed") as found:
            find_solver(solver)
        assert package in found.value.hint


def test_a_bound_that_does_not_carry_the_induction_is_refused() -> None:
    with pytest.raises(ValueError, match="must cover the 5 steps"):
        Proof("short", "", weak, {}, induction=5, bound=4)


def test_a_bench_leaves_the_product_as_it_is() -> None:
    def product() -> str:
        return rtlil.convert(LineBuffer(), name="top", emit_src=False)

    before = product()
    line_buffer(None, None).rtlil()
    assert product() == before
    assert "$check" not in before


def test_the_page_says_what_is_proven() -> None:
    """After a change of a proof: ``python -m tests.formal --write``."""
    seconds = table.read_seconds()
    assert table.table(seconds) in table.PAGE.read_text()
    wanted = {(proof.name, solver) for proof in PROOFS.values() for solver in proof.solvers}
    assert set(seconds) == wanted, "seconds of a proof are missing"
    assert sum(seconds.values()) < 2 * 20 * 60, "make prove takes 20 minutes at most on two cores"
