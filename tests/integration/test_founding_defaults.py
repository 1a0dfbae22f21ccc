"""Who founds a community on the command line and who founds it by the form get the same one."""

from homeassistant.data_entry_flow import section

from custom_components.energy_ledger.flows.creating import community_schema, read_parameters
from ledger_core.client.local import default_parameters


def test_the_form_begins_with_what_the_ledger_takes_otherwise() -> None:
    (advanced,) = [each for each in community_schema().schema.values() if isinstance(each, section)]
    founded = read_parameters(advanced.schema({}), "EUR")
    assert {name: default_parameters()[name] for name in founded} == founded
