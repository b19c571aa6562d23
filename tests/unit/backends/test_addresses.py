"""Which addresses no service is called at, however they are written."""

from ipaddress import ip_address

import pytest

from workers.backends.addresses import is_refused

METADATA = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fd00:ec2::254",
    "100.100.100.200",
    "0.0.0.0",
    "::",
    "224.0.0.1",
]
DISGUISED = ["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "ff02::1"]


@pytest.mark.parametrize("address", [*METADATA, *DISGUISED])
def test_metadata_and_link_local_are_refused_in_every_disguise(address: str) -> None:
    assert is_refused(ip_address(address))


@pytest.mark.parametrize(
    "address", ["10.0.0.7", "192.168.1.5", "93.184.216.34", "2606:2800::1", "fd12::1", "127.0.0.1"]
)
def test_services_inside_and_outside_are_not(address: str) -> None:
    assert not is_refused(ip_address(address))
