"""The one way in which bad input is reported."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class InputError(Exception):
    """Bad input, said in one sentence: which file, what is wrong, what to do.

    Parameters
    ----------
    path
        The file, folder or config key that is wrong.
    problem
        What is wrong with it, without a full stop.
    remedy
        What the user can do about it.
    """

    def __init__(self, path: str | Path, problem: str, remedy: str) -> None:
        super().__init__(str(path), problem, remedy)
        self.path, self.problem, self.remedy = str(path), problem, remedy

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}. {self.remedy}"


class InputErrors(InputError):
    """Several problems of the input, said at once.

    Parameters
    ----------
    problems
        At least one.
    """

    def __init__(self, problems: Iterable[InputError]) -> None:
        self.problems = list(problems)
        first = self.problems[0]
        super().__init__(first.path, first.problem, first.remedy)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = [f"  {number}. {problem}" for number, problem in enumerate(self.problems, start=1)]
        return "\n".join([f"{len(self.problems)} problems in the input:", *lines])


@dataclass
class Findings:
    """What checks found: problems, which stop the run, and warnings, which do not."""

    problems: list[InputError] = field(default_factory=list)
    warnings: list[InputError] = field(default_factory=list)

    def attempt(self, path: str | Path, remedy: str, function: Callable, *arguments: Any) -> Any:
        """Return what ``function`` returns, or None and note the problem; nothing is raised.

        ``path`` and ``remedy`` are said where the function fails in a way that it did not foresee.
        """
        try:
            return function(*arguments)
        except InputErrors as several:
            self.problems += several.problems
        except InputError as error:
            self.problems.append(error)
        except Exception as error:
            self.problems.append(InputError(path, f"cannot be read ({one_line(error)})", remedy))
        return None

    def problem(self, path: str | Path, problem: str, remedy: str) -> None:
        """Note a problem."""
        self.problems.append(InputError(path, problem, remedy))

    def warn(self, path: str | Path, problem: str, remedy: str) -> None:
        """Note a warning."""
        self.warnings.append(InputError(path, problem, remedy))

    def stop(self) -> None:
        """Raise :class:`InputErrors` where there is a problem."""
        if self.problems:
            raise InputErrors(self.problems)


def one_line(error: BaseException, longest: int = 200) -> str:
    """Say an exception in one line: its type and the start of its message."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:longest]}" if text else type(error).__name__


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Return the sentence that names the nearest known name, or all of them."""
    known = [str(name) for name in known]
    close = difflib.get_close_matches(str(key), known, n=1)
    return f"Did you mean {close[0]}?" if close else f"Known are: {', '.join(known)}."
