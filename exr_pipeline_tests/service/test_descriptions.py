"""REST and GraphQL answer as the OpenAPI document and the schema describe them, whatever schemathesis sends."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from graphql import parse_value
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok

from exr_pipeline_tests.service.conftest import ADMIN

EXAMPLES = 5
HEADERS = {"Authorization": f"Bearer {ADMIN}"}
MODES = pytest.mark.parametrize("mode", list(GenerationMode))

# Such as a wrong password, a moment that is over, a kind with a space, or a version that is not the present one.
# 403: a login into a cookie has to come from a page of the service.
RULES_BEYOND_THE_DESCRIPTION = ["2xx", "3xx", "401", "403", "404", "409", "412", "422", "428", "429"]

JSON = ["null", "1", '"a text"', "[1, {a: 2}]", "{}", "{a: [null, 1.5]}"]
schemathesis.graphql.scalar("JSON", st.sampled_from(JSON).map(parse_value))


def send_to_each_operation(schema: schemathesis.BaseSchema, mode: GenerationMode, **options: Any) -> int:
    """Compare the answers to generated requests with the description; returns how many operations there were."""
    count = sent = 0
    for each in schema.get_all_operations():
        assert isinstance(each, Ok), each
        operation = each.ok()

        @seed(1)
        @settings(
            max_examples=EXAMPLES,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(mode))
        def is_as_described(case: schemathesis.Case[Any]) -> None:
            nonlocal sent
            sent += 1
            answer = case.call_and_validate(headers=HEADERS, **options)
            if answer.headers.get("content-type") == ["application/json"] and "errors" in (found := answer.json()):
                assert [error for error in found["errors"] if error["extensions"]["status"] >= 500] == []

        sent = 0
        try:
            is_as_described()
        except Unsatisfiable:
            # Nothing about a request without parameters can be wrong.
            assert mode is GenerationMode.NEGATIVE
        count += sent > 0
    return count


@MODES
def test_rest_is_as_its_document_describes_it(client: httpx.Client, app: Any, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(app.openapi())
    schema.config.update(base_url=str(client.base_url))
    # Parameters that no route knows are passed over.
    schema.config.generation.update(allow_extra_parameters=False)
    schema.config.checks.positive_data_acceptance.expected_statuses = RULES_BEYOND_THE_DESCRIPTION
    assert send_to_each_operation(schema, mode) > 20


@MODES
def test_graphql_is_as_its_schema_describes_it(client: httpx.Client, mode: GenerationMode) -> None:
    schema = schemathesis.graphql.from_url(f"{client.base_url}/graphql", headers=HEADERS)
    # No database keeps null characters, and no schema can say so.
    schema.config.generation.update(allow_x00=False)
    # It takes what the rules of the catalog forbid for an error of the server: those have a code, looked at above.
    excluded = [not_a_server_error] if mode is GenerationMode.POSITIVE else []
    assert send_to_each_operation(schema, mode, excluded_checks=excluded) > 15
