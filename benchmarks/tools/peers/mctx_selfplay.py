"""Self-play with mctx and pgx: Gumbel search, a residual network in JAX, games refilled."""

from __future__ import annotations

from collections.abc import Callable


def selfplay(
    games: int,
    simulations: int,
    channels: int,
    blocks: int,
    moves: int,
    *,
    settle: int = 0,
    dtype: str = "float32",
) -> Callable[[], float]:
    """Plays `moves` moves in each of `games` games a call; a call returns how many games ended.

    Args:
        games: Games at once.
        simulations: Simulations a move.
        channels: Width of the network.
        blocks: Its residual blocks.
        moves: Moves a call.
        settle: Moves before the first call, so that games differ in age.
        dtype: Of the network's weights and activations: float32 or bfloat16.
    """
    import jax
    import mctx
    import pgx

    jnp, env = jax.numpy, pgx.make("connect_four")
    width, height, actions, head = 7, 6, 7, 32

    def weights(key, *shape):  # type: ignore[no-untyped-def]
        fan_in = 1
        for size in shape[:-1]:
            fan_in *= size
        return jax.random.normal(key, shape) * (2.0 / fan_in) ** 0.5

    keys = iter(jax.random.split(jax.random.PRNGKey(1), 2 * blocks + 5))
    params = {
        "stem": weights(next(keys), 3, 3, 2, channels),
        "blocks": [weights(next(keys), 3, 3, channels, channels) for _ in range(2 * blocks)],
        "head": weights(next(keys), 1, 1, channels, head),
        "policy": weights(next(keys), head * width * height, actions) * 0.01,
        "hidden": weights(next(keys), head * width * height, channels),
        "value": weights(next(keys), channels, 1) * 0.01,
    }

    params = jax.tree_util.tree_map(lambda x: x.astype(dtype), params)

    def conv(x, kernel):  # type: ignore[no-untyped-def]
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)

    def network(params, obs):  # type: ignore[no-untyped-def]
        x = jax.nn.relu(conv(obs.astype(dtype), params["stem"]))
        for first, second in zip(params["blocks"][::2], params["blocks"][1::2], strict=True):
            x = jax.nn.relu(conv(jax.nn.relu(conv(x, first)), second) + x)
        x = jax.nn.relu(conv(x, params["head"])).reshape(x.shape[0], -1)
        value = jnp.tanh(jax.nn.relu(x @ params["hidden"]) @ params["value"])[:, 0]
        return (x @ params["policy"]).astype(jnp.float32), value.astype(jnp.float32)

    lowest = jnp.finfo(jnp.float32).min

    def recurrent(params, _key, action, states):  # type: ignore[no-untyped-def]
        mover = states.current_player
        after = jax.vmap(env.step)(states, action)
        logits, value = network(params, after.observation)
        output = mctx.RecurrentFnOutput(
            reward=after.rewards[jnp.arange(games), mover],
            discount=jnp.where(after.terminated, 0.0, -1.0),
            prior_logits=jnp.where(after.legal_action_mask, logits, lowest),
            value=jnp.where(after.terminated, 0.0, value),
        )
        return output, after

    def move(params, key, states):  # type: ignore[no-untyped-def]
        search_key, reset_key = jax.random.split(key)
        logits, value = network(params, states.observation)
        root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=states)
        output = mctx.gumbel_muzero_policy(
            params,
            search_key,
            root,
            recurrent,
            simulations,
            invalid_actions=~states.legal_action_mask,
        )
        after = jax.vmap(env.step)(states, output.action)
        fresh = jax.vmap(env.init)(jax.random.split(reset_key, games))
        ended = after.terminated

        def choose(new, old):  # type: ignore[no-untyped-def]
            return jnp.where(ended.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        return jax.tree_util.tree_map(choose, fresh, after), ended.sum()

    compiled = jax.jit(move)
    states = jax.vmap(env.init)(jax.random.split(jax.random.PRNGKey(0), games))
    where = {"states": states, "calls": 0}

    def play(count: int) -> float:
        finished = 0
        for _ in range(count):
            where["calls"] += 1
            key = jax.random.PRNGKey(where["calls"])
            where["states"], ended = compiled(params, key, where["states"])
            finished += int(ended)
        return float(finished)

    play(settle)
    return lambda: play(moves)
