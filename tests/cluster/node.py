"""A real SLURM of one node, on loopback, in a folder of its own: for tests, as root, without systemd or cgroups.

Nothing of a SLURM that the machine may have is touched: own configuration, own ports, own munge.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
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
SchedulerParameters=sched_interval=5,batch_sched_delay=1
ReturnToService=2
MinJobAge=600
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
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(every)


class Node:
    """Daemons of the cluster; ``variables`` is what its clients need in their environment."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder, socket.gethostname().split(".")[0]
        self.variables = {"SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        """Start munged, slurmctld and slurmd; return when the node takes jobs."""
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir(parents=True)
            (self.folder / name).chmod(0o755)
        self._resolve()
        facts = {
            "host": self.host,
            "folder": self.folder,
            "ports": free_ports(2),
            "cpus": 2 * os.cpu_count(),
        }  # more than there are: small jobs mostly wait
        (self.folder / "slurm.conf").write_text(CONFIG.format(**facts))
        (self.folder / "gres.conf").write_text(GPUS.format(**facts))
        key = self.folder / "munge/key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        paths = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge/{name}" for option, name in paths.items()]
        self._call("munged", "--force", *options)
        self._call("slurmctld", "-c")
        self.start_slurmd()

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
        self._end(self.folder / "slurmd.pid", signal.SIGKILL)

    def ask(self, *command: str) -> str:
        """Call a client; return what it says."""
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | self.variables)
        return done.stdout

    def running(self, name: str) -> bool:
        """Say whether a job runs whose comment, which snakemake writes, holds a name."""
        return any(name in line for line in self.ask("squeue", "-h", "-t", "R", "-o", "%k").splitlines())

    def stop(self) -> None:
        """End every job and the daemons, and wait for each of them."""
        self.ask("scancel", "--user=root", "--full")
        with suppress(TimeoutError):
            wait_for(lambda: not self.ask("squeue", "-h").strip(), "the last jobs", 15)
        for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            self._end(self.folder / name, signal.SIGTERM)

    def _call(self, *command: str) -> None:
        # Daemons keep what they inherit: their output must not go into pipes that somebody waits on.
        with open(self.folder / "start.log", "ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, env=os.environ | self.variables)

    @staticmethod
    def _end(pid_file: Path, how: signal.Signals) -> None:
        if not pid_file.is_file() or not pid_file.read_text().strip():
            return
        pid = int(pid_file.read_text())
        with suppress(ProcessLookupError):
            os.kill(pid, how)
        wait_for(lambda: not _alive(pid), f"process {pid} to end", 30)
        pid_file.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
