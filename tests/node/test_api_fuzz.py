"""The served OpenAPI document taken at its word by schemathesis: no 5xx, no hang, answers as promised."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.config import ChecksConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.config._checks import NegativeDataRejectionConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from ledger_core.client import NodeClient
from ledger_core.node.api.guard import ApiLimits
from ledger_core.node.api.routes import ROUTES
from tests.core.scenario import eventful_world
from tests.node.api_world import AUTHORIZED, TOKEN, ApiWorld, api_world

ANSWER_S = 10.0
"""A hang's guard for every single answer."""
EXAMPLES = {GenerationMode.POSITIVE: 12, GenerationMode.NEGATIVE: 12}


def operations(document: dict[str, Any]) -> list[Any]:
    """Every operation of the document."""
    # A body that is too large is refused for its size before anybody looks into it.
    refusals = NegativeDataRejectionConfig(
        expected_statuses=[*NegativeDataRejectionConfig().expected_statuses, "413"]
    )
    checks = ChecksConfig(negative_data_rejection=refusals)
    config = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(checks=checks)))
    schema = schemathesis.openapi.from_dict(document, config=config)
    found = list(schema.get_all_operations())
    assert all(isinstance(each, Ok) for each in found)
    return [each.ok() for each in found if isinstance(each, Ok)]


def fuzz(operation: Any, url: str, mode: GenerationMode) -> dict[int, int]:
    """Send generated requests; count the statuses of the answers."""
    statuses: dict[int, int] = {}

    @seed(1)
    @settings(
        max_examples=EXAMPLES[mode],
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        response = case.call(base_url=url, headers=AUTHORIZED, timeout=ANSWER_S)
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        assert response.status_code < 500, response.text
        # A schema can't say that an address' checksum must fit, or that bytes must be a signed record.
        case.validate_response(response, excluded_checks=[positive_data_acceptance])

    check()
    return statuses


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
async def test_generated_requests_get_the_answers_that_the_document_promises(
    tmp_path: Path, mode: GenerationMode
) -> None:
    # Requests without the token are among the generated ones.
    limits = ApiLimits(wrong_tokens_per_s=1e6, wrong_tokens_burst=10**6)
    async with api_world(tmp_path, eventful_world(), limits=limits) as api:
        found = await fuzzed(api, mode)
        async with NodeClient(api.server.url, TOKEN) as client:
            assert (await client.status()).tip.height == api.world.state.tip.height
    assert set(found) == {f"{route.method} {route.path}" for route in ROUTES}
    codes = {code for statuses in found.values() for code in statuses}
    assert 400 in codes
    if mode is GenerationMode.POSITIVE:
        assert 200 in codes


async def fuzzed(api: ApiWorld, mode: GenerationMode) -> dict[str, dict[int, int]]:
    """Fuzz every operation but the stream, which is a WebSocket."""
    async with NodeClient(api.server.url, TOKEN) as client:
        document = await client.openapi()
    found = {}
    for operation in await asyncio.to_thread(operations, document):
        name = f"{operation.method.upper()} {operation.path}"
        if not name.endswith("/stream"):
            found[name] = await asyncio.to_thread(fuzz, operation, api.server.url, mode)
    return found
