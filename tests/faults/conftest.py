"""Fixtures of the fault tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from killing import Command, evaluation_files, kill_tree


@pytest.fixture
def command(tmp_path: Path, strokes_data: Path) -> Iterator[Command]:
    """A command whose processes end with the test."""
    made = Command(tmp_path, strokes_data)
    yield made
    for process in made.started:
        if process.poll() is None:
            kill_tree(process)


@pytest.fixture(scope="session")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, strokes_data: Path
) -> Callable[[], tuple[dict[str, Any], list[tuple[int, float]], dict[str, bytes]]]:
    """The same run without any fault: its result, losses and evaluation files; made once."""
    made: list[tuple[dict[str, Any], list[tuple[int, float]], dict[str, bytes]]] = []

    def get() -> tuple[dict[str, Any], list[tuple[int, float]], dict[str, bytes]]:
        if not made:
            command = Command(tmp_path_factory.mktemp("undisturbed"), strokes_data)
            result = command.result(command.start("--offline"))
            made.append((result, command.losses(), evaluation_files(command.run)))
        return made[0]

    return get
