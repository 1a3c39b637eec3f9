"""mctx with a game of pgx's and a constant evaluator: the batched search that runs under jit."""

from __future__ import annotations

from collections.abc import Callable


def constant_search(
    kind: str, trees: int, simulations: int, searches: int, name: str = "connect_four"
) -> Callable[[], float]:
    """Searches from the first position, `searches` times `trees` of them.

    Args:
        kind: "gumbel" or "puct".
        trees: Batch size.
        simulations: Simulations a search.
        searches: Searches a call.
        name: The game as pgx has it.
    """
    import jax
    import mctx
    import pgx

    jnp, env = jax.numpy, pgx.make(name)

    def recurrent(_params, _key, action, embedding):  # type: ignore[no-untyped-def]
        mover = embedding.current_player
        after = jax.vmap(env.step)(embedding, action)
        output = mctx.RecurrentFnOutput(
            reward=after.rewards[jnp.arange(trees), mover],
            discount=jnp.where(after.terminated, 0.0, -1.0),
            prior_logits=jnp.where(after.legal_action_mask, 0.0, jnp.finfo(jnp.float32).min),
            value=jnp.zeros(trees),
        )
        return output, after

    def search(key, states):  # type: ignore[no-untyped-def]
        root = mctx.RootFnOutput(
            prior_logits=jnp.zeros((trees, env.num_actions)),
            value=jnp.zeros(trees),
            embedding=states,
        )
        invalid = ~states.legal_action_mask
        if kind == "gumbel":
            output = mctx.gumbel_muzero_policy(
                None, key, root, recurrent, simulations, invalid_actions=invalid
            )
        else:
            output = mctx.muzero_policy(
                None,
                key,
                root,
                recurrent,
                simulations,
                invalid_actions=invalid,
                qtransform=lambda tree, node: mctx.qtransform_by_min_max(
                    tree, node, min_value=-1, max_value=1
                ),
            )
        return output.action, output.action_weights

    states = jax.vmap(env.init)(jax.random.split(jax.random.PRNGKey(0), trees))
    compiled = jax.jit(search)

    def run() -> float:
        for i in range(searches):
            jax.block_until_ready(compiled(jax.random.PRNGKey(i), states))
        return trees * simulations * searches

    return run
