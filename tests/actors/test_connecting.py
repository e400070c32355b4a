"""The way into a deployment: certificates are found before Ray is imported, or whoever asks is told."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from studies import study_text, write_study
from tacit.actors import connecting, deployment
from tacit.actors.connecting import connect
from tacit.actors.errors import PeerUnreachableError
from tacit.protocols.errors import SetupError
from tacit.records.certificates import environment, make_cluster, utc_now
from tacit.records.errors import RecordError

VARIABLES = (*environment(Path()), "RAY_AUTH_TOKEN")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what is set here is gone afterwards
        monkeypatch.delenv(name)


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The studies that were asked for; nobody is looked up."""
    studies: list[Any] = []
    monkeypatch.setattr(deployment, "connected", studies.append)
    monkeypatch.setattr(connecting, "_reach", lambda address, folder: None)
    return studies


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path)


def certificates(folder: Path) -> Path:
    [made] = make_cluster(folder / "made", {"here": ["10.1.0.9"]}, os.urandom)
    made.rename(folder / "certificates")
    return folder / "certificates"


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not imported it."""
    monkeypatch.setattr(connecting, "sys", type("Sys", (), {"modules": {}}))


def test_certificates_beside_the_study_are_used(
    study: Path, connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    folder = certificates(study.parent)
    connect(study)
    assert {name: os.environ[name] for name in environment(folder)} == environment(folder)
    assert connected[0].title == "Insect sprays"


def test_certificates_elsewhere_are_named(
    study: Path, connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    folder = certificates(study.parent).rename(study.parent / "elsewhere")
    connect(study, certificates=folder)
    assert os.environ["RAY_TLS_SERVER_KEY"] == str(folder / "node.key")


def test_without_certificates_nothing_is_set(study: Path, connected: list[Any]) -> None:
    connect(study)
    assert not [name for name in VARIABLES if name in os.environ]
    assert len(connected) == 1


@pytest.mark.parametrize(("mode", "is_refused"), [("token", True), ("disabled", False)])
def test_process_that_has_simulated_is_not_left_to_wait_for_parties_without_a_token(
    study: Path, connected: list[Any], monkeypatch: pytest.MonkeyPatch, mode: str, is_refused: bool
) -> None:
    """Ray sets the mode when it starts on its own, and keeps it."""
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    if is_refused:
        with pytest.raises(SetupError, match="in which nothing was simulated"):
            connect(study)
    else:
        connect(study)
    assert len(connected) == (not is_refused)


def test_certificates_that_the_environment_names_are_left_to_it(
    study: Path, connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where one starts Ray oneself."""
    for name, value in environment(certificates(study.parent)).items():
        monkeypatch.setenv(name, value)
    (study.parent / "certificates").rename(study.parent / "elsewhere")
    connect(study)
    assert len(connected) == 1


def test_ray_that_was_imported_without_the_certificates_is_refused(study: Path, connected: list[Any]) -> None:
    folder = certificates(study.parent)
    assert "ray" in sys.modules
    with pytest.raises(SetupError, match=r"call tacit\.connect first, or set RAY_USE_TLS=1") as caught:
        connect(study)
    assert (folder / "token").read_text().strip() not in str(caught.value)
    assert "RAY_USE_TLS" not in os.environ
    assert connected == []


def test_ray_that_was_imported_with_the_certificates_is_used(
    study: Path, connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(certificates(study.parent)).items():
        monkeypatch.setenv(name, value)
    connect(study)
    assert len(connected) == 1


def test_folder_that_is_not_in_order_is_refused_before_anything_is_set(
    study: Path, connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    (certificates(study.parent) / "token").unlink()
    with pytest.raises(RecordError, match="token"):
        connect(study)
    assert "RAY_USE_TLS" not in os.environ


def test_study_that_is_not_in_order_is_refused(tmp_path: Path, connected: list[Any]) -> None:
    with pytest.raises(RecordError, match="minimum_holders"):
        connect(write_study(tmp_path, study_text(rest="[rules]\nminimum_holders = 9")))
    assert connected == []


def test_the_way_in_and_its_errors_do_not_import_ray() -> None:
    """Ray reads the environment once, when it is imported."""
    code = (
        "import sys, tacit; tacit.connect, tacit.PeerUnreachableError, tacit.GLM, tacit.RecordError; "
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Head:
    """Listens on this machine, with the certificates of a folder or without."""

    def __init__(self, folder: Path | None) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._context: ssl.SSLContext | None = None
        if folder is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(folder / "node.crt", folder / "node.key")
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def _answer(self) -> None:
        caller, _ = self._listening.accept()
        with caller, contextlib.suppress(OSError):
            if self._context is None:
                caller.sendall(b"no TLS here\n")
            else:
                self._context.wrap_socket(caller, server_side=True).close()

    def close(self) -> None:
        self._thread.join()
        self._listening.close()


def authority(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return make_cluster(folder / "made", {"here": []}, os.urandom)[0]


def test_a_head_with_a_certificate_of_the_same_authority_is_reached(tmp_path: Path) -> None:
    folder = authority(tmp_path / "ours")
    with contextlib.closing(Head(folder)) as head:
        connecting._reach(head.address, folder)


@pytest.mark.parametrize("theirs", [True, False])
def test_a_head_of_another_authority_or_none_is_told_at_once(tmp_path: Path, theirs: bool) -> None:
    other = authority(tmp_path / "theirs") if theirs else None
    with (
        contextlib.closing(Head(other)) as head,
        pytest.raises(SetupError, match="no certificate of this study's authority"),
    ):
        connecting._reach(head.address, authority(tmp_path / "ours"))


def test_a_head_that_is_not_there_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(PeerUnreachableError, match="let the coordinator join first"):
        connecting._reach(address, None)


def test_a_head_whose_certificate_is_out_of_its_time_has_the_clock_named(tmp_path: Path) -> None:
    [stale] = make_cluster(
        tmp_path / "made", {"head": []}, os.urandom, days=20, now=lambda: utc_now() - timedelta(days=30)
    )
    [folder] = make_cluster(tmp_path / "made", {"here": []}, os.urandom)
    with (
        contextlib.closing(Head(stale)) as head,
        pytest.raises(
            SetupError, match=r"not valid at this time, which is .* by this machine's clock: set that"
        ),
    ):
        connecting._reach(head.address, folder)
