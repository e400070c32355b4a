"""The way into a deployment for whoever asks: the study file, and this machine's certificates.

Ray reads certificates and token from the environment **when it is imported**, so here it is not.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..protocols.errors import SetupError
from ..records.certificates import (
    CA_CERTIFICATE,
    CERTIFICATE,
    KEY,
    check_certificates,
    environment,
    utc_now,
)
from ..records.study import Study
from .errors import PeerUnreachableError

if TYPE_CHECKING:
    from .deployment import Deployment

REACH_SECONDS = 5.0
OUT_OF_TIME = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
CERTIFICATES = "certificates"  # the folder's name, beside the study's file


def connect(
    study: str | os.PathLike[str], *, certificates: str | os.PathLike[str] | None = None
) -> Deployment:
    """Connect with the parties of a study, which each have joined on their own machine.

    Parameters
    ----------
    study : path
        The study file, the same as at every party, to the byte.
    certificates : path, optional
        The folder with this machine's certificates and token, as ``python -m tacit keys cluster`` makes them; by
        default the folder ``certificates`` beside the study, if there is one.

    Returns
    -------
    Deployment
        A federation like that of `tacit.simulate`: a context manager; closing it ends none of the parties.

    Raises
    ------
    RecordError
        If the study, or the folder of certificates, is not in order.
    SetupError
        If Ray was imported without them, or this process uses another Ray; if there are none, and it goes by Ray's
        token, as after a simulation.
    PeerUnreachableError
        If Ray does not run on this machine, or the coordinator has not joined.

    Examples
    --------
    >>> with tacit.connect("study.toml") as federation:   # doctest: +SKIP
    ...     print(federation.run().summary())
    """
    agreed = Study.read(study)
    beside = Path(study).absolute().parent / CERTIFICATES
    folder = Path(certificates) if certificates is not None else beside if beside.is_dir() else None
    if folder is not None:
        check_certificates(folder)
        _use(environment(folder))
    elif _goes_by_token() and "RAY_USE_TLS" not in os.environ:
        # Ray would drop what the parties send here, and wait for ever.
        raise SetupError(
            "this process goes by a token of Ray's (RAY_AUTH_MODE=token, as a simulation sets it), and a study without "
            "certificates by none: name this machine's folder of certificates, or connect from a process without "
            "RAY_AUTH_MODE in which nothing was simulated"
        )
    _reach(agreed.address, folder)
    from .deployment import connected  # noqa: PLC0415 - which imports Ray

    return connected(agreed)


def _goes_by_token() -> bool:
    """Whether Ray, in this process, asks others for a token."""
    return os.environ.get("RAY_AUTH_MODE", "disabled") != "disabled"


def _reach(address: str, folder: Path | None) -> None:
    """See whether Ray's head is there, with a certificate of the same authority: Ray itself would try for minutes.

    Raises
    ------
    PeerUnreachableError, SetupError
        If it is not, or has another.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS) as plain:
            if folder is None:
                return
            context = ssl.create_default_context(cafile=folder / CA_CERTIFICATE)
            context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
            with context.wrap_socket(plain, server_hostname=host.strip("[]")):
                return
    except ssl.SSLError as error:
        if getattr(error, "verify_code", None) in OUT_OF_TIME:
            raise SetupError(
                f"the certificate of Ray's head at {address} is not valid at this time, which is "
                f"{utc_now():%Y-%m-%d %H:%M} UTC by this machine's clock: set that, or the coordinator's, by NTP; if "
                "both are right it has expired, and the coordinator's machine needs another folder"
            ) from None
        raise SetupError(
            f"Ray's head at {address} has no certificate of this study's authority ({error.reason}): it is another "
            "cluster, or was started without TLS"
        ) from None
    except OSError as error:
        raise PeerUnreachableError(
            f"Ray's head at {address}", remedy=f"let the coordinator join first ({error.strerror or error})"
        ) from None


def _use(variables: dict[str, str]) -> None:
    """Have Ray find certificates and token."""
    missing = {name: value for name, value in variables.items() if os.environ.get(name) != value}
    if missing and "ray" in sys.modules:
        raise SetupError(
            "Ray was imported before it could be told of the certificates: call tacit.connect first, or set "
            + " ".join(f"{name}={value}" for name, value in missing.items())
        )
    os.environ.update(missing)
