"""Requests made from the server's own schema, right ones and wrong ones: no 5xx, and answers as it says.

A short run; a longer one: `SCHEMA_EXAMPLES=2000 python -m pytest tests/host/test_server_schema.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

schemathesis = pytest.importorskip(
    "schemathesis", reason="schemathesis is not installed: pip install 'ternac[test]'"
)

from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from ternac.host.server.limits import Limits
from tests.host.boards import small_program
from tests.host.http_server import Running, running

PROGRAM = small_program()
EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "15"))
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    load_all_checks()
    with running(PROGRAM, ["auto"], Limits(tokens=64, prompt=200, body=20_000, seconds=5)) as found:
        yield found


PATHS = [
    ("GET", "/v1/models"), ("GET", "/v1/models/{name}"), ("POST", "/v1/completions"), ("POST", "/v1/chat/completions"),
    ("GET", "/v1/sessions/{name}"), ("PUT", "/v1/sessions/{name}"), ("DELETE", "/v1/sessions/{name}"),
    ("GET", "/health"), ("GET", "/ready"), ("GET", "/metrics"),
]  # fmt: skip


@pytest.fixture(scope="module")
def schema(server: Running) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def test_the_schema_has_every_operation(schema: Any) -> None:
    found = {(r.ok().method.upper(), r.ok().path) for r in schema.get_all_operations()}
    assert found == {(method, path.replace("{name}", "{name}")) for method, path in PATHS}


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("method, path", PATHS)
def test_every_operation(schema: Any, method: str, path: str, mode: Any) -> None:
    """Requests that fit the schema, and requests that do not."""
    operation = schema[path][method]
    try:
        strategy = operation.as_strategy(generation_mode=mode)
    except schemathesis.errors.SchemathesisError as error:
        pytest.skip(f"no such requests: {error}")

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def check(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    try:
        check()
    except Unsatisfiable:
        pytest.skip("there are no such requests")
