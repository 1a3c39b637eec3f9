"""Types of the compiled layer; addresses are those of contiguous memory."""

def forward(
    x: int,
    residual: int,
    y: int,
    weight: int,
    bias: int,
    mean: int,
    variance: int,
    work: int,
    eps: float,
    rows: int,
    channels: int,
) -> None: ...
def backward(
    grad: int,
    x: int,
    y: int,
    weight: int,
    mean: int,
    variance: int,
    grad_x: int,
    grad_residual: int,
    grad_weight: int,
    grad_bias: int,
    work: int,
    eps: float,
    rows: int,
    channels: int,
) -> None: ...
