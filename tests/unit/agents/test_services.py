"""The services behind the agents: the samples, or those of `CHATKIT_SERVICES`."""

import pytest

from workers.agents.services import SampleServices, load_services
from workers.errors import SettingsError


def test_without_a_name_the_samples_are_served() -> None:
    assert isinstance(load_services(None), SampleServices)


def test_a_name_is_called_for_the_services() -> None:
    assert isinstance(load_services("workers.agents.services:SampleServices"), SampleServices)


@pytest.mark.parametrize("name", ["no.such.module:Services", "workers.agents.services:NoSuchThing"])
def test_a_name_that_leads_nowhere_is_one_line_that_names_the_variable(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^CHATKIT_SERVICES: {name} cannot be loaded"):
        load_services(name)
