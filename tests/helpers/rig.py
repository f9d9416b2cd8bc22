"""A real Slurm on this machine: one controller and several node daemons, started for a test."""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
_FOR_ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb")
_MYSQL = "slurm-wlm/accounting_storage_mysql.so"  # slurmdbd needs this plugin for its database
_PATIENCE = 5.0  # seconds from the request to start a task in two seconds to the next request

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={slurmd_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
KillWait=3
ReturnToService=2
MaxArraySize={max_array_size}
JobAcctGatherType=jobacct_gather/none
{accounting}
SwitchType=switch/none
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first_node}-{last_node}] CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes=n[1-{nodes}] MaxTime=INFINITE State=UP PriorityTier=10
"""


_DBD_CONF = """\
AuthType=auth/munge
DbdHost=localhost
DbdPort={port}
SlurmUser=root
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=root
StoragePass=none
StorageLoc=slurm_acct_db
"""

_MUNGE_WORKS = ["sh", "-c", "munge -n | unmunge"]

# A folder name with all characters that are special for a shell or for Slurm's file patterns.
FOLDER = 'it\'s a "run" of $HOME, 100%j & more #1'


def project(folder: Path, dataset: Path) -> Path:
    """A working folder of that name with the dataset as `a`, whose jobs start no worker processes."""
    place = folder / FOLDER
    shutil.copytree(dataset, place / "a")
    (place / "jobs").mkdir()
    (place / "jobs/slurm.yaml").write_text("cpu: {cpus_per_task: 1}\n")
    return place


def why_not(accounting: bool = False) -> str:
    """The reason why Slurm cannot be started here; empty if it can."""
    needed = _NEEDED + (_FOR_ACCOUNTING if accounting else ())
    missing = [name for name in needed if not _which(name)]
    if accounting and not any(Path("/usr/lib").glob(f"*/{_MYSQL}")):
        missing.append("slurm-wlm-mysql-plugin")
    if missing:
        return f"{', '.join(missing)} not installed"
    return "" if getpass.getuser() == "root" else "its daemons need root"


class Cluster:
    """A context manager that runs the daemons; commands with `environment` talk to them."""

    def __init__(
        self, folder: Path, nodes: int = 4, max_array_size: int = 1001, accounting: bool = False
    ) -> None:
        self.folder = folder
        self.nodes = nodes
        self.accounting = accounting
        ports = _free_ports(nodes + 4)
        self._dbd, self._database = ports[-2:]
        self._hurried: dict[str, float] = {}  # task → when its start was last asked for
        self._server: subprocess.Popen[bytes] | None = None
        host = socket.gethostname()
        for part in ("state", "spool", "log", *(f"spool/n{i}" for i in range(1, nodes + 1))):
            (folder / part).mkdir(parents=True)
        self.conf = folder / "slurm.conf"
        self.conf.write_text(
            _CONF.format(
                host=host,
                folder=folder,
                nodes=nodes,
                max_array_size=max_array_size,
                port=ports[0],
                slurmd_port=ports[1],
                first_node=ports[2],
                last_node=ports[nodes + 1],
                accounting=_accounting(self._dbd if accounting else None),
            )
        )
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf)}

    def __enter__(self) -> Cluster:
        try:
            _start_munge()
            if self.accounting:
                self._start_accounting()
            self._start("slurmctld", "-c")
            for i in range(1, self.nodes + 1):
                self._start("slurmd", "-N", f"n{i}")
            self._wait_until_idle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["scancel", "--user=root"], env=self.environment, check=False)
        time.sleep(1)
        for pid_file in self.folder.glob("*.pid"):
            try:
                os.kill(int(pid_file.read_text()), 15)
            except ProcessLookupError:
                continue
        if self._server is not None:
            self._server.terminate()  # slurmdbd closes its connection itself
            self._server.wait(30)

    def sbatch(self, *arguments: str, cwd: Path) -> int:
        """Submit and return the job id."""
        answer = self.run("sbatch", "--parsable", *arguments, cwd=cwd)
        return int(answer.strip().partition(";")[0])

    def run(self, *command: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            command, cwd=cwd, env=self.environment, text=True, capture_output=True, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def wait(self, job: int, seconds: float = 180) -> set[str]:
        """Wait for the end of a job or an array; return the final states of its tasks."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = self.run("scontrol", "--oneliner", "show", "job", str(job))
            states = {word[9:] for word in answer.split() if word.startswith("JobState=")}
            if not states & {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED"}:
                return states
            time.sleep(0.5)
        raise AssertionError(f"job {job} did not end within {seconds} s: {answer}")

    def hurry(self, job: int | str) -> bool:
        """Start requeued tasks soon, not in two minutes; return whether the job is in the queue.

        Call this repeatedly: Slurm sets the wait again when it has cleaned up the first start. A node
        refuses a start in the second in which it ended the one before ("Job credential revoked"), so
        the new start is two seconds later, and is asked for again only if it did not happen.
        """
        queue = self.run("squeue", "-h", "-r", "-j", str(job), "-o", "%i %r")
        for line in queue.splitlines():
            task, reason = line.split(maxsplit=1)
            now = time.monotonic()
            if reason == "BeginTime" and now - self._hurried.get(task, -_PATIENCE) >= _PATIENCE:
                self._hurried[task] = now
                update = ("scontrol", "update", f"jobid={task}", "StartTime=now+2")
                # This fails if the task has started meanwhile, which is fine.
                subprocess.run(update, env=self.environment, capture_output=True, check=False)
        return bool(queue)

    def kill_node(self, node: str) -> None:
        """Kill the daemon, the steps and the tasks of a node at once, like a power cut."""
        for pid in [*self._tasks(node), int((self.folder / f"slurmd.{node}.pid").read_text())]:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def revive_node(self, node: str) -> None:
        self._start("slurmd", "-N", node)  # the controller accepts it again
        self._wait_until_idle()

    def _tasks(self, node: str) -> list[int]:
        """Processes of the node: first the daemons that would report the end of a task, then the tasks."""
        tasks, steps = [], []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
                status = (folder / "status").read_text().split()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            wanted = {f"SLURMD_NODENAME={node}".encode(), f"SLURM_CONF={self.conf}".encode()}
            if wanted <= set(variables):
                tasks.append(int(folder.name))
                parent = status[status.index("PPid:") + 1]
                if (Path("/proc") / parent / "comm").read_text().startswith("slurmstepd"):
                    steps.append(int(parent))
        return [*steps, *tasks]

    def _start_accounting(self) -> None:
        """Start a database for this cluster, and slurmdbd."""
        data = self.folder / "database"
        data.mkdir()
        socket_file = self.folder / "db.sock"
        with (self.folder / "log/database.log").open("w") as log:
            self._server = subprocess.Popen(
                [_which("mariadbd"), "--no-defaults", "--user=root", "--skip-grant-tables",
                 f"--datadir={data}", f"--socket={socket_file}", f"--port={self._database}",
                 "--bind-address=127.0.0.1",
                 "--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0"],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        create = ["mariadb", "--no-defaults", f"--socket={socket_file}", "-e",
                  "create database slurm_acct_db"]  # fmt: skip
        _until(lambda: _answers(create), "the database did not start")
        conf = self.folder / "slurmdbd.conf"
        conf.write_text(
            _DBD_CONF.format(folder=self.folder, port=self._dbd, database=self._database)
        )
        conf.chmod(0o600)  # slurmdbd refuses a file that others can read
        self._start("slurmdbd")
        add = ["sacctmgr", "--immediate", "add", "cluster", "test"]
        _until(lambda: _answers(add, self.environment), "slurmdbd did not start")

    def _start(self, daemon: str, *arguments: str) -> None:
        command = [_which(daemon), *arguments]
        subprocess.run(command, env=self.environment, check=True, timeout=60)

    def _wait_until_idle(self) -> None:
        for _ in range(120):
            answer = subprocess.run(
                ["sinfo", "-h", "-N", "-p", "main", "-o", "%T"],
                env=self.environment,
                text=True,
                capture_output=True,
                check=False,
            ).stdout.split()
            if answer == ["idle"] * self.nodes:
                return
            time.sleep(0.5)
        log = (self.folder / "log/slurmctld.log").read_text()[-2000:]
        raise AssertionError(f"the nodes did not start: {answer}\n{log}")


def _accounting(port: int | None) -> str:
    if port is None:
        return "AccountingStorageType=accounting_storage/none"
    return (
        "AccountingStorageType=accounting_storage/slurmdbd\n"
        f"AccountingStorageHost=127.0.0.1\nAccountingStoragePort={port}"
    )


def _answers(command: list[str], environment: dict[str, str] | None = None) -> bool:
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    return done.returncode == 0


def _until(ready: Callable[[], bool], otherwise: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.2)


def _which(name: str) -> str:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or ""


def _free_ports(count: int) -> list[int]:
    """Consecutive free ports, because slurm.conf takes the ports of the nodes as a range.

    Each test process searches a range of its own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for first in range(16800 + 1000 * worker, 32000, count):
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        else:
            return list(range(first, first + count))
        finally:
            for one in sockets:
                one.close()
    raise AssertionError("no free ports")


def _start_munge() -> None:
    """Start munge unless it runs; test processes take turns, since two daemons refuse one socket."""
    with (Path(tempfile.gettempdir()) / "vsp-tests-munge").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if _answers(_MUNGE_WORKS):
            return
        if not Path("/etc/munge/munge.key").exists():
            subprocess.run([_which("mungekey"), "-c"], check=True)
        for folder in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            shutil.chown(folder, "munge", "munge")
        daemon = [_which("munged")]
        subprocess.run(["runuser", "-u", "munge", "--", *daemon], check=True, timeout=30)
        _until(lambda: _answers(_MUNGE_WORKS), "munge did not start")
