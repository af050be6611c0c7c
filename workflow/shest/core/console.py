"""What a person sees while a rule runs: messages and progress, in the rule's log and on the terminal."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from shest.core.errors import InputError

log = logging.getLogger("shest")
PROGRESS_SECONDS = 5.0


@contextmanager
def session(log_path: str | Path) -> Iterator[None]:
    """Send messages, warnings and errors to ``log_path`` and to the terminal while a script runs.

    An :class:`InputError` ends the process with its one sentence and exit status 1; any other exception
    leaves its traceback in the log and goes on to the caller.
    """
    Path(log_path).parent.mkdir(parents=True, exist_ok=True)
    form = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    handlers = [logging.FileHandler(log_path, mode="w"), logging.StreamHandler(sys.stderr)]
    for handler in handlers:
        handler.setFormatter(form)
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    file_only = logging.getLogger("py.warnings")
    file_only.addHandler(handlers[0])
    file_only.propagate = False
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    try:
        yield
    except InputError as error:
        log.error("ERROR %s", error)
        logging.shutdown()
        sys.stderr.flush()
        os._exit(1)  # no traceback: the sentence says it all
    except Exception:
        logging.getLogger("py.warnings").exception("failed")
        raise
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            file_only.removeHandler(handler)
        handlers[0].close()


@contextmanager
def track(total: int, what: str, unit: str = "cells") -> Iterator[Callable[[int], None]]:
    """Report done/total, rate and time left every few seconds; yield the function that advances the count."""
    start = last = time.monotonic()
    done = 0

    def line(now: float) -> str:
        rate = done / max(now - start, 1e-9)
        left = timedelta(seconds=round((total - done) / rate)) if rate > 0 else "?"
        return f"{what}: {done:,}/{total:,} {unit}, {rate:,.0f}/s, {left} left"

    def advance(n: int = 1) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last >= PROGRESS_SECONDS and done < total:
            last = now
            log.info(line(now))

    yield advance
    seconds = time.monotonic() - start
    log.info(f"{what}: {done:,}/{total:,} {unit} in {seconds:.1f} s, {done / max(seconds, 1e-9):,.0f}/s")
