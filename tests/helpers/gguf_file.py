"""A tiny Llama and its tokenizer as a GGUF file, written with the package gguf as llama.cpp's converter does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

SPECIAL = {"bos": "<|im_start|>", "eos": "<|im_end|>", "unk": "<|endoftext|>"}
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou read radiographs.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""strings are joined, and a system prompt comes by itself"""
PLACES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
LAYERS, HEADS, KEYS, WIDTH = 3, 4, 2, 32


def tiny_llama(rows: int) -> Any:
    """A random Llama whose head is its table, as that of SmolLM2."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config: Any = LlamaConfig(
        vocab_size=rows, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KEYS, max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=0,
        eos_token_id=1, pad_token_id=1, rope_theta=1e5,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def write_gguf(file: Path, tokenizer: Any, architecture: str = "llama") -> Any:
    """Write the file; returns the model in it. `tokenizer` has SPECIAL as its first three tokens."""
    import gguf

    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = sorted(state["vocab"], key=state["vocab"].get)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in state["merges"]]
    model = tiny_llama(len(vocabulary))
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_name("tiny")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_merges(merges)
    writer.add_token_types([3 if token in SPECIAL.values() else 1 for token in vocabulary])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(1)
    writer.add_unk_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, weight in model.state_dict().items():
        if name != "lm_head.weight":
            writer.add_tensor(_place(name), np.ascontiguousarray(_rotary(name, weight.numpy())))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _place(name: str) -> str:
    base = name.removesuffix(".weight")
    if not base.startswith("model.layers."):
        return f"{PLACES[base]}.weight"
    number, rest = base.removeprefix("model.layers.").split(".", 1)
    return f"blk.{number}.{PLACES[rest]}.weight"


def _rotary(name: str, weight: np.ndarray) -> np.ndarray:
    """GGUF keeps the two numbers of a rotary pair beside each other, transformers in two halves."""
    heads = {"q_proj": HEADS, "k_proj": KEYS}.get(name.split(".")[-2])
    if heads is None:
        return weight
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
