"""The models of Hugging Face's transformers, made from a configuration: nothing is downloaded."""

from __future__ import annotations

import os
import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from adapters.models import bert, gpt, vit
from adapters.trees import Tree

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the import, which reads it

import transformers

from adapters.base import Spec, require
from adapters.controls import torch_native


def vision_transformer(config: Any) -> nn.Module:
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=config.width, num_hidden_layers=config.depth,
            num_attention_heads=config.heads, intermediate_size=4 * config.width,
            layer_norm_eps=vit.EPSILON, image_size=config.side, patch_size=config.patch,
            num_channels=config.channels, num_labels=config.classes,
        )
    )  # fmt: skip


def bert_for_pretraining(config: Any) -> nn.Module:
    return transformers.BertForPreTraining(
        transformers.BertConfig(
            vocab_size=config.vocabulary, hidden_size=config.width,
            num_hidden_layers=config.depth, num_attention_heads=config.heads,
            intermediate_size=4 * config.width, max_position_embeddings=config.positions,
            type_vocab_size=bert.SEGMENTS, layer_norm_eps=bert.EPSILON,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip


def gpt2(config: Any) -> nn.Module:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocabulary, n_positions=config.positions, n_embd=config.width,
            n_layer=config.depth, n_head=config.heads, layer_norm_epsilon=gpt.EPSILON,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
            bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip


def resnet(config: Any) -> nn.Module:
    widths = [config.channels * 4 * 2**stage for stage in range(4)]
    return transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            num_channels=3, embedding_size=config.channels, hidden_sizes=widths,
            depths=list(config.depths), layer_type="bottleneck", num_labels=config.classes,
        )
    ).to(memory_format=torch.channels_last)  # fmt: skip


NETWORKS = {
    "vit": vision_transformer, "bert": bert_for_pretraining, "gpt": gpt2, "resnet50": resnet
}  # fmt: skip

