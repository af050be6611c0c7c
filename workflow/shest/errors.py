"""The one way in which bad input is reported."""

from pathlib import Path


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
