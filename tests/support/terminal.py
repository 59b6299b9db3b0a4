"""A stream that claims to be a terminal, and what stands on it."""

from __future__ import annotations

import io
import re


class Terminal(io.StringIO):
    """Takes what a terminal takes: text, lines, and the commands by which pictures are painted."""

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        """The rows as they stand now, without colours."""
        rows, row, column = [""], 0, 0
        for command, number, text in re.findall(
            r"\x1b\[\??([\d;]*[A-Za-z])|(\r|\n)|([^\r\n\x1b]+)", self.getvalue()
        ):
            if text:
                before, after = rows[row][:column].ljust(column), rows[row][column + len(text) :]
                rows[row] = before + text + after
                column += len(text)
            elif number == "\r":
                column = 0
            elif number == "\n":
                row, column = row + 1, 0
                rows += [""] * (row + 1 - len(rows))
            elif command.endswith("A"):
                row -= int(command[:-1] or 1)
            elif command == "2K":
                rows[row] = ""
            else:
                assert command[-1] in "mlh", command
        return [row.rstrip() for row in rows]
