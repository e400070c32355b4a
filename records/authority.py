"""An authority of X.509 certificates for one cluster: it signs one certificate a machine, for mutual TLS.

Keys are of the curve P-256, which Ray's TLS library takes. A machine's certificate serves at both ends of a connection
and is for the addresses by which others reach it.

Source: RFC 5280 (certificates), RFC 8446 (TLS 1.3).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..protocols.secret import Secret
from .errors import RecordError

Period = tuple[datetime, datetime]

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority(Secret):
    """The key that signs, *never sent*, and its certificate, which every machine has.

    Parameters
    ----------
    key : EllipticCurvePrivateKey
    certificate : Certificate
        Of that key.
    """

    __slots__ = ("_key", "certificate")

    def __init__(self, key: EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self.certificate = certificate

    @classmethod
    def fresh(cls, period: Period) -> Authority:
        """Make a key, and sign its certificate with itself."""
        key, name = generate_private_key(SECP256R1()), _name("tacit cluster authority")
        builder = (
            _builder(name, name, key, period)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(SIGNS_CERTIFICATES, critical=True)
        )
        return cls(key, builder.sign(key, SHA256()))

    def machine(
        self, name: str, hosts: Sequence[str], period: Period
    ) -> tuple[EllipticCurvePrivateKey, x509.Certificate]:
        """Make a machine's key, and sign its certificate.

        Raises
        ------
        RecordError
            If a host is neither an address nor a name.
        """
        key, names = generate_private_key(SECP256R1()), [_general_name(host) for host in dict.fromkeys(hosts)]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            _builder(_name(name), self.certificate.subject, key, period)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(issuer, critical=False)
        )
        return key, builder.sign(self._key, SHA256())

    def key_text(self) -> str:
        """Return the key as PEM, **for its file alone**."""
        return key_text(self._key)


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the addresses and names that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def certificate_text(certificate: x509.Certificate) -> str:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM).decode()


def key_text(key: EllipticCurvePrivateKey) -> str:
    """Return a key as PEM, not encrypted, **for its file alone**."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def key_from(text: str) -> EllipticCurvePrivateKey | None:
    """Return the key of a PEM text; None if it is none of an elliptic curve."""
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, EllipticCurvePrivateKey) else None


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, period: Period
) -> x509.CertificateBuilder:
    """Return what every certificate has."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(period[0])
        .not_valid_after(period[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if HOST.fullmatch(host) is None:
            raise RecordError(f"{host!r} is neither an address nor a name of a machine") from None
        return x509.DNSName(host)
