"""Loops over rollouts and observations that NumPy would need several passes for."""

from libc.math cimport sqrt
from libc.stdint cimport int64_t, uint8_t


def update_moments(const float[:, ::1] x, double count, double[::1] mean, double[::1] m2):
    """Add rows [N, D] to running means and sums of squared deviations; returns the new count."""
    cdef Py_ssize_t n = x.shape[0], d = x.shape[1], i, j
    cdef double part, spread, delta, total = count + n
    if n == 0:
        return count
    with nogil:
        for j in range(d):
            part = 0.0
            for i in range(n):
                part += x[i, j]
            part /= n
            spread = 0.0
            for i in range(n):
                delta = x[i, j] - part
                spread += delta * delta
            delta = part - mean[j]
            mean[j] += delta * n / total
            m2[j] += spread + delta * delta * count * n / total
    return total


def normalize(
    const float[:, ::1] x,
    double count,
    const double[::1] mean,
    const double[::1] m2,
    double clip,
    float[:, ::1] out,
):
    """Write (x - mean) / deviation, clipped to +-clip, for rows [N, D]."""
    cdef Py_ssize_t n = x.shape[0], d = x.shape[1], i, j
    cdef double scale, value
    with nogil:
        for j in range(d):
            scale = 1.0 / sqrt(m2[j] / count + 1e-8) if count > 1.0 else 1.0
            for i in range(n):
                value = (x[i, j] - mean[j]) * scale
                out[i, j] = <float>(clip if value > clip else (-clip if value < -clip else value))


def discounted(
    const float[:, ::1] rewards,
    const uint8_t[:, ::1] over,
    const uint8_t[:, ::1] valid,
    double gamma,
    double[::1] carry,
    float[:, ::1] out,
):
    """Running discounted sums of rewards [R, T], begun anew after each episode."""
    cdef Py_ssize_t rows = rewards.shape[0], steps = rewards.shape[1], row, t
    with nogil:
        for row in range(rows):
            for t in range(steps):
                if valid[row, t]:
                    carry[row] = gamma * carry[row] + rewards[row, t]
                out[row, t] = <float>carry[row]
                if valid[row, t] and over[row, t]:
                    carry[row] = 0.0


def episodes(
    const float[:, ::1] rewards,
    const uint8_t[:, ::1] over,
    const uint8_t[:, ::1] valid,
    double[::1] returns,
    int64_t[::1] lengths,
):
    """Returns and lengths of the episodes that end in [R, T]; running ones stay in the carries."""
    cdef Py_ssize_t rows = rewards.shape[0], steps = rewards.shape[1], row, t
    found = []
    for t in range(steps):
        for row in range(rows):
            if not valid[row, t]:
                continue
            returns[row] += rewards[row, t]
            lengths[row] += 1
            if over[row, t]:
                found.append((returns[row], lengths[row]))
                returns[row] = 0.0
                lengths[row] = 0
    return found
