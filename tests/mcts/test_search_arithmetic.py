"""Vector arithmetic gives the same bits with SSE2, in plain C, and in the reference."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import playout
import pytest
from playout.mcts.reference_math import exp, schedule, total_of

SOURCE = """
#include "root.h"
void both(const float *x, const float *y, float *out) {
    vf a = v_load(x), b = v_load(y);
    v_store(out, v_exp(a));
    v_store(out + 8, v_div(v_sqrt(v_mul(b, b)), v_max(v_sub(a, b), v_all(1.5f))));
    v_store(out + 16, v_if(v_gt(a, b), v_add(a, b), v_min(a, v_all(-3.0f))));
    v_store(out + 24, v_keep(v_andnot(v_lanes(5), v_eq(a, b)), b));
    out[32] = v_sum(b), out[33] = v_highest(b), out[34] = v_lowest(b);
    out[35] = (float)v_bits(v_gt(b, a));
}
void halving(int m, int n, int *out) { mcts_schedule(m, n, out); }
"""
ROOT = Path(playout.__file__).parent


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("arithmetic")
    (folder / "both.c").write_text(SOURCE)
    found = []
    for name, flags in (("native", []), ("plain", ["-DMCTS_PLAIN"])):
        out = folder / f"{name}.so"
        includes = [f"-I{ROOT / 'mcts/tree'}", f"-I{ROOT / 'envs/include'}"]
        options = ["-std=c11", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-w"]
        subprocess.run(
            [compiler, *options, *flags, *includes, "both.c", "-o", out, "-lm"],
            cwd=folder,
            check=True,
        )
        found.append(ctypes.CDLL(str(out)))
    return found


def test_vectors_give_the_same_bits_everywhere(builds):
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 30.0, 200.0):
        for _ in range(200):
            a = -np.abs(scale * rng.normal(size=8)).astype(np.float32)
            b = (scale * rng.normal(size=8)).astype(np.float32)
            b[rng.integers(8)] = a[rng.integers(8)]
            outs = []
            for build in builds:
                out = np.zeros(36, np.float32)
                build.both(*(ctypes.c_void_p(x.ctypes.data) for x in (a, b, out)))
                outs.append(out)
            np.testing.assert_array_equal(outs[0].view(np.uint32), outs[1].view(np.uint32))
            np.testing.assert_array_equal(outs[0][:8], exp(a))
            assert outs[0][32] == total_of(b)
            truth = np.exp(np.maximum(a, -87).astype(np.float64))
            np.testing.assert_allclose(outs[0][:8], truth, rtol=3e-7)


def test_visit_schedules_equal_the_reference_and_are_complete(builds):
    for m in (1, 2, 3, 5, 7, 16, 100):
        for n in (0, 1, 2, 7, 16, 33, 200, 1000):
            out = np.full(n + 1, -1, np.int32)
            builds[0].halving(m, n, ctypes.c_void_p(out.ctypes.data))
            assert out[:n].tolist() == schedule(m, n) and out[n] == -1
            counts = np.bincount(out[:n], minlength=1)
            assert (np.diff(counts[counts > 0]) <= 0).all()  # never more candidates than before
