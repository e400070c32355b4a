"""Three machines: a holder's rows in PostgreSQL feed a regression, and are found nowhere else.

The machines are a coordinator's, with a holder on it, and those of two further holders.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import databases
import hosts
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from databases import BIN, PASSWORD, database_files
from deployed import TITLE
from deployments import COORDINATOR, Analyst, Deployed, deploy
from hosts import Host
from tacit.protocols.invitation import CONTRIBUTION_FAILED
from tacit.records.certificates import environment as variables_of

OBSTACLE = hosts.obstacle() or databases.obstacle()

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.timeout(400),  # Ray takes half a minute to start on several hosts, and on a busy machine more
    pytest.mark.skipif(bool(OBSTACLE), reason=OBSTACLE or "there can be hosts with PostgreSQL"),
]

HAS_DASHBOARD = all(find_spec(name) for name in ("aiohttp", "opentelemetry", "prometheus_client"))
needs_dashboard = pytest.mark.skipif(not HAS_DASHBOARD, reason="a dashboard takes ray[default]")

CANARY = 7318.529471  # among the rows of each holder
ANALYSIS = """\
model = "GLM"
formula = "count ~ I(dose / 1000)"
family = "poisson"
data = "rows"
"""
TESTS = str(Path(__file__).parents[1])
RAISING = "raising:with_the_rows"
POLICY = f'models = ["GLM", "Sum"]\nimportable = ["{RAISING}"]'
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
# What is in the command of each, whatever stands between its words.
SEARCHED = ("raylet/raylet", "gcs_server", "ray/dashboard")
# The dashboard, and what it asks: all that these processes have in memory is looked through.
SEARCH_MEMORY = """
import os, re, sys
import numpy as np
wanted = [bytes.fromhex(each) for each in sys.argv[2:]]
for process in filter(str.isdigit, os.listdir("/proc")):
    try:
        command = re.sub("[-.:]+", "/", open(f"/proc/{process}/cmdline").read().lower())
    except OSError:
        continue
    name = next((name for name in sys.argv[1].split() if name in command), None)
    if name is None or process == str(os.getpid()):
        continue
    maps, memory, pages = (open(f"/proc/{process}/{which}", "rb") for which in ("maps", "mem", "pagemap"))
    for mapping in maps:
        span, rights, *_ = mapping.split()
        if not rights.startswith(b"rw") or b"/dev/shm" in mapping:  # shared memory is searched as files
            continue
        begin, end = (int(bound, 16) // 4096 for bound in span.split(b"-"))
        pages.seek(8 * begin)
        there = np.frombuffer(pages.read(8 * (end - begin)), "<u8") >> 62 != 0  # what was ever touched
        for first, last in np.flatnonzero(np.diff(there, prepend=False, append=False)).reshape(-1, 2).tolist():
            memory.seek(4096 * (begin + first))
            try:
                content = memory.read(4096 * (last - first))
            except OSError:
                continue
            print("read", len(content))
            for each in wanted:
                if each in content:
                    print("FOUND", name, each.hex())
"""

# What the dashboard shows, without the token and with it.
LOOK = """
import json, sys, urllib.error, urllib.request
token, *paths = sys.argv[1:]
for path in paths:
    for headers in ({}, {"Authorization": "Bearer " + open(token).read().strip()}):
        try:
            asked = urllib.request.Request("http://127.0.0.1:8265" + path, headers=headers)
            with urllib.request.urlopen(asked) as page:
                print(json.dumps([path, page.status, page.read().decode()]))
        except urllib.error.HTTPError as error:
            print(json.dumps([path, error.code, error.read().decode()]))
"""
PAGES = (
    *(
        "/api/jobs/",
        "/logical/actors",
        "/nodes?view=summary",
        "/events",
        "/api/cluster_status",
    ),
    *(f"/api/v0/{kind}?detail=1" for kind in ("actors", "tasks", "objects", "workers", "nodes", "jobs")),
)


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
    with pytest.MonkeyPatch.context() as environment, hosts.network(folder, 2) as network:
        environment.setenv("PYTHONPATH", os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")]))
        made = deploy(network, folder, csv, ANALYSIS, policy=POLICY, sources={"north": table}, guest="south")
        (folder / "north" / "rows.csv").unlink()
        password = folder / "north" / "password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        serve(made.host("north"), database)
        if HAS_DASHBOARD:
            own = folder / COORDINATOR / "party.toml"
            own.write_text(own.read_text() + "dashboard = true\n")
        made.start()
        yield made


def test_a_table_of_a_database_feeds_a_regression(analyst: Analyst) -> None:
    answer = analyst.ask("run")
    pooled = pd.concat(ROWS.values())
    design = sm.add_constant(pooled["dose"].to_numpy() / 1000)
    expected = sm.GLM(pooled["count"].to_numpy(), design, sm.families.Poisson()).fit(tol=1e-12)
    assert answer["params"] == pytest.approx(expected.params.tolist(), rel=1e-8)


def secrets() -> list[bytes]:
    """What is to be found nowhere: values of rows, as text and as they lie in memory, and the password."""
    values = [CANARY, *ROWS["north"]["dose"][:3]]
    forms = [form for value in values for form in (repr(float(value)).encode(), struct.pack("<d", value))]
    return [*forms, PASSWORD.encode()]


@needs_dashboard
def test_a_job_of_ray_runs_the_study(deployed: Deployed, analyst: Analyst) -> None:
    expected = analyst.ask("run")["params"]
    study = ("-m", "tacit", "run", str(deployed.study()), "--save", "visits", "--json")
    submitted = subprocess.run(
        deployed.host(COORDINATOR).command(
            *(sys.executable, "-m", "ray.scripts.scripts", "job", "submit"),
            *("--address", "http://127.0.0.1:8265", "--", sys.executable, *study),
        ),
        env={**os.environ, **variables_of(deployed.folder / COORDINATOR / "certificates")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert submitted.returncode == 0, submitted
    printed = submitted.stdout
    found = json.loads(printed[printed.index("{\n") : printed.rindex("\n}") + 2])
    assert found["result"]["estimates"] == expected
    assert found["version"] == 1


@needs_dashboard
def test_no_row_is_found_on_a_page_of_the_dashboard(deployed: Deployed, analyst: Analyst) -> None:
    assert "params" in analyst.ask("run")
    token = str(deployed.folder / COORDINATOR / "certificates" / "token")
    told = deployed.host(COORDINATOR).run(sys.executable, "-c", LOOK, token, *PAGES)
    pages = [json.loads(line) for line in told.splitlines()]
    assert [status for _, status, _ in pages] == [401, 200] * len(PAGES), pages
    shown = "".join(page for _, _, page in pages)
    for known in ("DeployedHolder", f"{TITLE}: north", "10.77.2.2"):  # would the search find it?
        assert known in shown
    assert not [each for each in secrets() if each in shown.encode()]
    without_token = "".join(page for _, status, page in pages if status == 401)
    assert "Deployed" not in without_token


def test_with_a_dashboard_too_no_open_port_gives_anything_to_who_has_no_certificate(
    deployed: Deployed, analyst: Analyst
) -> None:
    assert "params" in analyst.ask("run")
    for answers in deployed.network.told_to_strangers(deployed.host("east")).values():
        assert answers
        assert all(answer.startswith("HTTP/1.1 401 ") for answer in answers), answers


def test_no_row_is_found_in_a_frame_a_log_an_exception_an_object_a_record_or_what_a_dashboard_shows(
    deployed: Deployed, analyst: Analyst, tmp_path: Path
) -> None:
    with hosts.wiretap(deployed.network, tmp_path / "trace"):
        assert "params" in analyst.ask("run")
        refused = analyst.ask("sum", function=RAISING)
    assert refused["error"] == "RefusedError"
    assert refused["message"].count(CONTRIBUTION_FAILED) == len(ROWS)
    assert not [each for each in secrets() if each in refused["message"].encode()]
    wanted = secrets()
    heard = b"".join(path.read_bytes() for path in tmp_path.glob("trace.*"))
    assert len(heard) > 50_000
    assert not [each for each in wanted if each in heard]
    planted = Path(hosts.RAY_FOLDER) / "planted"  # would the search find it?
    plant = f"open('{planted}', 'wb').write(bytes.fromhex('{wanted[1].hex()}'))"
    deployed.host("east").run(sys.executable, "-c", plant)
    seen_anywhere = set()
    for name, host in deployed.hosts.items():
        places = [hosts.RAY_FOLDER, "/dev/shm", str(deployed.folder / name / "state")]
        found = host.run(sys.executable, "-c", SEARCH, ":".join(places), *(each.hex() for each in wanted))
        expected = [f"FOUND {planted}"] if name == "east" else []
        assert [line for line in found.splitlines() if "FOUND" in line] == expected
        assert found.count("read ") > 10
        known = b"Deployed"  # a class of ours: would the search find it?
        hexed = [each.hex() for each in (known, *wanted)]
        found = host.run(sys.executable, "-c", SEARCH_MEMORY, " ".join(SEARCHED), *hexed)
        seen = {line for line in found.splitlines() if line.startswith("FOUND")}
        assert f"FOUND raylet/raylet {known.hex()}" in seen
        assert seen <= {f"FOUND {process} {known.hex()}" for process in SEARCHED}
        assert (
            sum(int(line.split()[1]) for line in found.splitlines() if line.startswith("read")) > 10_000_000
        )
        seen_anywhere |= seen
        said = deployed.log(name).read_bytes()
        assert not [each for each in wanted if each in said]
    for process in SEARCHED if HAS_DASHBOARD else SEARCHED[:2]:
        assert f"FOUND {process} {known.hex()}" in seen_anywhere
