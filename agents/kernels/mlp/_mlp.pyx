"""A small MLP policy evaluated and differentiated in C: network, categorical or Gaussian head, value.

One call does what would be some forty tensor operations. The formulas are those of distributions.py;
the network's are in mlp.h, the categorical head's in categorical.h. Arrays are float32 and
C-contiguous, actions int64 or float32. Leaves out the surrogate loss (ppo/loss.py).
"""

cimport cython
from libc.math cimport expf
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

cdef extern from "mlp.h" nogil:
    int MLP_BLOCK, MLP_PANEL
    int MLP_PAD(int)
    int MLP_STRIDE(int)
    ctypedef struct mlp_layer:
        int num_in, num_out, activation
        const float *weight
        const float *bias
        float *weight_grad
        float *bias_grad
        float *panels
        float *start
        float *transposed_grad
        float *out
    bint mlp_needs_transpose(int num_in)
    void mlp_prepare(mlp_layer *layer)
    int mlp_best_isa()
    ctypedef void (*forward_t)(const mlp_layer *, int, const float *, Py_ssize_t, Py_ssize_t) noexcept nogil
    ctypedef void (*backward_t)(
        const mlp_layer *, int, const float *, Py_ssize_t, Py_ssize_t, float *, Py_ssize_t, float *, float *
    ) noexcept nogil
    forward_t mlp_forward[3]
    backward_t mlp_backward[3]

cdef extern from "categorical.h" nogil:
    void mlp_log_softmax(const float *logits, const uint8_t *mask, int count, float *logp)
    float mlp_entropy(const float *logp, int count)
    int mlp_draw(const float *logp, int count, float uniform)
    int mlp_mode(const float *logp, int count)
    void mlp_categorical_grad(
        const float *logp, const uint8_t *mask, int count, Py_ssize_t action, float logp_grad,
        float entropy_grad, float *d
    )

cdef float HALF_LOG_TAU = 0.9189385332046727


