"""A real SLURM of one node, on loopback, with its own munge: for tests, as root, without systemd or cgroups.

All it writes lies in one folder, but for the configuration: jobs of snakemake find it in /etc/slurm only. What stood
there is put back at the end. A SLURM that answers already is left alone.
"""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PLACE = Path("/etc/slurm")
OURS = "# written by the tests of a workflow; removed when they end\n"
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MinJobAge=7200
SlurmctldTimeout=30
SlurmdTimeout=30
KillWait=3
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=gpu Nodes={host} MaxTime=1-00:00:00 State=UP
"""
GPUS = """
AutoDetect=off
NodeName={host} Name=gpu File=/dev/null
NodeName={host} Name=gpu File=/dev/zero
"""


def obstacle() -> str | None:
    """Say why no SLURM can be started here; None where it can."""
    if os.geteuid() != 0:
        return "needs root to start a SLURM"
    if not (shutil.which("slurmctld") and shutil.which("munged")) and not shutil.which("apt-get"):
        return "needs SLURM and munge, or apt-get to install them"
    conf = PLACE / "slurm.conf"
    ours = conf.is_file() and conf.read_text().startswith(OURS)
    if not ours and shutil.which("sinfo") and subprocess.run(["sinfo"], capture_output=True).returncode == 0:
        return "this machine belongs to a SLURM that runs already"
    return None


def install() -> None:
    """Install SLURM and munge where they are not there yet."""
    if all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch", "munged")):
        return
    quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run(["apt-get", "update", "-q"], **quiet)
    subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES], check=True, **quiet)


def free_ports(number: int) -> list[int]:
    """Find ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(condition, what: str, seconds: float = 60, every: float = 0.2) -> None:
    """Wait until a condition holds."""
    last = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > last:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(every)


class Node:
    """Daemons of the cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder, socket.gethostname().split(".")[0]
        self.lock = None

    def start(self) -> None:
        """Start munged, slurmctld and slurmd; return when the node takes jobs."""
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir(parents=True)
            (self.folder / name).chmod(0o755)
        self._resolve()
        self._take_place()
        key = self.folder / "munge/key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        paths = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge/{name}" for option, name in paths.items()]
        self._call("munged", "--force", *options)
        self._call("slurmctld", "-c")
        self.start_slurmd()

    def _take_place(self) -> None:
        """Put the configuration where clients look for it, once no other test run stands there."""
        PLACE.mkdir(exist_ok=True)
        self.lock = open(PLACE / ".tests.lock", "w")  # noqa: SIM115 (held until the end)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        conf = PLACE / "slurm.conf"
        if conf.is_file() and conf.read_text().startswith(OURS):  # of tests that were killed
            end_daemons(Path(re.search(r"StateSaveLocation=(.*)/state", conf.read_text())[1]))
        facts = {"host": self.host, "folder": self.folder, "ports": free_ports(2)}
        facts["cpus"] = 2 * os.cpu_count()  # more than there are: small jobs mostly wait
        for name, text in (("slurm.conf", CONFIG), ("gres.conf", GPUS)):
            there = PLACE / name
            if there.is_file() and not there.read_text().startswith(OURS):
                there.rename(PLACE / f"{name}.before-tests")
            there.write_text(OURS + text.format(**facts))

    def _leave_place(self) -> None:
        for name in ("slurm.conf", "gres.conf"):
            (PLACE / name).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                (PLACE / f"{name}.before-tests").rename(PLACE / name)
        self.lock.close()

    def _resolve(self) -> None:
        """Give the host's name an address where it has none, as in some containers."""
        with suppress(OSError):
            socket.gethostbyname(self.host)
            return
        with open("/etc/hosts", "a") as hosts:
            hosts.write(f"127.0.0.1 {self.host}\n")

    def start_slurmd(self) -> None:
        """Start slurmd and wait until the node takes jobs."""
        self._call("slurmd")
        states = ("idle", "mixed", "allocated", "mix", "alloc")
        wait_for(lambda: self.ask("sinfo", "-h", "-p", "main", "-o", "%T").strip() in states, "the node", 60)

    def kill_slurmd(self) -> None:
        """Kill slurmd at once, as a crash would."""
        end(self.folder / "slurmd.pid", signal.SIGKILL)

    def ask(self, *command: str) -> str:
        """Call a client; return what it says."""
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout

    def stop(self) -> None:
        """End every job and the daemons, and wait for each of them."""
        self.ask("scancel", "--user=root", "--full")
        with suppress(TimeoutError):
            wait_for(lambda: not self.ask("squeue", "-h").strip(), "the last jobs", 15)
        end_daemons(self.folder)
        self._leave_place()

    def _call(self, *command: str) -> None:
        # Daemons keep what they inherit: their output must not go into pipes that somebody waits on.
        with open(self.folder / "start.log", "ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)


def end_daemons(folder: Path) -> None:
    """End the daemons whose pid files lie in a folder, and wait for each."""
    for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
        end(folder / name, signal.SIGTERM)


def end(pid_file: Path, how: signal.Signals) -> None:
    """Send a signal to the process of a pid file and wait for its end."""
    if not pid_file.is_file() or not pid_file.read_text().strip():
        return
    pid = int(pid_file.read_text())
    with suppress(ProcessLookupError):
        os.kill(pid, how)
    wait_for(lambda: not alive(pid), f"process {pid} to end", 30)
    pid_file.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Say whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
