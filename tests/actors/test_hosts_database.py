"""Three machines: a holder's rows in PostgreSQL feed a regression, and are found nowhere else.

The machines are a coordinator's, with a holder on it, and those of two further holders.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import databases
import hosts
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from databases import BIN, PASSWORD, database_files
from deployments import Analyst, Deployed, deploy
from hosts import Host

OBSTACLE = hosts.obstacle() or databases.obstacle()

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.timeout(400),  # Ray takes half a minute to start on several hosts, and on a busy machine more
    pytest.mark.skipif(bool(OBSTACLE), reason=OBSTACLE or "there can be hosts with PostgreSQL"),
]

CANARY = 7318.529471  # among the rows of each holder
ANALYSIS = """\
model = "GLM"
formula = "count ~ I(dose / 1000)"
family = "poisson"
data = "rows"
"""
SEARCH = """
import os, sys
wanted = [bytes.fromhex(each) for each in sys.argv[2:]]
for place in sys.argv[1].split(":"):
    for folder, _, names in os.walk(place):
        for name in names:
            path = os.path.join(folder, name)
            try:
                if os.path.isfile(path):
                    content = open(path, "rb").read()
                    print("read", len(content))
                    for each in wanted:
                        if each in content:
                            print("FOUND", path)
            except OSError as error:
                print("unread", path, error)
"""
# What a dashboard shows, it asks of these processes: all that they have in memory is looked through.
SEARCH_MEMORY = """
import os, sys
wanted = [bytes.fromhex(each) for each in sys.argv[1:]]
for process in filter(str.isdigit, os.listdir("/proc")):
    try:
        name = open(f"/proc/{process}/comm").read().strip()
    except OSError:
        continue
    if name not in ("gcs_server", "raylet"):
        continue
    with open(f"/proc/{process}/maps") as maps, open(f"/proc/{process}/mem", "rb", 0) as memory:
        for mapping in maps:
            span, rights, *_ = mapping.split()
            if "r" not in rights or "/dev/shm" in mapping or "[v" in mapping:  # shared memory is searched as files
                continue
            begin, end = (int(bound, 16) for bound in span.split("-"))
            memory.seek(begin)
            try:
                content = memory.read(end - begin)
            except OSError:
                continue
            print("read", len(content))
            for each in wanted:
                if each in content:
                    print("FOUND", name, each.hex())
"""


def rows_of(holder: int) -> pd.DataFrame:
    generator = np.random.default_rng(holder)
    dose = np.round(generator.uniform(0, 9000, 30), 6)
    dose[7] = CANARY
    return pd.DataFrame({"count": generator.poisson(np.exp(0.5 + dose / 5000)), "dose": dose})


ROWS = {name: rows_of(number) for number, name in enumerate(("north", "east", "south"))}


@pytest.fixture(scope="module")
def database() -> Iterator[Path]:
    """The files of a database cluster; its owner is PostgreSQL's own user."""
    with database_files() as folder:
        yield folder


def serve(host: Host, database: Path) -> None:
    """Start the server on a host, and fill its table."""
    assert BIN is not None
    server = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", str(BIN / "postgres")]
    with (database / "log").open("w") as log:
        host.start(*server, "-D", str(database / "data"), "-h", "127.0.0.1", "-k", str(database), log=log)
    pairs = ROWS["north"].itertuples(index=False, name=None)
    values = ",".join(f"({count}, {dose!r})" for count, dose in pairs)
    script = f"create table visits (count bigint, dose double precision); insert into visits values {values};"
    psql = (str(BIN / "psql"), "-v", "ON_ERROR_STOP=1", "-q", "-h", "127.0.0.1", "-U", "holder", "postgres")
    ends = time.monotonic() + 30
    while True:
        done = subprocess.run(
            host.command(*psql),
            env={**os.environ, "PGPASSWORD": PASSWORD},
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
        assert time.monotonic() < ends, done.stderr
        time.sleep(0.3)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("study")
    csv = {name: rows.to_csv(index=False) for name, rows in ROWS.items()}
    table = """\
sql = "postgresql://holder@127.0.0.1/postgres"
query = "select count, dose from visits"
password_file = "password"
"""
    with hosts.network(folder, 2) as network:
        made = deploy(network, folder, csv, ANALYSIS, sources={"north": table}, guest="south")
        (folder / "north" / "rows.csv").unlink()
        password = folder / "north" / "password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        serve(made.host("north"), database)
        made.start()
        yield made


@pytest.fixture(scope="module")
def analyst(deployed: Deployed) -> Iterator[Analyst]:
    asking = deployed.analyst()
    deployed.wait_until_all_are_met(asking)
    yield asking
    asking.process.kill()
    asking.process.communicate()


def test_a_table_of_a_database_feeds_a_regression(analyst: Analyst) -> None:
    answer = analyst.ask("run")
    pooled = pd.concat(ROWS.values())
    design = sm.add_constant(pooled["dose"].to_numpy() / 1000)
    expected = sm.GLM(pooled["count"].to_numpy(), design, sm.families.Poisson()).fit(tol=1e-12)
    assert answer["params"] == pytest.approx(expected.params.tolist(), rel=1e-8)


def test_no_row_is_found_in_a_frame_a_log_an_object_a_record_or_what_a_dashboard_shows(
    deployed: Deployed, analyst: Analyst, tmp_path: Path
) -> None:
    with hosts.wiretap(deployed.network, tmp_path / "trace"):
        assert "params" in analyst.ask("run")
    secrets = [CANARY, *ROWS["north"]["dose"][:3]]
    wanted = [text for value in secrets for text in (repr(float(value)).encode(), struct.pack("<d", value))]
    wanted.append(PASSWORD.encode())
    heard = b"".join(path.read_bytes() for path in tmp_path.glob("trace.*"))
    assert len(heard) > 50_000
    assert not [each for each in wanted if each in heard]
    planted = Path(hosts.RAY_FOLDER) / "planted"  # would the search find it?
    plant = f"open('{planted}', 'wb').write(bytes.fromhex('{wanted[1].hex()}'))"
    deployed.host("east").run(sys.executable, "-c", plant)
    is_head = False  # whether what the head knows was among it
    for name, host in deployed.hosts.items():
        places = [hosts.RAY_FOLDER, "/dev/shm", str(deployed.folder / name / "state")]
        found = host.run(sys.executable, "-c", SEARCH, ":".join(places), *(each.hex() for each in wanted))
        expected = [f"FOUND {planted}"] if name == "east" else []
        assert [line for line in found.splitlines() if "FOUND" in line] == expected
        assert found.count("read ") > 10
        known = b"south"  # a party's name: would the search find it?
        found = host.run(sys.executable, "-c", SEARCH_MEMORY, *(each.hex() for each in (known, *wanted)))
        seen = {line for line in found.splitlines() if line.startswith("FOUND")}
        assert f"FOUND raylet {known.hex()}" in seen
        assert seen <= {f"FOUND {process} {known.hex()}" for process in ("raylet", "gcs_server")}
        assert (
            sum(int(line.split()[1]) for line in found.splitlines() if line.startswith("read")) > 10_000_000
        )
        is_head |= f"FOUND gcs_server {known.hex()}" in seen
        said = deployed.log(name).read_bytes()
        assert not [each for each in wanted if each in said]
    assert is_head
