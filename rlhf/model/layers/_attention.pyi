"""Types of the compiled attention; addresses are those of contiguous tensors."""

Four = tuple[int, int, int, int]
Shape = tuple[int, int, int, int, int, int, int]

ISA: int

def use_team(parallel: int, number: int, size: int) -> None: ...
def attend(
    where: Four,
    out: int,
    shape: Shape,
    mask: int,
    scale: float,
    bf16: bool,
    units: int,
    threads: int,
    isa: int = 2,
) -> None: ...
def attend_back(
    where: Four,
    gradients: Four,
    shape: Shape,
    mask: int,
    scale: float,
    bf16: bool,
    units: int,
    threads: int,
    isa: int = 2,
) -> None: ...
