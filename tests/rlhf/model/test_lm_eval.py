"""A checkpoint under lm_eval, offline: bits a byte of a small local task equal to our own."""

import json

import pytest
import torch
from playout.rlhf.data import synthetic
from playout.rlhf.data.batches import Corpus
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.folder import export_model
from playout.rlhf.model.layers.lm_head import token_logprobs
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.supervised.pretrain import PretrainConfig, PretrainTrainer
from playout.rlhf.supervised.trainer import LearnConfig

TASK = """
task: reviews
dataset_path: json
dataset_kwargs:
  data_files:
    test: {path}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - metric: bits_per_byte
"""


@pytest.mark.peer
@pytest.mark.slow
def test_lm_eval_reads_a_checkpoint_and_finds_the_same_bits_per_byte(tmp_path, monkeypatch):
    lm_eval = pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    texts = synthetic.reviews(400)
    tokenizer = Tokenizer.train(texts[:300], vocab_size=400)
    config = TransformerConfig(
        tokenizer.vocab_size, 64, 128, 2, 4, 2, max_position_embeddings=128,
        pad_token_id=tokenizer.pad_id, bos_token_id=tokenizer.end_id,
        eos_token_id=tokenizer.end_id,
    )  # fmt: skip
    model = Transformer(config)
    trainer = PretrainTrainer(
        model,
        Corpus.of(tokenizer, texts[:300]),
        Corpus.of(tokenizer, texts[300:]),
        PretrainConfig(steps=20, rows=8, length=32, learn=LearnConfig(5e-3, dtype="float32")),
        seed=0,
    )
    while not trainer.finished:
        trainer.update()
    export_model(tmp_path / "model", model, tokenizer)
    heldout = texts[300:330]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in heldout)
    (tmp_path / "texts.jsonl").write_text(lines)
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "reviews.yaml").write_text(TASK.format(path=tmp_path / "texts.jsonl"))
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args=f"pretrained={tmp_path / 'model'},device=cpu,dtype=float32",
        tasks=["reviews"],
        task_manager=lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False),
        batch_size=4,
        bootstrap_iters=0,
    )
    theirs = found["results"]["reviews"]["bits_per_byte,none"]
    nats = size = 0.0
    with torch.no_grad():
        for text in heldout:
            ids = torch.tensor([[tokenizer.end_id, *tokenizer.encode(text)]])
            hidden = model(ids[:, :-1])
            logprobs, _ = token_logprobs(hidden, model.head_weight(hidden.dtype), ids[:, 1:])
            nats -= float(logprobs.sum())
            size += len(text.encode())
    ours = nats / size / torch.log(torch.tensor(2.0)).item()
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert ours < 5
