"""Minimum-cost assignment for the small groups that need one."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["best_assignment"]

_INFINITE = float("inf")


def best_assignment(scores: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs (row, column) of the highest total score; every row or every column is used, whichever are fewer.

    The Hungarian method with potentials, cubic in the size: for groups of a few dozen members.
    """
    if not scores:
        return []
    rows, columns = len(scores), len(scores[0])
    if rows > columns:
        turned = [[scores[i][j] for i in range(rows)] for j in range(columns)]
        return sorted((i, j) for j, i in best_assignment(turned))
    potential_row, potential_column = [0.0] * (rows + 1), [0.0] * (columns + 1)
    row_of = [0] * (columns + 1)
    for row in range(1, rows + 1):
        row_of[0] = row
        column = 0
        least, before, done = [_INFINITE] * (columns + 1), [0] * (columns + 1), [False] * (columns + 1)
        while row_of[column]:
            done[column] = True
            current, delta, following = row_of[column], _INFINITE, 0
            for j in range(1, columns + 1):
                if done[j]:
                    continue
                cost = -scores[current - 1][j - 1] - potential_row[current] - potential_column[j]
                if cost < least[j]:
                    least[j], before[j] = cost, column
                if least[j] < delta:
                    delta, following = least[j], j
            for j in range(columns + 1):
                if done[j]:
                    potential_row[row_of[j]] += delta
                    potential_column[j] -= delta
                else:
                    least[j] -= delta
            column = following
        while column:
            row_of[column] = row_of[before[column]]
            column = before[column]
    return sorted((row_of[j] - 1, j - 1) for j in range(1, columns + 1) if row_of[j])
