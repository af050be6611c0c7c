"""A SLURM of one node for this folder's tests, and snakemake calls through the project's profile."""

import signal
import subprocess
from pathlib import Path

import node as slurm
import pytest
import yaml


@pytest.fixture(scope="session")
def node(tmp_path_factory):
    """A running cluster; its daemons end with the tests."""
    why = slurm.obstacle()
    if why:
        pytest.skip(why)
    try:
        slurm.install()
    except subprocess.CalledProcessError:
        pytest.skip("SLURM could not be installed")
    running = slurm.Node(tmp_path_factory.mktemp("slurm"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def scattered(root, tmp_path_factory) -> Path:
    """config/tiny.yaml with every sample's tiles spread over two jobs."""
    config = yaml.safe_load((root / "config/tiny.yaml").read_text())
    config |= {"embed": {"shards": 2}, "samples": str(root / "config" / config["samples"])}
    path = tmp_path_factory.mktemp("config") / "scattered.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


class Run:
    """A snakemake that submits jobs: start it, look at it, wait for its end."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with open(log, "w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)

    @property
    def said(self) -> str:
        """All that it has said so far."""
        return self.log.read_text()

    def submitted(self) -> list[str]:
        """Names of the SLURM logs of the jobs it has submitted: rule_NAME or group_NAME_RULES, and wildcards."""
        lines = [line for line in self.said.splitlines() if "has been submitted with SLURM jobid" in line]
        return [line.split("/logs/slurm/")[1].rsplit("/", 1)[0] for line in lines]

    def wait(self, seconds: float = 1500) -> int:
        """Wait for its end; return its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise

    def stop(self) -> None:
        """Interrupt it where it still runs; it cancels its jobs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture(scope="session")
def submit(node, root, scattered, tmp_path_factory):
    """Run snakemake through the profile in a folder: submit(folder, *arguments)."""
    runs = []

    def start(folder: Path, *arguments: str, profile: Path = root / "workflow/profiles/slurm") -> Run:
        command = [
            "snakemake",
            "--profile",
            str(profile),
            "--snakefile",
            str(root / "Snakefile"),
            "--directory",
            str(folder),
            "--configfile",
            str(scattered),
            "--max-threads",
            "2",
            "--latency-wait",
            "10",
            "--slurm-init-seconds-before-status-checks",
            "8",
            *arguments,
        ]
        runs.append(Run(command, tmp_path_factory.mktemp("log") / "snakemake.log"))
        return runs[-1]

    yield start
    for run in runs:
        run.stop()
