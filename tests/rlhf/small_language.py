"""The smallest sizes that a whole language pipeline can have, for tests."""

from playout.rlhf.stages.sizes import Recipe

MICRO = Recipe(
    vocab_size=300,
    model="tiny",
    length=32,
    pretrain_steps=6,
    sft_steps=4,
    classify_steps=2,
    reward_steps=4,
    rlhf_steps=2,
    dpo_steps=2,
    grpo_steps=2,
    num_prompts=6,
    response_length=6,
    batch=8,
)
