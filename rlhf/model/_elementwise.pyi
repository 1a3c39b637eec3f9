"""Types of the compiled element-wise layers; addresses are those of contiguous tensors."""

def swiglu(gate_up: int, out: int, inner: int, bf16: bool, begin: int, end: int) -> None: ...
def swiglu_back(
    grad: int, gate_up: int, out: int, inner: int, bf16: bool, begin: int, end: int
) -> None: ...
def rms(
    x: int,
    y: int,
    scale: int,
    n: int,
    eps: float,
    in_bf16: bool,
    out_bf16: bool,
    begin: int,
    end: int,
) -> None: ...
def rms_back(
    grad: int,
    y: int,
    scale: int,
    out: int,
    n: int,
    in_bf16: bool,
    out_bf16: bool,
    begin: int,
    end: int,
) -> None: ...
def rotary(
    qkv: int,
    q: int,
    k: int,
    v: int,
    cosines: int,
    sines: int,
    shape: tuple[int, int, int, int, int],
    bf16: bool,
    back: bool,
    begin: int,
    end: int,
) -> None: ...
