"""Peak of the anonymous memory (RssAnon) of a process, sampled: what it holds beyond the files it maps."""

import os
import threading


def anonymous_mb(pid: int | str = "self") -> float:
    """RssAnon of a process in MB; 0 once it is gone."""
    try:
        with open(f"/proc/{pid}/status") as status:
            line = next((line for line in status if line.startswith("RssAnon")), None)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(line.split()[1]) / 1024 if line else 0.0


class Peak:
    """Context manager: samples the memory of a process every few milliseconds; ``megabytes`` is the highest."""

    def __init__(self, pid: int | None = None, every: float = 0.005) -> None:
        self.pid, self.every, self.megabytes = pid or os.getpid(), every, 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(self.every):
            self.megabytes = max(self.megabytes, anonymous_mb(self.pid))

    def __enter__(self) -> "Peak":
        self.megabytes = anonymous_mb(self.pid)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
