"""Batches of native control tasks: the border between Python and the C driver.

A `ControlBatch` owns the arrays of one batch and steps it through a task's table (playout_control.h).
Actions are checked here, before anything changes. Leaves out spaces, infos and
rendering (farama/control_vector.py).
"""

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New
from libc.math cimport NAN
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free

cimport numpy as cnp

import numpy as np

from gymnasium.error import ResetNeeded

cnp.import_array()

cdef extern from "playout_control.h" nogil:
    const char *PLAYOUT_CONTROL_CAPSULE
    int PLAYOUT_CONTROL_ABI
    int PLAYOUT_CONTROL_MAX_STATE
    int PLAYOUT_CONTROL_MAX_OBS
    int PLAYOUT_CONTROL_MAX_PARAMS
    int PLAYOUT_ACTION_INT32
    int PLAYOUT_ACTION_FLOAT32
    int PLAYOUT_ACTION_FLOAT64
    ctypedef struct playout_control:
        int abi
        int struct_size
        char name[64]
        int32_t state_size
        int32_t obs_size
        int32_t obs_shape[3]
        int32_t num_actions
        int32_t max_episode_steps
        double action_low
        double action_high
        double reward_threshold
        double params[8]
        double obs_high[16]
        double obs_low[16]
        double reset_low[16]
        double reset_high[16]
        void *observe_rows

cdef extern from "driver.h" nogil:
    int CTL_BASE
    int CTL_AVX2
    int CTL_AVX512
    int CTL_NEXT_STEP
    int CTL_SAME_STEP
    int CTL_DISABLED
    int ctl_best_isa()
    ctypedef struct ctl_batch:
        const playout_control *task
        int32_t num_envs
        int32_t max_episode_steps
        int32_t mode
        int32_t isa
        int32_t obs_double
        int64_t stride
        double *state
        uint64_t *seeds
        uint64_t *episodes
        int32_t *elapsed
        uint8_t *pending
        void *obs
        void *final_obs
        double *rewards
        uint8_t *terminations
        uint8_t *truncations
    int32_t ctl_step(const ctl_batch *batch, const void *actions, int32_t action_type)
    void ctl_reset(const ctl_batch *batch, const uint8_t *where, const double *low, const double *high)
    ctypedef void (*check_int64)(int32_t, const int64_t *, int32_t *, int64_t, int32_t *) noexcept nogil
    ctypedef void (*check_int32)(int32_t, const int32_t *, int32_t, int32_t *) noexcept nogil
    ctypedef void (*check_float)(int32_t, const float *, float, float, int32_t *) noexcept nogil
    ctypedef void (*check_double)(int32_t, const double *, double, double, int32_t *) noexcept nogil
    check_int64 ctl_check_int64[3]
    check_int32 ctl_check_int32[3]
    check_float ctl_check_float[3]
    check_double ctl_check_double[3]

cdef extern from "physics/acrobot.h" nogil:
    void acrobot_make(playout_control *task, int isa)
cdef extern from "physics/cartpole.h" nogil:
    void cartpole_make(playout_control *task, int isa)
cdef extern from "physics/mountain_car.h" nogil:
    void mountain_car_make(playout_control *task, int isa)
cdef extern from "physics/mountain_car_continuous.h" nogil:
    void mountain_car_continuous_make(playout_control *task, int isa)
cdef extern from "physics/pendulum.h" nogil:
    void pendulum_make(playout_control *task, int isa)
cdef extern from "physics/signal_maze.h" nogil:
    void signal_maze_make(playout_control *task, int isa)

ISAS = ("base", "avx2", "avx512")
MODES = ("NextStep", "SameStep", "Disabled")
BEST_ISA = ctl_best_isa()


cdef int _isa(object name) except -1:
    best = ctl_best_isa()
    if name is None:
        return best
    if name not in ISAS or ISAS.index(name) > best:
        raise ValueError(f"instruction set {name!r} is not one of {ISAS[:best + 1]} that this processor has")
    return ISAS.index(name)


