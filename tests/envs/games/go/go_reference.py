"""Go once more, slowly and from the definitions: boards are tuples, groups are searched anew.

Nothing here is shared with the rules in C, and every former position is kept as it was.
"""

from __future__ import annotations

BLACK, WHITE, EMPTY = 0, 1, 2


class Reference:
    """One game; `moves()` lists the legal actions, `play` makes one."""

    def __init__(self, size, ko="positional", suicide=0, komi=7.5, board=None, first=BLACK):
        self.size, self.ko, self.suicide, self.komi = size, ko, suicide, komi
        self.board = tuple(board) if board is not None else (EMPTY,) * size**2
        self.turn, self.passes, self.ply = first, 0, 0
        self.former = [(self.board, first)]

    def near(self, point):
        row, column = divmod(point, self.size)
        for y, x in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if 0 <= y < self.size and 0 <= x < self.size:
                yield y * self.size + x

    def group(self, board, point):
        """The points connected to this one in its color, and what lies around them."""
        found, around, todo = {point}, set(), [point]
        while todo:
            for other in self.near(todo.pop()):
                if board[other] != board[point]:
                    around.add(other)
                elif other not in found:
                    found.add(other)
                    todo.append(other)
        return found, around

    def dead(self, board, color):
        """All stones of a color without liberties."""
        found = set()
        for point, here in enumerate(board):
            if here == color and point not in found:
                group, around = self.group(board, point)
                if not any(board[other] == EMPTY for other in around):
                    found |= group
        return found

    def after(self, point):
        """The board after a stone at an empty point, or None where a rule forbids it."""
        board = list(self.board)
        board[point] = self.turn
        captured = self.dead(board, 1 - self.turn)
        for stone in captured:
            board[stone] = EMPTY
        own = self.dead(board, self.turn)
        if own and (not self.suicide or own == {point}):
            return None
        for stone in own:
            board[stone] = EMPTY
        board = tuple(board)
        if self.ko == "positional" and any(board == old for old, _ in self.former):
            return None
        if self.ko == "situational" and (board, 1 - self.turn) in self.former:
            return None
        if self.ko == "simple" and len(self.former) > 1 and board == self.former[-2][0]:
            return None
        return board

    def over(self):
        return self.passes == 2 or self.ply == max(50, 2 * self.size**2)

    def moves(self):
        if self.over():
            return []
        points = [p for p, here in enumerate(self.board) if here == EMPTY]
        return [p for p in points if self.after(p) is not None] + [self.size**2]

    def play(self, action):
        if action == self.size**2:
            self.passes += 1
        else:
            self.board, self.passes = self.after(action), 0
        self.turn = 1 - self.turn
        self.ply += 1
        self.former.append((self.board, self.turn))

    def owners(self):
        """Who owns each point: a side's stones, and empty regions that only it touches."""
        owners = list(self.board)
        for point, here in enumerate(self.board):
            if here == EMPTY:
                around = {self.board[other] for other in self.group(self.board, point)[1]}
                owners[point] = around.pop() if len(around) == 1 else EMPTY
        return owners

    def margin(self):
        owners = self.owners()
        return owners.count(BLACK) - owners.count(WHITE) - self.komi
