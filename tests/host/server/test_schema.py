"""Requests made from the server's own schema, right ones and wrong ones: no 5xx, and answers as it says.

A short run, always the same; a longer one, always another:
`SCHEMA_EXAMPLES=2000 python -m pytest tests/host/server/test_schema.py`.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install 'ternac[test]'")

import schemathesis
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from ternac.host.server.limits import Limits
from tests.host.boards import small_program
from tests.host.server.http_server import Running, running
from tests.host.server.serving import fresh
from tests.host.server.test_http import call

PROGRAM = small_program()
LONG = os.environ.get("SCHEMA_EXAMPLES")
EXAMPLES = int(LONG or "15")
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
    with running(PROGRAM, ["auto"], Limits(tokens=64, prompt=200, seconds=5)) as found:
        yield found


PATHS = [
    ("GET", "/v1/models"), ("GET", "/v1/models/{name}"),
    ("POST", "/v1/completions"), ("POST", "/v1/chat/completions"),
    ("GET", "/v1/sessions/{name}"), ("PUT", "/v1/sessions/{name}"), ("DELETE", "/v1/sessions/{name}"),
    ("POST", "/tokenize"), ("POST", "/detokenize"), ("GET", "/tokenizer_info"),
    ("GET", "/health"), ("GET", "/ready"), ("GET", "/metrics"),
]  # fmt: skip


@pytest.fixture(scope="module")
def schema(server: Running) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def test_the_schema_has_every_operation(schema: Any) -> None:
    found = {(r.ok().method.upper(), r.ok().path) for r in schema.get_all_operations()}
    assert found == set(PATHS)


def name_what_is_there(server: Running, case: Any) -> None:
    """Models and sessions that the server has, most of the time, and prompts that are not empty: what no
    schema can say, and without which nearly every request ends at "there is no such".
    """
    call(server, "PUT", "/v1/sessions/known", fresh(PROGRAM).to_bytes(PROGRAM))
    if zlib.crc32(repr(case.body).encode()) % 3 == 0:
        make_plain(case)
    if isinstance(case.body, bytes) and len(case.body) % 2 == 0:
        case.body = fresh(PROGRAM).to_bytes(PROGRAM)
    parts = [case.path_parameters or {}, case.body if isinstance(case.body, dict) else {}]
    known = {
        "name": PROGRAM.name if "models" in case.path else "known",
        "model": PROGRAM.name,
        "session": "known",
    }
    for part in parts:
        for key, value in known.items():
            if isinstance(part.get(key), str) and len(part[key]) % 4:
                part[key] = value
        if part.get("prompt") in ("", [], [""]):
            part["prompt"] = "x"


def make_plain(case: Any) -> None:
    """The body as short as it can be: of fifteen that are drawn, perhaps none is without an option that is
    refused.
    """
    if case.method == "PUT":
        case.body = fresh(PROGRAM).to_bytes(PROGRAM)
    elif isinstance(case.body, dict):
        words = {"prompt": "x", "messages": [{"role": "user", "content": "x"}], "model": PROGRAM.name}
        if case.path == "/v1/completions":
            case.body.setdefault("prompt", "x")
        most = {"max_tokens": 3} if "completions" in case.path else {}
        case.body = {key: word for key, word in words.items() if key in case.body} | most


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("method, path", PATHS)
def test_every_operation(server: Running, schema: Any, method: str, path: str, mode: Any) -> None:
    """Requests that fit the schema, and requests that do not."""
    operation = schema[path][method]
    try:
        strategy = operation.as_strategy(generation_mode=mode)
    except schemathesis.errors.SchemathesisError as error:
        pytest.skip(f"no such requests: {error}")

    reached = set()

    checks = list(HealthCheck)

    @settings(max_examples=EXAMPLES, derandomize=LONG is None, deadline=None, suppress_health_check=checks)
    @given(case=strategy)
    def check(case: Any) -> None:
        if mode is schemathesis.GenerationMode.POSITIVE:
            name_what_is_there(server, case)
        reached.add(case.call_and_validate(checks=CHECKS).status_code)

    try:
        check()
    except Unsatisfiable:
        pytest.skip("there are no such requests")
    if mode is schemathesis.GenerationMode.POSITIVE:
        assert reached & {200, 201, 204}, "no request got as far as an answer"
    else:
        assert all(400 <= status < 500 for status in reached)
