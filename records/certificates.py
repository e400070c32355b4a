"""The certificates and the token of a Ray cluster: made in one place, carried to each machine, checked there.

One authority of the cluster's own signs one certificate a machine; Ray then speaks mutual TLS between machines and
lets nobody in without the token. Who has a machine's folder can run code in the cluster, so it travels as a key does;
the authority's key stays where it was made, and signs machines that join later.

Who learns what: a stranger on the network sees ciphertext and the machines' addresses. Adversary: strangers. Parties
of the cluster are one trust domain: its certificates do not protect one of them from another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from ..protocols.secret import RandomBytes
from .authority import Authority, Period, certificate_text, hosts_of, key_from, key_text
from .errors import RecordError
from .identity_file import check_name
from .private_files import check_private, private_folder, read_private, write_private

AUTHORITY = "authority"  # the folder that stays
CA_CERTIFICATE, CA_KEY = "ca.crt", "ca.key"
CERTIFICATE, KEY, TOKEN = "node.crt", "node.key", "token"
TOKEN_BYTES = 32
DAYS = 365
SKEW = timedelta(hours=1)  # of the machines' clocks
OWN_HOSTS = ("127.0.0.1", "localhost")

Now = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Checked:
    """What a machine's folder holds, once it is checked.

    Attributes
    ----------
    hosts : tuple of str
        Addresses and names that the certificate is for.
    until : datetime
        When it expires, or its authority if that is earlier.
    authority : str
        SHA-256 of the authority's certificate, 64 hexadecimal digits: the same on all machines of a cluster.
    """

    hosts: tuple[str, ...]
    until: datetime
    authority: str


def make_cluster(
    folder: Path,
    machines: Mapping[str, Sequence[str]],
    random_bytes: RandomBytes,
    *,
    days: int = DAYS,
    now: Now = utc_now,
) -> list[Path]:
    """Make a folder for each machine; an authority that is there already signs further ones.

    Parameters
    ----------
    folder : path
        Gets the folder of the authority, and one for each machine, by its name.
    machines : mapping of str to sequence of str
        The addresses and names under which others reach each machine.
    random_bytes : callable
        Source of the token. Keys come from OpenSSL.
    days : int
        How long certificates are valid; the authority's ten times as long.
    now : callable
        The clock.

    Returns
    -------
    list of path
        The machines' folders: what is carried to each.

    Raises
    ------
    RecordError
        If a machine has a folder already, a name cannot be used, or nothing can be written.
    """
    for name in machines:
        check_name(name)
        if name == AUTHORITY or (folder / name).exists():
            raise RecordError(
                f"{folder / name} is there already: move it away to make the machine another certificate"
            )
    home = private_folder(folder / AUTHORITY)
    authority = _authority(home, random_bytes, days, now)
    token = read_private(home / TOKEN)
    signed = {
        name: authority.machine(name, (*hosts, *OWN_HOSTS), _period(days, now))
        for name, hosts in machines.items()
    }
    for name, (key, certificate) in signed.items():
        place = private_folder(folder / name)
        write_private(place / CA_CERTIFICATE, certificate_text(authority.certificate))
        write_private(place / CERTIFICATE, certificate_text(certificate))
        write_private(place / KEY, key_text(key))
        write_private(place / TOKEN, token)
    return [folder / name for name in signed]


def environment(folder: Path) -> dict[str, str]:
    """Return the variables by which Ray uses a machine's folder; set them before Ray is imported.

    Parameters
    ----------
    folder : path
        As `make_cluster` made it.
    """
    place = folder.absolute()
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(place / CERTIFICATE),
        "RAY_TLS_SERVER_KEY": str(place / KEY),
        "RAY_TLS_CA_CERT": str(place / CA_CERTIFICATE),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place / TOKEN),
    }


def check_certificates(folder: Path, host: str | None = None, *, now: Now = utc_now) -> Checked:
    """Check a machine's folder: that Ray can use it, on this machine, today.

    Parameters
    ----------
    folder : path
    host : str, optional
        The address by which others reach this machine: the certificate must be for it.
    now : callable
        The clock.

    Raises
    ------
    RecordError
        With the file and what helps: a file is missing, others may read it, a certificate has expired, is for
        another machine, or of another authority, or the key is another one's.
    """
    check_private(folder)
    authority, certificate = _certificate(folder / CA_CERTIFICATE), _certificate(folder / CERTIFICATE)
    key = _key(folder / KEY)
    if len(read_private(folder / TOKEN).strip()) < 2 * TOKEN_BYTES:
        raise RecordError(f"{folder / TOKEN} is no token: bring this machine's folder here once more")
    for file, each in ((CA_CERTIFICATE, authority), (CERTIFICATE, certificate)):
        _check_period(folder / file, each, now())
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        raise RecordError(
            f"{folder / CERTIFICATE} is not signed by {folder / CA_CERTIFICATE}: take both from one folder of "
            "python -m tacit keys cluster"
        ) from None
    if certificate.public_key() != key.public_key():
        raise RecordError(
            f"{folder / KEY} is not the key of {folder / CERTIFICATE}: take both from one folder"
        )
    hosts = hosts_of(certificate)
    if host is not None and host not in hosts:
        raise RecordError(
            f"{folder / CERTIFICATE} is for {', '.join(hosts)}, and this machine is {host}: take its own folder, or "
            f"make it one with --machine NAME={host}"
        )
    until = min(authority.not_valid_after_utc, certificate.not_valid_after_utc)
    return Checked(hosts, until, authority.fingerprint(SHA256()).hex())


def _authority(home: Path, random_bytes: RandomBytes, days: int, now: Now) -> Authority:
    """Return the authority of a folder, made with the cluster's token if it is not there."""
    if (home / CA_KEY).exists():
        return Authority(_key(home / CA_KEY), _certificate(home / CA_CERTIFICATE))
    authority = Authority.fresh(_period(10 * days, now))
    write_private(home / CA_CERTIFICATE, certificate_text(authority.certificate))
    write_private(home / TOKEN, random_bytes(TOKEN_BYTES).hex())
    write_private(home / CA_KEY, authority.key_text())  # last: where it is, the others are
    return authority


def _period(days: int, now: Now) -> Period:
    start = now()
    return start - SKEW, start + timedelta(days=days)


def _check_period(path: Path, certificate: x509.Certificate, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        raise RecordError(
            f"{path} has expired on {certificate.not_valid_after_utc:%Y-%m-%d}, and this machine's clock says "
            f"{now:%Y-%m-%d %H:%M} UTC: set the clock if that is wrong, or make this machine another folder"
        )
    if now < certificate.not_valid_before_utc:
        raise RecordError(
            f"{path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC, and this machine's clock "
            f"says {now:%Y-%m-%d %H:%M}: set this machine's clock"
        )


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise RecordError(f"{path} is no certificate: bring this machine's folder here once more") from None


def _key(path: Path) -> EllipticCurvePrivateKey:
    key = key_from(read_private(path))
    if key is None:
        raise RecordError(
            f"{path} is no key of such a certificate: bring this machine's folder here once more"
        )
    return key
