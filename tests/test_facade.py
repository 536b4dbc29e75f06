"""The names that ``ternac`` itself exports: there, typed, and imported only when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ternac


def test_every_name_is_there() -> None:
    from ternac import Device, Geometry, Program, Sampling, Session, __version__, load
    from ternac.host.device import Device as its_home

    assert Device is its_home
    assert isinstance(__version__, str) and __version__
    program = load("shakespeare-small")
    assert isinstance(program, Program)
    with Device.open("numpy", program) as device, device.session(seed=1) as session:
        assert isinstance(session, Session)
        assert len(list(session.tokens([1], 3, Sampling()))) == 3
    assert Geometry.__name__ == "Geometry"
    assert set(ternac.__all__) <= set(dir(ternac))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Devise'"):
        _ = ternac.Devise


def test_importing_the_package_imports_nothing_else() -> None:
    """The command line starts with it, and lower layers import it."""
    code = (
        "import sys, ternac; print([m for m in sys.modules if m.startswith('ternac.') or m == 'numpy']); "
        "ternac.Sampling; print([m for m in sys.modules if m.startswith('ternac.host')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
