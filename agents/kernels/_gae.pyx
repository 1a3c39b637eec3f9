"""Generalised advantage estimation over rows of float32, one pass from the end to the start of each row."""

from libc.stdint cimport uint8_t


def gae(
    const float[:, ::1] rewards,
    const float[:, ::1] values,
    const uint8_t[:, ::1] terminations,
    const uint8_t[:, ::1] truncations,
    const uint8_t[:, ::1] valid,
    const float[::1] last_values,
    const float[:, ::1] bootstrap_values,
    double gamma,
    double gae_lambda,
    float[:, ::1] advantages,
    float[:, ::1] returns,
):
    """Fill `advantages` and `returns` [R, T]; `bootstrap_values` may be None. gae.py checks shapes."""
    cdef Py_ssize_t rows = rewards.shape[0]
    cdef Py_ssize_t steps = rewards.shape[1]
    cdef Py_ssize_t row, t
    cdef double carry, next_value, delta, after
    cdef bint own = bootstrap_values is not None
    with nogil:
        for row in range(rows):
            carry = 0.0
            next_value = last_values[row]
            for t in range(steps - 1, -1, -1):
                if not valid[row, t]:
                    # Skipped: the next valid step is the successor of the one before.
                    advantages[row, t] = 0.0
                    returns[row, t] = values[row, t]
                    continue
                after = next_value
                if terminations[row, t]:
                    after = 0.0
                    carry = 0.0
                elif truncations[row, t]:
                    # The observation right after a truncated step is the final one of its episode.
                    if own:
                        after = bootstrap_values[row, t]
                    elif t + 1 < steps:
                        after = values[row, t + 1]
                    else:
                        after = last_values[row]
                    carry = 0.0
                delta = rewards[row, t] + gamma * after - values[row, t]
                carry = delta + gamma * gae_lambda * carry
                advantages[row, t] = <float>carry
                returns[row, t] = <float>(carry + values[row, t])
                next_value = values[row, t]
