"""Types of the compiled element-wise layers; addresses are those of contiguous tensors."""

FOLD: int

def use_team(parallel: int, number: int, size: int) -> None: ...
def swiglu(gate_up: int, out: int, inner: int, bf16: bool, rows: int, threads: int) -> None: ...
def swiglu_back(
    grad: int, gate_up: int, out: int, inner: int, bf16: bool, rows: int, threads: int
) -> None: ...
def rms(
    x: int,
    y: int,
    scale: int,
    n: int,
    eps: float,
    in_bf16: bool,
    out_bf16: bool,
    rows: int,
    threads: int,
) -> None: ...
def rms_back(
    grad: int,
    y: int,
    scale: int,
    out: int,
    n: int,
    in_bf16: bool,
    out_bf16: bool,
    rows: int,
    threads: int,
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
    rows: int,
    threads: int,
) -> None: ...
def likelihood(
    logits: int,
    targets: int,
    out: tuple[int, int, int],
    n: int,
    bf16: bool,
    rows: int,
    threads: int,
) -> None: ...
def likelihood_back(
    logits: int,
    targets: int,
    found: tuple[int, int, int],
    outer: int,
    spread: int,
    n: int,
    bf16: bool,
    rows: int,
    threads: int,
) -> None: ...
def fold(weight: int, gain: int, out: int, n: int, bf16: bool, rows: int, threads: int) -> None: ...
def fold_back(
    grad: int,
    weight: int,
    gain: int,
    out: int,
    sums: int,
    n: int,
    bf16: bool,
    rows: int,
    threads: int,
) -> None: ...