#: Model -> (pattern of the model's names, what transformers calls that); the first that matches.
#: {w} is "weight" or "bias", {qkv} each of the three in turn.
NAMES: dict[str, list[tuple[str, str]]] = {
    "vit": [
        (r"class_token", "vit.embeddings.cls_token"),
        (r"position", "vit.embeddings.position_embeddings"),
        (r"patch/(.*)", "vit.embeddings.patch_embeddings.projection.{w}"),
        (r"block(\d+)/norm1/(.*)", r"vit.layers.\1.layernorm_before.{w}"),
        (r"block(\d+)/norm2/(.*)", r"vit.layers.\1.layernorm_after.{w}"),
        (r"block(\d+)/attention/qkv/(.*)", r"vit.layers.\1.attention.{qkv}_proj.{w}"),
        (r"block(\d+)/attention/out/(.*)", r"vit.layers.\1.attention.o_proj.{w}"),
        (r"block(\d+)/mlp/(fc\d)/(.*)", r"vit.layers.\1.mlp.\2.{w}"),
        (r"norm/(.*)", "vit.layernorm.{w}"),
        (r"head/(.*)", "classifier.{w}"),
    ],
    "bert": [
        (r"embeddings/norm/(.*)", "bert.embeddings.LayerNorm.{w}"),
        (r"embeddings/words", "bert.embeddings.word_embeddings.weight"),
        (r"embeddings/positions", "bert.embeddings.position_embeddings.weight"),
        (r"embeddings/segments", "bert.embeddings.token_type_embeddings.weight"),
        (
            r"block(\d+)/attention/qkv/(.*)",
            r"bert.encoder.layer.\1.attention.self.{query_key_value}.{w}",
        ),
        (r"block(\d+)/attention/out/(.*)", r"bert.encoder.layer.\1.attention.output.dense.{w}"),
        (r"block(\d+)/norm1/(.*)", r"bert.encoder.layer.\1.attention.output.LayerNorm.{w}"),
        (r"block(\d+)/mlp/fc1/(.*)", r"bert.encoder.layer.\1.intermediate.dense.{w}"),
        (r"block(\d+)/mlp/fc2/(.*)", r"bert.encoder.layer.\1.output.dense.{w}"),
        (r"block(\d+)/norm2/(.*)", r"bert.encoder.layer.\1.output.LayerNorm.{w}"),
        (r"pooler/(.*)", "bert.pooler.dense.{w}"),
        (r"heads/transform/(.*)", "cls.predictions.transform.dense.{w}"),
        (r"heads/norm/(.*)", "cls.predictions.transform.LayerNorm.{w}"),
        (r"heads/words/b", "cls.predictions.bias"),
        (r"heads/class/(.*)", "cls.seq_relationship.{w}"),
    ],
    "gpt": [
        (r"tokens", "transformer.wte.weight"),
        (r"positions", "transformer.wpe.weight"),
        (r"block(\d+)/norm(\d)/(.*)", r"transformer.h.\1.ln_\2.{w}"),
        (r"block(\d+)/attention/qkv/(.*)", r"transformer.h.\1.attn.c_attn.{w}"),
        (r"block(\d+)/attention/out/(.*)", r"transformer.h.\1.attn.c_proj.{w}"),
        (r"block(\d+)/mlp/fc1/(.*)", r"transformer.h.\1.mlp.c_fc.{w}"),
        (r"block(\d+)/mlp/fc2/(.*)", r"transformer.h.\1.mlp.c_proj.{w}"),
        (r"norm/(.*)", "transformer.ln_f.{w}"),
    ],
    "resnet50": [
        (r"head/(.*)", "classifier.1.{w}"),
        (r"stem/(.*)", "resnet.embedder.embedder.{layer}"),
        (
            r"stage(\d+)/block(\d+)/conv(\d+)/(.*)",
            r"resnet.encoder.stages.{\1}.layers.{\2}.layer.{\3}.{layer}",
        ),
        (
            r"stage(\d+)/block(\d+)/shortcut/(.*)",
            r"resnet.encoder.stages.{\1}.layers.{\2}.shortcut.{layer}",
        ),
    ],
}
ATTENTION = {"{qkv}": ("q", "k", "v"), "{query_key_value}": ("query", "key", "value")}


class Adapter(torch_native.Adapter):
    def versions(self) -> dict[str, str]:
        return {**super().versions(), "transformers": transformers.__version__}

    def program(self, spec: Spec) -> Program:
        require(spec.model in NETWORKS, f"transformers is no control of {spec.model} here")
        return Program(spec)


class Program(torch_native.Program):
    def network(self) -> nn.Module:
        return NETWORKS[self._spec.model](self._config)

    def paths(self, name: str) -> tuple[str, ...]:
        leaf = torch_native.LEAVES.get(name.rpartition("/")[2], "")
        kind = "convolution" if name.endswith("/w") else "normalization"
        for pattern, template in NAMES[self._spec.model]:
            found = re.fullmatch(pattern, name)
            if found is None:
                continue
            # stages, blocks and layers are numbered from 0 there
            path = re.sub(r"\{(\d+)\}", lambda n: str(int(n[1]) - 1), found.expand(template))
            path = path.replace("{w}", leaf).replace("{layer}", f"{kind}.{leaf}")
            for mark, parts in ATTENTION.items():
                if mark in path:
                    return tuple(path.replace(mark, part) for part in parts)
            return (path,)
        raise KeyError(name)

    def predict(self, x: Tree) -> Tree:
        if self._spec.model == "bert":
            output = self._module(
                input_ids=x["ids"], token_type_ids=x["segments"], attention_mask=x["mask"]
            )
            return {"tokens": output.prediction_logits, "class": output.seq_relationship_logits}
        return self._module(x).logits

    def loss(self, output: Tree, y: Tree) -> torch.Tensor:
        if self._spec.model != "bert":
            return super().loss(output, y)
        tokens = F.cross_entropy(
            output["tokens"].flatten(0, 1), y["tokens"].flatten(), ignore_index=bert.NOT_ASKED
        )
        return tokens + F.cross_entropy(output["class"], y["class"])
