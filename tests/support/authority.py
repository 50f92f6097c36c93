"""A certificate authority for tests, and server certificates that it issues."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Shown:
    """A server certificate and its private key, in one PEM file."""

    file: Path

    @property
    def context(self) -> ssl.SSLContext:
        """The TLS context of a server in this process."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file)
        return context


@dataclass(frozen=True)
class Authority:
    """A certificate authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls) -> Self:
        """A new authority, which no trust store contains."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _draft("an authority", None, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    def vouch(self, name: str, folder: Path) -> Shown:
        """Issue a certificate for a server of this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _draft(name, self.certificate.subject, key)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        file = folder / f"{name}.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return Shown(file)

    def trusted(self) -> ssl.SSLContext:
        """The TLS context of a client in this process that trusts this authority."""
        return ssl.create_default_context(cadata=self._pem.decode())

    def bundle(self, folder: Path) -> Path:
        """Write the CA bundle for clients in other processes, and return its path."""
        file = folder / "authority.pem"
        file.write_bytes(self._pem)
        return file

    @property
    def _pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def _draft(
    name: str, issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
    )
