"""PPO's clipped surrogate and its gradient over float32 arrays, one pass; the formula is ppo/loss.py's."""

from libc.math cimport expf, fabsf, sqrt
from libc.stdint cimport uint8_t


def moments(const float[::1] x, const uint8_t[::1] valid):
    """Number, mean and deviation (with N) of the valid entries."""
    cdef Py_ssize_t i, n = x.shape[0], count = 0
    cdef double mean = 0.0, spread = 0.0
    with nogil:
        for i in range(n):
            if valid[i]:
                count += 1
                mean += x[i]
        mean = mean / count if count else 0.0
        for i in range(n):
            if valid[i]:
                spread += (x[i] - mean) * (x[i] - mean)
    return count, mean, sqrt(spread / count) if count else 0.0


def surrogate(
    const float[::1] logprobs,
    const float[::1] entropy,
    const float[::1] values,
    const float[::1] old_logprobs,
    const float[::1] old_values,
    const float[::1] advantages,
    const float[::1] returns,
    const uint8_t[::1] valid,
    double shift,
    double scale,
    double count,
    double clip_coef,
    double vf_coef,
    bint clip_vloss,
    double vf_clip_coef,
    double ent_coef,
    float[::1] logprob_grad,
    float[::1] value_grad,
    float[::1] entropy_grad,
    double[::1] stats,
):
    """Write the gradients; add policy loss, value loss, entropy, KL, clipped share (/ count) to `stats`."""
    cdef Py_ssize_t i, n = logprobs.shape[0]
    cdef float weight = <float>(1.0 / count), clip = <float>clip_coef
    cdef float middle = <float>shift, factor = <float>(1.0 / scale), reach = <float>vf_clip_coef
    cdef float value_weight = <float>(vf_coef / count), entropy_weight = <float>(-ent_coef / count)
    cdef float log_ratio, ratio, advantage, plain, clipped, error, loss, change, far
    cdef double policy_sum = 0.0, value_sum = 0.0, entropy_sum = 0.0, kl_sum = 0.0, outside = 0.0
    with nogil:
        for i in range(n):
            if not valid[i]:
                logprob_grad[i] = value_grad[i] = entropy_grad[i] = 0.0
                continue
            log_ratio = logprobs[i] - old_logprobs[i]
            ratio = expf(log_ratio)
            advantage = (advantages[i] - middle) * factor
            plain = -advantage * ratio
            clipped = ratio
            if clipped > 1.0 + clip:
                clipped = 1.0 + clip
            elif clipped < 1.0 - clip:
                clipped = 1.0 - clip
            clipped *= -advantage
            # Where the clipped branch is strictly larger the loss is flat.
            if clipped > plain:
                policy_sum += clipped
                logprob_grad[i] = 0.0
            else:
                policy_sum += plain
                logprob_grad[i] = plain * weight
            error = values[i] - returns[i]
            loss = error * error
            value_grad[i] = error * value_weight
            if clip_vloss:
                change = values[i] - old_values[i]
                if fabsf(change) > reach:
                    far = old_values[i] + (reach if change > 0.0 else -reach) - returns[i]
                    if far * far > loss:
                        loss = far * far
                        value_grad[i] = 0.0
            value_sum += loss
            entropy_sum += entropy[i]
            entropy_grad[i] = entropy_weight
            kl_sum += (ratio - 1.0) - log_ratio
            if fabsf(ratio - 1.0) > clip:
                outside += 1.0
    stats[0] += policy_sum / count
    stats[1] += 0.5 * value_sum / count
    stats[2] += entropy_sum / count
    stats[3] += kl_sum / count
    stats[4] += outside / count
