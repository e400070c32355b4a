"""The certificates of a cluster: they make mutual TLS, and what is wrong with them is found before Ray starts."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tacit.records.certificates import check_certificates, environment, make_cluster
from tacit.records.errors import RecordError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MACHINES = {"north": ["10.1.0.2"], "south": ["10.1.0.3", "south.example"]}


def clock(days: float = 0) -> datetime:
    return NOW + timedelta(days=days)


def make(folder: Path, machines: dict[str, list[str]] = MACHINES) -> Path:
    make_cluster(folder, machines, lambda n: bytes(range(n)), now=clock)
    return folder


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    return make(tmp_path / "cluster")


def test_every_machine_has_a_folder_and_the_authority_keeps_its_key(cluster: Path) -> None:
    files = {str(path.relative_to(cluster)) for path in cluster.rglob("*") if path.is_file()}
    assert files == {
        *(f"{name}/{file}" for name in MACHINES for file in ("ca.crt", "node.crt", "node.key", "token")),
        *(f"authority/{file}" for file in ("ca.crt", "ca.key", "token")),
    }


def test_everything_is_for_its_owner_alone(cluster: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in cluster.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {path.stat().st_mode & 0o777 for path in cluster.iterdir()} == {0o700}


def test_certificate_is_for_the_machine_and_itself_for_a_year(cluster: Path) -> None:
    checked = check_certificates(cluster / "south", "10.1.0.3", now=clock)
    assert checked.hosts == ("10.1.0.3", "south.example", "127.0.0.1", "localhost")
    assert checked.until == clock(365)
    assert checked.authority == check_certificates(cluster / "north", now=clock).authority


def test_token_is_the_same_everywhere_and_random(cluster: Path) -> None:
    tokens = {path.read_text() for path in cluster.rglob("token")}
    assert tokens == {bytes(range(32)).hex()}


def test_environment_names_files_that_are_there_in_full(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cluster)
    variables = environment(Path("north"))
    assert (variables["RAY_USE_TLS"], variables["RAY_AUTH_MODE"]) == ("1", "token")
    files = {name: Path(value) for name, value in variables.items() if value not in ("1", "token")}
    assert set(files) == {
        "RAY_TLS_SERVER_CERT",
        "RAY_TLS_SERVER_KEY",
        "RAY_TLS_CA_CERT",
        "RAY_AUTH_TOKEN_PATH",
    }
    assert all(path.is_absolute() and path.is_file() for path in files.values())


def context(folder: Path, side: int) -> ssl.SSLContext:
    made = ssl.SSLContext(side)
    made.load_verify_locations(folder / "ca.crt")
    made.load_cert_chain(folder / "node.crt", folder / "node.key")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def handshake(one: Path, other: Path, host: str) -> str:
    """Connect two machines by TLS, each showing its certificate; return what the server heard."""
    left, right = socket.socketpair()
    heard: list[str] = []

    def serve() -> None:
        with right, context(other, ssl.PROTOCOL_TLS_SERVER).wrap_socket(right, server_side=True) as secure:
            heard.append(secure.recv(10).decode())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with left, context(one, ssl.PROTOCOL_TLS_CLIENT).wrap_socket(left, server_hostname=host) as secure:
            secure.sendall(b"hello")
    finally:
        thread.join()
    return "".join(heard)


def test_two_machines_speak_mutual_tls(tmp_path: Path) -> None:
    make_cluster(tmp_path, MACHINES, bytes)  # today: TLS looks at the clock
    assert handshake(tmp_path / "north", tmp_path / "south", "10.1.0.3") == "hello"


def test_machine_that_joins_later_has_the_same_authority_and_token(cluster: Path) -> None:
    make(cluster, {"west": ["10.1.0.4"]})
    west, north = (check_certificates(cluster / name, now=clock) for name in ("west", "north"))
    assert west.authority == north.authority
    assert (cluster / "west" / "token").read_text() == (cluster / "north" / "token").read_text()


def test_nothing_is_overwritten(cluster: Path) -> None:
    with pytest.raises(RecordError, match="north is there already: move it away"):
        make(cluster, {"west": ["10.1.0.4"], "north": ["10.1.0.2"]})
    assert not (cluster / "west").exists()


@pytest.mark.parametrize("name", ["authority", "", "../x", "a b"])
def test_unusable_name_is_refused(cluster: Path, name: str) -> None:
    with pytest.raises(RecordError, match=r"is no name|is there already"):
        make(cluster, {name: ["10.1.0.4"]})


@pytest.mark.parametrize("host", ["", "a b", "höst", "*.example"])
def test_unusable_host_is_refused_before_a_folder_is_made(cluster: Path, host: str) -> None:
    with pytest.raises(RecordError, match="is neither an address nor a name of a machine"):
        make(cluster, {"west": [host]})
    assert not (cluster / "west").exists()


@pytest.mark.parametrize(
    ("days", "says"),
    [
        (
            366,
            r"node\.crt has expired on 2027-03-01, and this machine's clock says 2027-03-02 .*: set the clock if",
        ),
        (-1, r"ca\.crt is valid from .*, and this machine's clock says .*: set this machine's clock"),
    ],
)
def test_certificate_out_of_its_time_is_refused(cluster: Path, days: int, says: str) -> None:
    with pytest.raises(RecordError, match=says):
        check_certificates(cluster / "north", now=lambda: clock(days))


def test_certificate_of_another_machine_is_refused(cluster: Path) -> None:
    with pytest.raises(
        RecordError, match=r"is for 10\.1\.0\.2, 127.* this machine is 10\.1\.0\.3: take its own"
    ):
        check_certificates(cluster / "north", "10.1.0.3", now=clock)


def test_certificate_of_another_authority_is_refused(cluster: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other")
    shutil.copy(other / "north" / "ca.crt", cluster / "north" / "ca.crt")
    with pytest.raises(RecordError, match=r"node\.crt is not signed by .*ca\.crt: take both from one folder"):
        check_certificates(cluster / "north", now=clock)


def test_key_of_another_certificate_is_refused(cluster: Path) -> None:
    shutil.copy(cluster / "south" / "node.key", cluster / "north" / "node.key")
    with pytest.raises(RecordError, match=r"node\.key is not the key of .*node\.crt: take both"):
        check_certificates(cluster / "north", now=clock)


@pytest.mark.parametrize("file", ["node.key", "token", "."])
def test_open_permissions_are_refused(cluster: Path, file: str) -> None:
    (cluster / "north" / file).chmod(0o755)
    with pytest.raises(RecordError, match=r"\(mode 0755\): chmod go="):
        check_certificates(cluster / "north", now=clock)


@pytest.mark.parametrize("file", ["ca.crt", "node.crt", "node.key", "token"])
def test_missing_or_damaged_file_is_named(cluster: Path, file: str) -> None:
    (cluster / "north" / file).write_text("x")
    with pytest.raises(RecordError, match=f"{file} is no "):
        check_certificates(cluster / "north", now=clock)
    (cluster / "north" / file).unlink()
    with pytest.raises(RecordError, match=f"{file} cannot be read: No such file"):
        check_certificates(cluster / "north", now=clock)
