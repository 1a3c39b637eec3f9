"""The recurrence of an LSTM with resets, forward and backward; the loops are in lstm.h.

The caller computes the inputs' share of the gates and the gradients of weights, which are large
products over all steps at once. Arrays are float32 and C-contiguous: R rows, T steps, H units.
"""

from libc.stdint cimport uint8_t

import numpy as np

cdef extern from "lstm.h" nogil:
    ctypedef struct lstm_job:
        Py_ssize_t rows, steps, size
        const float *h0
        const float *c0
        const unsigned char *starts
        const float *panels
        float *gates
        float *h
        float *c
        const float *grad
        float *gates_grad
        float *before
        float *work
    ctypedef void (*run_t)(const lstm_job *) noexcept nogil
    void lstm_pack(const float *b, Py_ssize_t depth, Py_ssize_t n, bint transposed, float *out)
    int mlp_best_isa()
    run_t lstm_forward[3]
    run_t lstm_backward[3]


def forward(
    float[:, :, ::1] gates,
    const float[:, ::1] weight,
    const float[:, ::1] h0,
    const float[:, ::1] c0,
    const uint8_t[:, ::1] starts,
    float[:, :, ::1] h,
    float[:, :, ::1] c,
    float[:, :, ::1] before,
):
    """Turn inputs into activated gates [R, T, 4H] in place; write h, c and the h before each step."""
    cdef lstm_job job
    cdef Py_ssize_t size = weight.shape[1]
    _check(gates.shape[0], gates.shape[1], gates.shape[2], weight.shape[0], size)
    cdef float[::1] panels = np.empty(4 * size * size, np.float32)
    cdef float[::1] work = np.empty(gates.shape[0] * 6 * size, np.float32)
    job.rows, job.steps, job.size = gates.shape[0], gates.shape[1], size
    job.h0, job.c0, job.starts = &h0[0, 0], &c0[0, 0], &starts[0, 0]
    job.panels, job.work = &panels[0], &work[0]
    job.gates, job.h, job.c, job.before = &gates[0, 0, 0], &h[0, 0, 0], &c[0, 0, 0], &before[0, 0, 0]
    job.grad = NULL
    job.gates_grad = NULL
    cdef int isa = mlp_best_isa()
    with nogil:
        lstm_pack(&weight[0, 0], size, 4 * size, True, &panels[0])
        lstm_forward[isa](&job)


def backward(
    const float[:, :, ::1] grad,
    const float[:, :, ::1] gates,
    const float[:, ::1] weight,
    const float[:, ::1] c0,
    const uint8_t[:, ::1] starts,
    const float[:, :, ::1] c,
    float[:, :, ::1] gates_grad,
):
    """Gradient of the gates' inputs [R, T, 4H] from that of h [R, T, H]."""
    cdef lstm_job job
    cdef Py_ssize_t size = weight.shape[1]
    _check(gates.shape[0], gates.shape[1], gates.shape[2], weight.shape[0], size)
    cdef float[::1] panels = np.empty(4 * size * size, np.float32)
    cdef float[::1] work = np.empty(gates.shape[0] * 6 * size, np.float32)
    job.rows, job.steps, job.size = gates.shape[0], gates.shape[1], size
    job.h0, job.c0, job.starts = NULL, &c0[0, 0], &starts[0, 0]
    job.panels, job.work = &panels[0], &work[0]
    job.gates, job.c = <float *>&gates[0, 0, 0], <float *>&c[0, 0, 0]
    job.grad, job.gates_grad = &grad[0, 0, 0], &gates_grad[0, 0, 0]
    job.h = NULL
    job.before = NULL
    cdef int isa = mlp_best_isa()
    with nogil:
        lstm_pack(&weight[0, 0], 4 * size, size, False, &panels[0])
        lstm_backward[isa](&job)


cdef int _check(
    Py_ssize_t rows, Py_ssize_t steps, Py_ssize_t wide, Py_ssize_t out, Py_ssize_t size
) except -1:
    if rows < 1 or steps < 1 or size % 32 or wide != 4 * size or out != 4 * size:
        raise ValueError(f"no recurrence over {rows} rows, {steps} steps and {size} units")
    return 0