cdef void _free_task(object capsule) noexcept:
    free(PyCapsule_GetPointer(capsule, PLAYOUT_CONTROL_CAPSULE))


def make(name, params=(), isa=None, *, int32_t max_episode_steps=0, double reward_threshold=NAN):
    """A capsule with the task `name`; `params` are its numbers, `isa` one of ISAS (None: the best)."""
    cdef playout_control *task
    cdef int level = _isa(isa)
    task = <playout_control *>calloc(1, sizeof(playout_control))
    if task == NULL:
        raise MemoryError()
    if name == "cartpole":
        cartpole_make(task, level)
    elif name == "mountain_car":
        mountain_car_make(task, level)
    elif name == "mountain_car_continuous":
        mountain_car_continuous_make(task, level)
    elif name == "acrobot":
        acrobot_make(task, level)
    elif name == "pendulum":
        pendulum_make(task, level)
    elif name == "signal_maze":
        signal_maze_make(task, level)
    else:
        free(task)
        raise ValueError(f"no control task {name!r}")
    task.max_episode_steps = max_episode_steps
    task.reward_threshold = reward_threshold
    for i, value in enumerate(params):
        task.params[i] = value
    return PyCapsule_New(task, PLAYOUT_CONTROL_CAPSULE, _free_task)


def describe(capsule):
    """The numbers of a task in a capsule, as a dict."""
    cdef const playout_control *task
    if not PyCapsule_IsValid(capsule, PLAYOUT_CONTROL_CAPSULE):
        raise TypeError("the task must be a PyCapsule named 'playout.control.v1'")
    task = <const playout_control *>PyCapsule_GetPointer(capsule, PLAYOUT_CONTROL_CAPSULE)
    image = task.obs_shape[0] > 0
    return {
        "name": (<const char *>task.name).decode(),
        "state_size": task.state_size,
        "obs_size": task.obs_size,
        "num_actions": task.num_actions,
        "max_episode_steps": task.max_episode_steps,
        "action_low": task.action_low,
        "action_high": task.action_high,
        "reward_threshold": None if task.reward_threshold != task.reward_threshold else task.reward_threshold,
        "obs_shape": tuple(task.obs_shape[k] for k in range(3)) if image else (task.obs_size,),
        "obs_low": task.obs_low[0] if image else [task.obs_low[k] for k in range(task.obs_size)],
        "obs_high": task.obs_high[0] if image else [task.obs_high[k] for k in range(task.obs_size)],
        "reset_low": [task.reset_low[k] for k in range(task.state_size)],
        "reset_high": [task.reset_high[k] for k in range(task.state_size)],
    }


cdef object _aligned(shape, dtype):
    """Zeros that begin on a cache line."""
    dtype = np.dtype(dtype)
    cdef Py_ssize_t size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start:start + size].view(dtype).reshape(shape)