@cython.final
cdef class NativeMLP:
    """Layers of a trunk (may be none), of the policy and of the value, over arrays that belong to torch.

    Each layer is (weight [O, I], bias [O], weight_grad, bias_grad, activation): 0 none, 1 tanh, 2 relu.
    `log_std` and its gradient make the head Gaussian; without them it is categorical.
    """

    cdef mlp_layer *layers
    cdef int trunk, policy, value, count, isa, widest, num_params
    cdef Py_ssize_t capacity, rows, ldx
    cdef object kept, log_std_array
    cdef float[::1] log_std, log_std_grad
    cdef bint gaussian
    cdef float[::1] work
    cdef float *d
    cdef float *inner
    cdef float *scratch
    cdef float *logp
    cdef const float *x
    cdef object obs, actions, mask

    def __cinit__(self):
        self.layers = NULL

    def __init__(self, trunk, policy, value, log_std=None, log_std_grad=None, isa=None):
        every = [*trunk, *policy, *value]
        self.trunk, self.policy, self.value = len(trunk), len(policy), len(value)
        self.count = len(every)
        self.isa = mlp_best_isa() if isa is None else min(int(isa), mlp_best_isa())
        self.layers = <mlp_layer *>malloc(self.count * sizeof(mlp_layer))
        if self.layers == NULL:
            raise MemoryError
        self.kept = [every]
        self.capacity = 0
        self.widest = 0
        cdef float[:, ::1] weight, weight_grad
        cdef float[::1] bias, bias_grad, own
        cdef int k, num_in, num_out, size
        for k, (a, b, c, e, activation) in enumerate(every):
            weight, bias, weight_grad, bias_grad = a, b, c, e
            num_out, num_in = a.shape
            size = num_in * MLP_PAD(num_out)
            own = np.zeros(size * (1 + mlp_needs_transpose(num_in)) + MLP_PAD(num_out), np.float32)
            self.kept.append((weight, bias, weight_grad, bias_grad, own))
            self.layers[k].num_in, self.layers[k].num_out = num_in, num_out
            self.layers[k].activation = activation
            self.layers[k].weight, self.layers[k].bias = &weight[0, 0], &bias[0]
            self.layers[k].weight_grad, self.layers[k].bias_grad = &weight_grad[0, 0], &bias_grad[0]
            self.layers[k].panels = &own[0]
            self.layers[k].start = self.layers[k].panels + size
            self.layers[k].transposed_grad = NULL
            if mlp_needs_transpose(num_in):
                self.layers[k].transposed_grad = self.layers[k].start + MLP_PAD(num_out)
            self.widest = max(self.widest, MLP_STRIDE(num_out), MLP_STRIDE(num_in))
        self.num_params = self.layers[self.trunk + self.policy - 1].num_out
        self.gaussian = log_std is not None
        if self.gaussian:
            self.log_std, self.log_std_grad = log_std, log_std_grad
        # Two blocks of gradients and a panel of at most `widest` rows.
        own = np.zeros((2 * MLP_BLOCK + MLP_PANEL) * self.widest, np.float32)
        self.kept.append(own)
        self.scratch = &own[0]

    def __dealloc__(self):
        free(self.layers)

    cdef int _reserve(self, Py_ssize_t rows) except -1:
        """Make room for activations of `rows` observations."""
        if rows <= self.capacity:
            return 0
        cdef Py_ssize_t size = 0, at = 0
        cdef int k
        for k in range(self.count):
            size += rows * MLP_STRIDE(self.layers[k].num_out)
        size += rows * (2 * self.widest + self.num_params)
        self.work = np.zeros(size, np.float32)
        for k in range(self.count):
            self.layers[k].out = &self.work[at]
            at += rows * MLP_STRIDE(self.layers[k].num_out)
        self.d = &self.work[at]
        self.inner = self.d + rows * self.widest
        self.logp = self.inner + rows * self.widest
        self.capacity = rows
        return 0

    def prepare(self):
        """Take over the parameters as they are now; call after every change of them."""
        cdef int k
        for k in range(self.count):
            mlp_prepare(&self.layers[k])

    cdef int _forward(self, const float[:, ::1] obs) except -1:
        cdef Py_ssize_t rows = obs.shape[0]
        if obs.shape[1] != self.layers[0].num_in:
            raise ValueError(f"observations must have {self.layers[0].num_in} numbers, not {obs.shape[1]}")
        self._reserve(max(rows, 1))
        self.rows, self.ldx = rows, obs.shape[1]
        if rows == 0:
            return 0
        self.x = &obs[0, 0]
        cdef const float *inner = self.x
        cdef Py_ssize_t ld = self.ldx
        cdef mlp_layer *policy = self.layers + self.trunk
        cdef mlp_layer *value = policy + self.policy
        with nogil:
            if self.trunk:
                mlp_forward[self.isa](self.layers, self.trunk, self.x, self.ldx, rows)
                inner = self.layers[self.trunk - 1].out
                ld = MLP_STRIDE(self.layers[self.trunk - 1].num_out)
            mlp_forward[self.isa](policy, self.policy, inner, ld, rows)
            mlp_forward[self.isa](value, self.value, inner, ld, rows)
        return 0

    def forward(self, const float[:, ::1] obs, float[:, ::1] params, float[::1] values):
        """Outputs of the policy's last layer [N, P] and values [N]."""
        self._forward(obs)
        self._copy_values(values)
        cdef Py_ssize_t n
        cdef const float *out = self.layers[self.trunk + self.policy - 1].out
        for n in range(self.rows):
            memcpy(&params[n, 0], out + n * MLP_STRIDE(self.num_params), sizeof(float) * self.num_params)

    cdef int _copy_values(self, float[::1] values) except -1:
        cdef const float *out = self.layers[self.count - 1].out
        cdef Py_ssize_t n
        if values.shape[0] != self.rows:
            raise ValueError("values has the wrong length")
        for n in range(self.rows):
            values[n] = out[n * MLP_STRIDE(1)]
        return 0

    cdef float *_log_softmax(self, Py_ssize_t n, const uint8_t[:, ::1] mask) noexcept:
        """Log-probabilities of row n."""
        cdef const float *logits = self.layers[self.trunk + self.policy - 1].out
        cdef float *logp = self.logp + n * self.num_params
        mlp_log_softmax(
            logits + n * MLP_STRIDE(self.num_params),
            &mask[n, 0] if mask is not None else NULL,
            self.num_params,
            logp,
        )
        return logp

    def step(
        self,
        const float[:, ::1] obs,
        const uint8_t[:, ::1] mask,
        const float[:, ::1] noise,
        actions,
        float[::1] logprobs,
        float[::1] values,
    ):
        """Act: `noise` [N, 1] uniform (categorical) or [N, D] normal (Gaussian); None takes the mode."""
        self._forward(obs)
        self._copy_values(values)
        if self.gaussian:
            self._step_gaussian(noise, actions, logprobs)
        else:
            self._step_categorical(mask, noise, actions, logprobs)

    cdef int _step_categorical(
        self, const uint8_t[:, ::1] mask, const float[:, ::1] noise, int64_t[::1] actions, float[::1] logprobs
    ) except -1:
        cdef Py_ssize_t n
        cdef int chosen
        cdef float *logp
        cdef bint sampled = noise is not None
        for n in range(self.rows):
            logp = self._log_softmax(n, mask)
            if sampled:
                chosen = mlp_draw(logp, self.num_params, noise[n, 0])
            else:
                chosen = mlp_mode(logp, self.num_params)
            actions[n] = chosen
            logprobs[n] = logp[chosen]
        return 0

    cdef int _step_gaussian(
        self, const float[:, ::1] noise, float[:, ::1] actions, float[::1] logprobs
    ) except -1:
        cdef Py_ssize_t n, j, size = self.num_params
        cdef float *mean = self.layers[self.trunk + self.policy - 1].out
        cdef float z, total
        cdef bint sampled = noise is not None
        for n in range(self.rows):
            total = 0.0
            for j in range(size):
                z = noise[n, j] if sampled else 0.0
                actions[n, j] = mean[n * MLP_STRIDE(<int>size) + j] + z * expf(self.log_std[j])
                total -= 0.5 * z * z + self.log_std[j] + HALF_LOG_TAU
            logprobs[n] = total
        return 0

    def evaluate(
        self,
        const float[:, ::1] obs,
        const uint8_t[:, ::1] mask,
        actions,
        float[::1] logprobs,
        float[::1] entropy,
        float[::1] values,
    ):
        """Log-probabilities of the actions, entropies and values [N]; keeps what `backward` needs."""
        self._forward(obs)
        self.obs, self.actions, self.mask = obs, actions, mask
        self._copy_values(values)
        cdef Py_ssize_t n, j, size = self.num_params
        cdef float z, total, spread
        cdef float *logp
        cdef const float *mean
        cdef int64_t[::1] choices
        cdef float[:, ::1] points
        if not self.gaussian:
            choices = actions
            for n in range(self.rows):
                logp = self._log_softmax(n, mask)
                if choices[n] < 0 or choices[n] >= self.num_params:
                    raise ValueError(f"action {choices[n]} is not below {self.num_params}")
                entropy[n] = mlp_entropy(logp, self.num_params)
                logprobs[n] = logp[choices[n]]
            return
        points = actions
        mean = self.layers[self.trunk + self.policy - 1].out
        spread = 0.0
        for j in range(size):
            spread += self.log_std[j] + 0.5 + HALF_LOG_TAU
        for n in range(self.rows):
            total = 0.0
            for j in range(size):
                z = (points[n, j] - mean[n * MLP_STRIDE(<int>size) + j]) * expf(-self.log_std[j])
                total -= 0.5 * z * z + self.log_std[j] + HALF_LOG_TAU
            logprobs[n] = total
            entropy[n] = spread

    def backward(
        self,
        const float[::1] logprob_grad,
        const float[::1] entropy_grad,
        const float[::1] value_grad,
    ):
        """Add the gradient of the last `evaluate` to the parameters'; `entropy_grad` may be None."""
        cdef Py_ssize_t rows = self.rows, n, j, size = self.num_params
        cdef Py_ssize_t po = MLP_STRIDE(<int>size)
        cdef float z, scale
        cdef const float *mean
        cdef const uint8_t[:, ::1] mask = self.mask
        cdef int64_t[::1] choices
        cdef float[:, ::1] points
        cdef bint spread = entropy_grad is not None
        if rows == 0:
            return
        if logprob_grad.shape[0] != rows or value_grad.shape[0] != rows:
            raise ValueError("the gradients have the wrong length")
        memset(self.d, 0, rows * po * sizeof(float))
        if self.gaussian:
            points = self.actions
            mean = self.layers[self.trunk + self.policy - 1].out
            for j in range(size):
                scale = expf(-self.log_std[j])
                for n in range(rows):
                    z = (points[n, j] - mean[n * po + j]) * scale
                    self.d[n * po + j] = logprob_grad[n] * z * scale
                    self.log_std_grad[j] += logprob_grad[n] * (z * z - 1.0)
                    if spread:
                        self.log_std_grad[j] += entropy_grad[n]
        else:
            choices = self.actions
            for n in range(rows):
                mlp_categorical_grad(
                    self.logp + n * size,
                    &mask[n, 0] if mask is not None else NULL,
                    self.num_params,
                    choices[n],
                    logprob_grad[n],
                    entropy_grad[n] if spread else 0.0,
                    self.d + n * po,
                )
        self._backward(value_grad)

    cdef int _backward(self, const float[::1] value_grad) except -1:
        cdef Py_ssize_t rows = self.rows, n
        cdef mlp_layer *policy = self.layers + self.trunk
        cdef mlp_layer *value = policy + self.policy
        cdef const float *inner = self.x
        cdef Py_ssize_t ld = self.ldx
        cdef float *inner_grad = NULL
        if self.trunk:
            inner = self.layers[self.trunk - 1].out
            ld = MLP_STRIDE(self.layers[self.trunk - 1].num_out)
            inner_grad = self.inner
            memset(inner_grad, 0, rows * ld * sizeof(float))
        with nogil:
            mlp_backward[self.isa](
                policy, self.policy, inner, ld, rows, self.d, self.widest, self.scratch, inner_grad
            )
            memset(self.d, 0, rows * MLP_STRIDE(1) * sizeof(float))
            for n in range(rows):
                self.d[n * MLP_STRIDE(1)] = value_grad[n]
            mlp_backward[self.isa](
                value, self.value, inner, ld, rows, self.d, self.widest, self.scratch, inner_grad
            )
            if self.trunk:
                mlp_backward[self.isa](
                    self.layers, self.trunk, self.x, self.ldx, rows, self.inner, self.widest, self.scratch,
                    NULL,
                )
        return 0
