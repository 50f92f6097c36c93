"""The CA bundles that ship with the functions are complete and valid for more than a year."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.certificates import amazon_roots, authorities, name, until
from openreserve.runtime.certificates import AMAZON_ROOTS, RDS_GLOBAL

REGIONS = ["eu-central-1", "eu-west-1", "us-east-1", "us-west-2", "ap-southeast-2", "sa-east-1"]


def names(bundle: Path) -> list[str]:
    return [name(certificate) for certificate in authorities(bundle.read_text()).values()]


def test_the_bundle_has_exactly_the_roots_of_amazon_trust_services() -> None:
    assert names(AMAZON_ROOTS) == [
        *(f"Amazon Root CA {number}" for number in (1, 2, 3, 4)),
        "Starfield Services Root Certificate Authority - G2",
    ]


def test_the_roots_of_amazon_equal_those_of_certifi() -> None:
    assert AMAZON_ROOTS.read_text() == amazon_roots(), "run make certificates"


@pytest.mark.parametrize("region", REGIONS)
def test_the_rds_bundle_has_a_root_for_each_key_type(region: str) -> None:
    roots = names(RDS_GLOBAL)

    for kind in ("RSA2048", "RSA4096", "ECC384"):
        assert f"Amazon RDS {region} Root CA {kind} G1" in roots


@pytest.mark.parametrize("bundle", [AMAZON_ROOTS, RDS_GLOBAL], ids=lambda bundle: bundle.name)
def test_every_root_is_valid_for_more_than_a_year(bundle: Path) -> None:
    """Otherwise the first connection after the expiry date would fail."""
    for certificate in authorities(bundle.read_text()).values():
        assert until(certificate) > datetime.now(UTC) + timedelta(days=365), name(certificate)


@pytest.mark.parametrize("bundle", [AMAZON_ROOTS, RDS_GLOBAL], ids=lambda bundle: bundle.name)
def test_openssl_loads_every_certificate_of_each_bundle(bundle: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(bundle)

    assert context.cert_store_stats()["x509_ca"] == bundle.read_text().count("BEGIN CERTIFICATE")
