"""Make a model of a few kilobytes: random weights, one token for each byte, a chat template.

    python make_model.py transformers DIRECTORY     what `transformers serve` loads
    python make_model.py gguf FILE                  what llama.cpp's `llama-server` loads

Run by the interpreter that has transformers (and gguf); it imports nothing of vastproxy.
"""

import sys
from pathlib import Path
from typing import Any

SPECIAL = ("<s>", "</s>", "<unk>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
CONTEXT, WIDTH, LAYERS, HEADS, FEED_FORWARD = 512, 32, 2, 4, 64


def vocabulary() -> list[str]:
    from tokenizers import pre_tokenizers  # type: ignore[import-not-found,unused-ignore]

    return [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]


def make_transformers(directory: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (  # type: ignore[import-not-found,unused-ignore]
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    words = vocabulary()
    tokenizer = Tokenizer(
        models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[], unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(directory)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(directory)


def make_gguf(path: Path) -> None:
    import gguf  # type: ignore[import-not-found,unused-ignore]

    words = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    normal = len(words) - len(SPECIAL)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * normal)
    writer.add_token_merges(["a b"])  # it insists on having some
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template(CHAT_TEMPLATE)
    _add_tensors(writer, len(words))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tensors(writer: Any, words: int) -> None:
    import numpy  # type: ignore[import-not-found,unused-ignore]

    random = numpy.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return (random.standard_normal(shape) * 0.05).astype(numpy.float32)

    norm = numpy.ones(WIDTH, numpy.float32)
    writer.add_tensor("token_embd.weight", weights(words, WIDTH))
    writer.add_tensor("output.weight", weights(words, WIDTH))
    writer.add_tensor("output_norm.weight", norm)
    for layer in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", norm)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights(WIDTH, WIDTH))
        for name in ("ffn_gate", "ffn_up"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", weights(WIDTH, FEED_FORWARD))


if __name__ == "__main__":
    kind, target = sys.argv[1:]
    {"transformers": make_transformers, "gguf": make_gguf}[kind](Path(target))