cdef class ControlBatch:
    """`num_envs` copies of one task; the arrays are read-only views for everybody else.

    Attributes:
        obs: float32 or float64 [B, O], written by steps and resets, like rewards, terminations, truncations.
        final_obs: the last observation of rows that ended in this step (SAME_STEP only).
    """

    cdef ctl_batch c
    cdef readonly object capsule, state, seeds, episodes, elapsed, pending
    cdef readonly object obs, final_obs, rewards, terminations, truncations
    cdef object _narrow, _low, _high, _held
    cdef bint _started

    def __init__(self, capsule, int num_envs, *, int max_episode_steps, str mode, dtype=np.float32, isa=None):
        if not PyCapsule_IsValid(capsule, PLAYOUT_CONTROL_CAPSULE):
            raise TypeError("the task must be a PyCapsule named 'playout.control.v1'")
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        cdef const playout_control *task
        task = <const playout_control *>PyCapsule_GetPointer(capsule, PLAYOUT_CONTROL_CAPSULE)
        if task.abi != PLAYOUT_CONTROL_ABI or task.struct_size < <int>sizeof(playout_control):
            raise ValueError(f"the task speaks control ABI {task.abi}, not {PLAYOUT_CONTROL_ABI}: rebuild it")
        shape = describe(capsule)["obs_shape"]
        if not (
            1 <= task.state_size <= PLAYOUT_CONTROL_MAX_STATE and np.prod(shape) == task.obs_size
            and 1 <= task.obs_size <= (1 << 20 if task.observe_rows != NULL else PLAYOUT_CONTROL_MAX_OBS)
        ):
            raise ValueError("the task's state_size, obs_size or obs_shape is out of range")
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {dtype}")
        if dtype != np.float32 and task.observe_rows != NULL:
            raise ValueError("this task has float32 observations only")
        self.capsule = capsule
        cdef int64_t stride = (num_envs + 7) // 8 * 8
        self.state = _aligned((task.state_size, stride), np.float64)
        self.seeds = _aligned((num_envs,), np.uint64)
        self.episodes = _aligned((num_envs,), np.uint64)
        self.elapsed = _aligned((num_envs,), np.int32)
        self.pending = _aligned((num_envs,), np.bool_)
        self.obs = _aligned((num_envs, *shape), dtype)
        self.final_obs = _aligned((num_envs, *shape), dtype)
        self.rewards = _aligned((num_envs,), np.float64)
        self.terminations = _aligned((num_envs,), np.bool_)
        self.truncations = _aligned((num_envs,), np.bool_)
        self._narrow = _aligned((num_envs,), np.int32)
        self._low = np.zeros(PLAYOUT_CONTROL_MAX_STATE)
        self._high = np.zeros(PLAYOUT_CONTROL_MAX_STATE)
        self.c.task = task
        self.c.num_envs = num_envs
        self.c.max_episode_steps = max(max_episode_steps, 0)
        self.c.mode = MODES.index(mode)
        self.c.isa = _isa(isa)
        self.c.obs_double = dtype == np.float64
        self.c.stride = stride
        self.c.state = <double *>cnp.PyArray_DATA(self.state)
        self.c.seeds = <uint64_t *>cnp.PyArray_DATA(self.seeds)
        self.c.episodes = <uint64_t *>cnp.PyArray_DATA(self.episodes)
        self.c.elapsed = <int32_t *>cnp.PyArray_DATA(self.elapsed)
        self.c.pending = <uint8_t *>cnp.PyArray_DATA(self.pending)
        self.c.obs = cnp.PyArray_DATA(self.obs)
        self.c.final_obs = cnp.PyArray_DATA(self.final_obs)
        self.c.rewards = <double *>cnp.PyArray_DATA(self.rewards)
        self.c.terminations = <uint8_t *>cnp.PyArray_DATA(self.terminations)
        self.c.truncations = <uint8_t *>cnp.PyArray_DATA(self.truncations)
        self._started = False

    def reset(self, where, low, high):
        """Starts the next episode of rows with `where` [B] set (None: all) within the bounds [state_size]."""
        self._low[:self.c.task.state_size] = low
        self._high[:self.c.task.state_size] = high
        cdef cnp.ndarray mask
        cdef uint8_t *flags = NULL
        if where is not None:
            mask = np.ascontiguousarray(where, np.bool_)
            if cnp.PyArray_NDIM(mask) != 1 or cnp.PyArray_DIM(mask, 0) != self.c.num_envs:
                raise ValueError(f"the mask of rows must have shape ({self.c.num_envs},)")
            flags = <uint8_t *>cnp.PyArray_DATA(mask)
        cdef double *lows = <double *>cnp.PyArray_DATA(self._low)
        cdef double *highs = <double *>cnp.PyArray_DATA(self._high)
        with nogil:
            ctl_reset(&self.c, flags, lows, highs)
        self._started = True

    def observe(self):
        """Writes obs anew from the state, without a step."""
        cdef uint8_t *flags
        nothing = np.zeros(self.c.num_envs, np.bool_)
        flags = <uint8_t *>cnp.PyArray_DATA(nothing)
        ctl_reset(&self.c, flags, NULL, NULL)
        self._started = True

    def step(self, actions):
        """Checks the actions and steps every row into the arrays; returns how many rows ended (SAME_STEP)."""
        cdef const void *data
        cdef int32_t kind = PLAYOUT_ACTION_INT32, ended
        if not self._started:
            raise ResetNeeded("call reset() before step()")
        data = self._checked(actions, &kind)
        if self.c.mode == CTL_DISABLED:
            if np.any(self.pending):
                row = int(np.flatnonzero(self.pending)[0])
                raise ResetNeeded(
                    f"the episode of environment {row} is over; with autoreset disabled, "
                    "reset it by reset(options={'reset_mask': mask}) before the next step"
                )
        with nogil:
            ended = ctl_step(&self.c, data, kind)
        return ended

    cdef const void *_checked(self, object actions, int32_t *kind) except NULL:
        """A pointer to one int32, float or double for each row; raises before anything has changed."""
        cdef int32_t n = self.c.num_envs, good = 0
        cdef const playout_control *task = self.c.task
        cdef int code
        cdef int32_t *narrow
        cdef const void *data
        if not cnp.PyArray_Check(actions) or not cnp.PyArray_ISCARRAY_RO(actions):
            actions = np.asarray(actions)
            actions = self._held = np.ascontiguousarray(actions, actions.dtype.newbyteorder("="))
        if not (
            cnp.PyArray_NDIM(actions) == (1 if task.num_actions > 0 else 2)
            and cnp.PyArray_SIZE(actions) == n and cnp.PyArray_DIM(actions, 0) == n
        ):
            wanted = f"({n},)" if task.num_actions > 0 else f"({n}, 1)"
            raise ValueError(f"actions must have shape {wanted}, got {np.shape(actions)}")
        code = cnp.PyArray_TYPE(actions)
        data = cnp.PyArray_DATA(actions)
        if task.num_actions > 0:
            if code == cnp.NPY_INT32:
                ctl_check_int32[self.c.isa](n, <const int32_t *>data, task.num_actions, &good)
            else:
                if code != cnp.NPY_INT64:
                    if actions.dtype.kind not in "iu":
                        raise TypeError(f"actions must be whole numbers, got dtype {actions.dtype}")
                    if actions.dtype == np.uint64:
                        actions = np.minimum(actions, np.uint64(2**63 - 1))
                    actions = self._held = actions.astype(np.int64)
                    data = cnp.PyArray_DATA(actions)
                narrow = <int32_t *>cnp.PyArray_DATA(self._narrow)
                ctl_check_int64[self.c.isa](n, <const int64_t *>data, narrow, task.num_actions, &good)
                data = narrow
            kind[0] = PLAYOUT_ACTION_INT32
            if not good:
                flat = np.reshape(actions, -1)
                row = int(np.flatnonzero((flat < 0) | (flat >= task.num_actions))[0])
                raise ValueError(
                    f"action {flat[row]} of environment {row} is out of range: "
                    f"it must be in 0..{task.num_actions - 1}"
                )
            return data
        if code == cnp.NPY_FLOAT32:
            ctl_check_float[self.c.isa](n, <const float *>data, task.action_low, task.action_high, &good)
            kind[0] = PLAYOUT_ACTION_FLOAT32
        else:
            if code != cnp.NPY_FLOAT64:
                raise TypeError(f"actions must be float32 or float64, got dtype {actions.dtype}")
            ctl_check_double[self.c.isa](n, <const double *>data, task.action_low, task.action_high, &good)
            kind[0] = PLAYOUT_ACTION_FLOAT64
        if not good:
            flat = np.reshape(actions, -1)
            row = int(np.flatnonzero(~((flat >= task.action_low) & (flat <= task.action_high)))[0])
            raise ValueError(
                f"action {flat[row]} of environment {row} is not a number in "
                f"[{task.action_low:g}, {task.action_high:g}]; clip actions first, for example with "
                "gymnasium.wrappers.vector.ClipAction"
            )
        return data
