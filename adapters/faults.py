"""Faults, planted to try the judge: each is a mistake that an adapter could make.

A fault is planted by name through `Spec.fault`, from outside: it wraps the vocabulary, the recipe,
or what is loaded, and no adapter knows of it. What it is *live* in, that is, changes at all, is
measured (`harness.self_test`); `model` and `recipe` say where it is planted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adapters import faulty_operations as operations
from adapters import faulty_programs as programs
from adapters.ops import FORMS, NAMES, Array, Ops
from adapters.training import Recipe, Schedule

Tensors = Mapping[str, np.ndarray]
SIGNIFICANDS = {"float64": 53, "float32": 24}
SLIGHTLY = 1 + 1e-5


@dataclass(frozen=True)
class Fault:
    """A planted mistake.

    where       "op", "recipe", "program", "threads", "weights" or "data"; the latter two need no
                new program
    sentence    what is wrong, for people
    model       where it is planted, in `mode` and with `recipe` (empty: the model's own); of a
                suite of exercises, their subject
    change      op, and threads, of which there have to be two or more: operation -> function of
                (the sound vocabulary, the program's dtype, the operation's arguments), or a
                function that makes this for each program; recipe: recipe -> recipe; program:
                program -> program; weights: tensors -> those of them that change; data: (batch,
                dtype) -> batch
    infer       whether an adapter that only infers can have it and shows it
    weak        whether it changes what it is in by 1e-5 or less: made for float64, since rounding
                in float32 may hide it
    dead        whether it is known to change nothing
    suite       that was built to catch it, and is asked; empty: the trial's own runs of models
    exercise    of that suite, where it is one of exercises; empty: all of the subject
    """

    name: str
    where: str
    sentence: str
    model: str
    change: Any
    mode: str = "train"
    recipe: str = ""
    infer: bool = False
    weak: bool = False
    dead: bool = False
    suite: str = ""
    exercise: str = ""


class FaultyOps(Ops):
    """`inner`, with some operations replaced; all others are forwarded as they are."""

    def __init__(self, inner: Ops, changed: Mapping[str, Callable[..., Any]], dtype: str) -> None:
        self._inner, self._changed, self._dtype = inner, changed, dtype


def _forwarding(name: str) -> Any:
    def op(self: FaultyOps, *arguments: Any, **keywords: Any) -> Any:
        if name in self._changed:
            return self._changed[name](self._inner, self._dtype, *arguments, **keywords)
        return getattr(self._inner, name)(*arguments, **keywords)

    op.__name__ = name
    return op


for _name in NAMES + FORMS:
    setattr(FaultyOps, _name, _forwarding(_name))


# -- planting --------------------------------------------------------------------------------------


def in_ops(ops: Ops, name: str, dtype: str, *, threads: int = 1) -> Ops:
    """`ops` with the fault called `name` (empty: none), if it is one of operations; with several
    `threads`, also if it is one that shows there alone."""
    fault, places = find(name), ("op", "threads") if threads > 1 else ("op",)
    if fault is None or fault.where not in places:
        return ops
    return FaultyOps(ops, changes(fault), dtype)


def changes(fault: Fault) -> Mapping[str, Callable[..., Any]]:
    """What a fault of operations changes: operation -> what is done in its place. Made anew for
    every program where it keeps something."""
    return fault.change() if callable(fault.change) else fault.change


def in_recipe(recipe: Recipe, name: str) -> Recipe:
    """`recipe` with the fault called `name`, if it is one of recipes."""
    fault = find(name)
    return fault.change(recipe) if fault and fault.where == "recipe" else recipe


def in_program(program: Any, name: str) -> Any:
    """`program` with the fault called `name`, if it is one of programs."""
    fault = find(name)
    return fault.change(program) if fault and fault.where == "program" else program


def in_weights(tensors: Tensors, name: str) -> dict[str, np.ndarray]:
    """Parameters or buffers with the fault called `name`, if it is one of loading them."""
    fault = find(name)
    if fault is None or fault.where != "weights":
        return dict(tensors)
    return {**tensors, **fault.change(tensors)}


def in_batch(batch: Tensors, name: str, dtype: str) -> dict[str, np.ndarray]:
    """A batch with the fault or control called `name`, if it is one of data."""
    fault = find(name)
    if fault is None or fault.where != "data":
        return dict(batch)
    return {**batch, **fault.change(batch, dtype)}


def find(name: str) -> Fault | None:
    """The fault or control called `name`; None for the empty name. Raises KeyError."""
    return {**FAULTS, **CONTROLS}[name] if name else None


def permutation(examples: int) -> np.ndarray:
    """The order of examples in the control `batch_permuted`."""
    return np.random.default_rng(1).permutation(examples)


# -- low precision, made from the vocabulary's own operations -----------------------------------


def rounded(ops: Ops, x: Array, *, bits: int, dtype: str) -> Array:
    """`x` rounded to `bits` significant bits (Veltkamp 1968): c = (2^s + 1) x, c - (c - x)."""
    factor = ops.constant(np.asarray(2.0 ** (SIGNIFICANDS[dtype] - bits) + 1))
    c = ops.multiply(x, factor)
    return ops.subtract(c, ops.subtract(c, x))


def _inputs_rounded(name: str, bits: int) -> Callable[..., Array]:
    def op(ops: Ops, dtype: str, x: Array, w: Array, *rest: Any, **keywords: Any) -> Array:
        x, w = (rounded(ops, t, bits=bits, dtype=dtype) for t in (x, w))
        return getattr(ops, name)(x, w, *rest, **keywords)

    return op


def _attention_inputs_rounded(bits: int) -> Callable[..., Array]:
    def op(ops: Ops, dtype: str, q: Array, k: Array, v: Array, **keywords: Any) -> Array:
        q, k, v = (rounded(ops, t, bits=bits, dtype=dtype) for t in (q, k, v))
        return ops.attention(q, k, v, **keywords)

    return op


def _contractions(bits: int) -> dict[str, Callable[..., Array]]:
    plain = {name: _inputs_rounded(name, bits) for name in ("matmul", "dense", "conv2d")}
    return {**plain, "attention": _attention_inputs_rounded(bits)}


def _result_rounded(name: str, bits: int) -> dict[str, Callable[..., Array]]:
    def op(ops: Ops, dtype: str, *arguments: Any, **keywords: Any) -> Array:
        return rounded(ops, getattr(ops, name)(*arguments, **keywords), bits=bits, dtype=dtype)

    return {name: op}


# -- normalisations --------------------------------------------------------------------------------


def _with(name: str, **changes: Callable[[Any], Any]) -> dict[str, Callable[..., Any]]:
    """The operation with some of its keyword arguments changed."""

    def op(ops: Ops, dtype: str, *arguments: Any, **keywords: Any) -> Any:
        changed = {key: change(keywords.get(key)) for key, change in changes.items()}
        return getattr(ops, name)(*arguments, **{**keywords, **changed})

    return {name: op}


def _normalised(
    ops: Ops, x: Array, mean: Array, var: Array, scale: Array, offset: Array, *, epsilon: float
) -> Array:
    """(x - mean) / sqrt(var + epsilon) * scale + offset; mean and var broadcast to x."""
    deviation = ops.sqrt(ops.add(var, ops.constant(np.asarray(epsilon))))
    return ops.add(
        ops.multiply(ops.divide(ops.subtract(x, mean), deviation), scale), offset
    )  # fmt: skip


def _layer_norm(
    *, correction: int = 0, statistic: Callable[..., Array] | None = None
) -> dict[str, Callable[..., Array]]:
    """Taken apart; `statistic` changes mean and variance."""

    def op(ops: Ops, dtype: str, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        last = len(ops.shape(x)) - 1
        kept = (*ops.shape(x)[:-1], 1)
        mean = ops.reshape(ops.mean(x, axis=last), kept)
        var = ops.reshape(ops.variance(x, axis=last, correction=correction), kept)
        if statistic is not None:
            mean, var = statistic(ops, dtype, mean), statistic(ops, dtype, var)
        return _normalised(ops, x, mean, var, scale, offset, epsilon=epsilon)

    return {"layer_norm": op}


def _bf16(ops: Ops, dtype: str, x: Array) -> Array:
    return rounded(ops, x, bits=8, dtype=dtype)


def _batch_norm_taken_apart(
    *, correction: int = 0, constant: bool = False
) -> dict[str, Callable[..., Any]]:
    """With an unbiased variance, or with statistics that differentiation takes for constants."""

    def op(
        ops: Ops,
        dtype: str,
        x: Array,
        scale: Array,
        offset: Array,
        *running: Array,
        **keywords: Any,
    ) -> Any:
        _, *updated = ops.batch_norm(x, scale, offset, *running, **keywords)
        axes = tuple(range(len(ops.shape(x)) - 1))
        mean = ops.mean(x, axis=axes)
        var = ops.variance(x, axis=axes, correction=correction)
        if constant:
            mean, var = ops.stop_gradient(mean), ops.stop_gradient(var)
        y = _normalised(ops, x, mean, var, scale, offset, epsilon=keywords["epsilon"])
        return y, *updated

    return {"batch_norm": op}


def _biased_running_variance(
    ops: Ops, dtype: str, x: Array, scale: Array, offset: Array, mean: Array, var: Array, **k: Any
) -> Any:
    y, new_mean, new_var = ops.batch_norm(x, scale, offset, mean, var, **k)
    n = np.prod(ops.shape(x)[:-1])
    old = ops.multiply(var, ops.constant(np.asarray(1 - k["momentum"])))
    biased = ops.multiply(ops.subtract(new_var, old), ops.constant(np.asarray((n - 1) / n)))
    return y, new_mean, ops.add(old, biased)


def _other_statistics(ops: Ops, dtype: str, *arguments: Array, **keywords: Any) -> Any:
    """Normalises with the running statistics in training, and with the batch's in inference."""
    y = ops.batch_norm(*arguments, **{**keywords, "train": not keywords["train"]})[0]
    return y, *ops.batch_norm(*arguments, **keywords)[1:]


def _statistics_kept(ops: Ops, dtype: str, *arguments: Array, **keywords: Any) -> Any:
    return ops.batch_norm(*arguments, **keywords)[0], *arguments[3:]


# -- attention -------------------------------------------------------------------------------------


def _attention(
    *,
    scale: Callable[[int, int], Any] = lambda heads, d: d**-0.5,
    softmax: Callable[..., Array] = lambda ops, dtype, scores: ops.softmax(scores),
) -> dict[str, Callable[..., Array]]:
    """Taken apart; `scale` (heads, D) gives what broadcasts to (N, heads, S, K)."""

    def op(ops: Ops, dtype: str, q: Array, k: Array, v: Array, **keywords: Any) -> Array:
        _, _, heads, d = ops.shape(q)
        q, v = (ops.transpose(t, (0, 2, 1, 3)) for t in (q, v))  # (N, heads, S, D)
        scores = ops.matmul(q, ops.transpose(k, (0, 2, 3, 1)))  # (N, heads, S, K)
        scores = ops.multiply(scores, ops.constant(np.asarray(scale(heads, d))))
        return ops.transpose(ops.matmul(softmax(ops, dtype, scores), v), (0, 2, 1, 3))

    return {"attention": op}


def _one_head_unscaled(heads: int, d: int) -> np.ndarray:
    return np.array([1.0] + [d**-0.5] * (heads - 1)).reshape(1, heads, 1, 1)


def _over_queries(ops: Ops, dtype: str, scores: Array) -> Array:
    return ops.transpose(ops.softmax(ops.transpose(scores, (0, 1, 3, 2))), (0, 1, 3, 2))


def _softmax_bf16(ops: Ops, dtype: str, scores: Array) -> Array:
    return _bf16(ops, dtype, ops.softmax(_bf16(ops, dtype, scores)))


def _without_last_key(ops: Ops, dtype: str, q: Array, k: Array, v: Array, **keywords: Any) -> Array:
    keys = ops.shape(k)[1]
    k, v = (ops.slice(t, axis=1, start=0, stop=keys - 1) for t in (k, v))
    return ops.attention(q, k, v, **keywords)


# -- other operations ------------------------------------------------------------------------------


def _reversed(ops: Ops, x: Array, *, axis: int) -> Array:
    size = ops.shape(x)[axis]
    parts = [ops.slice(x, axis=axis, start=i, stop=i + 1) for i in reversed(range(size))]
    return ops.concat(parts, axis=axis)


def _flipped_kernel(ops: Ops, dtype: str, x: Array, w: Array, *rest: Any, **keywords: Any) -> Array:
    return ops.conv2d(x, _reversed(ops, _reversed(ops, w, axis=0), axis=1), *rest, **keywords)


def _transposed_kernel(
    ops: Ops, dtype: str, x: Array, w: Array, *rest: Any, **keywords: Any
) -> Array:
    return ops.conv2d(x, ops.transpose(w, (1, 0, 2, 3)), *rest, **keywords)


def _shifted_padding(
    ops: Ops, dtype: str, x: Array, w: Array, *rest: Any, padding: int = 0, **keywords: Any
) -> Array:
    side = (max(padding - 1, 0), padding + min(padding, 1))
    x = ops.pad(x, ((0, 0), side, side, (0, 0)))
    return ops.conv2d(x, w, *rest, padding=0, **keywords)


def _no_bias(name: str) -> dict[str, Callable[..., Array]]:
    """The bias is there and counts nothing: one that is not used has no gradient at all."""

    def op(
        ops: Ops, dtype: str, x: Array, w: Array, b: Array | None = None, **keywords: Any
    ) -> Array:
        none = b if b is None else ops.multiply(b, ops.constant(np.zeros(())))
        return getattr(ops, name)(x, w, none, **keywords)

    return {name: op}


def _bias_twice(ops: Ops, dtype: str, x: Array, w: Array, b: Array | None = None) -> Array:
    y = ops.dense(x, w, b)
    return y if b is None else ops.add(y, b)


def _scaled(name: str, factor: float) -> dict[str, Callable[..., Array]]:
    def op(ops: Ops, dtype: str, *arguments: Any, **keywords: Any) -> Array:
        result = getattr(ops, name)(*arguments, **keywords)
        return ops.multiply(result, ops.constant(np.asarray(factor)))

    return {name: op}


def _loss_as_sum(ops: Ops, dtype: str, logits: Array, labels: Array) -> Array:
    examples = ops.constant(np.asarray(float(ops.shape(logits)[0])))
    return ops.multiply(ops.cross_entropy(logits, labels), examples)


def _without_last_example(ops: Ops, dtype: str, logits: Array, labels: Array) -> Array:
    n = ops.shape(logits)[0]
    logits, labels = (ops.slice(t, axis=0, start=0, stop=n - 1) for t in (logits, labels))
    return ops.cross_entropy(logits, labels)


def _channels_first(ops: Ops, dtype: str, x: Array) -> Array:
    return ops.flatten(ops.transpose(x, (0, 3, 1, 2)) if len(ops.shape(x)) == 4 else x)


def _scaled_gradient(name: str) -> dict[str, Callable[..., Array]]:
    """The result is right, and its gradient is not."""

    def op(ops: Ops, dtype: str, x: Array) -> Array:
        one, factor = (ops.constant(np.asarray(value)) for value in (1.0, SLIGHTLY))
        return ops.custom_gradient(
            lambda y: ops.multiply(y, one),
            lambda y, cotangent: ops.multiply(cotangent, factor),
            getattr(ops, name)(x),
        )

    return {name: op}


def _unlearned_bias(ops: Ops, dtype: str, x: Array, w: Array, b: Array | None = None) -> Array:
    if b is None:
        return ops.dense(x, w)
    nothing = ops.multiply(b, ops.constant(np.zeros(())))  # a gradient of zeros
    return ops.dense(x, w, ops.add(ops.stop_gradient(b), nothing))


def _op(
    name: str, model: str, change: Mapping[str, Callable[..., Any]], sentence: str, **more: Any
) -> Fault:
    return Fault(name, "op", sentence, model, change, **{"infer": True, **more})


_DROPPED = {
    "attention": lambda ops, dtype, q, k, v, **keywords: ops.attention(
        q, k, ops.stop_gradient(v), **keywords
    )
}
_OPS = (
    _op("layer_norm_epsilon", "vit", _with("layer_norm", epsilon=lambda e: 2 * e),
        "layer normalisation with twice its epsilon"),
    _op("layer_norm_unbiased", "vit", _layer_norm(correction=1),
        "layer normalisation divides by n - 1"),
    _op("layer_norm_bf16", "vit", _layer_norm(statistic=_bf16),
        "layer normalisation keeps its statistics in bfloat16"),
    _op("batch_norm_epsilon_1e-3", "convnet", _with("batch_norm", epsilon=lambda e: 1e-3),
        "batch normalisation with Keras's default epsilon"),
    _op("batch_norm_epsilon", "convnet", _with("batch_norm", epsilon=lambda e: 2 * e),
        "batch normalisation with twice its epsilon"),
    _op("batch_norm_momentum", "convnet", _with("batch_norm", momentum=lambda m: 1 - m),
        "running statistics with 1 - momentum", infer=False),
    _op("batch_norm_running_biased", "convnet", {"batch_norm": _biased_running_variance},
        "the running variance is that of n", infer=False),
    _op("batch_norm_unbiased", "convnet", _batch_norm_taken_apart(correction=1),
        "batch normalisation divides by n - 1", infer=False),
    _op("batch_norm_running_in_training", "convnet", {"batch_norm": _other_statistics},
        "training normalises with the running statistics", infer=False),
    _op("batch_norm_batch_in_inference", "convnet", {"batch_norm": _other_statistics},
        "inference normalises with the batch's statistics", mode="infer", infer=False),
    _op("batch_norm_never_updated", "convnet", {"batch_norm": _statistics_kept},
        "running statistics stay what they were", infer=False),
    _op("batch_norm_gradient", "convnet", _batch_norm_taken_apart(constant=True),
        "the gradient takes the batch's statistics for constants", infer=False),
    _op("gelu_tanh", "vit", {"gelu": lambda ops, dtype, x: ops.gelu_tanh(x)},
        "the tanh approximation of GELU"),
    _op("gelu_scaled", "vit", _scaled("gelu", SLIGHTLY), "GELU times 1 + 1e-5", weak=True),
    _op("attention_scale", "vit", _attention(scale=lambda heads, d: 1 / d),
        "attention scaled by 1 / D"),
    _op("attention_one_head", "vit", _attention(scale=_one_head_unscaled),
        "one head of attention is not scaled"),
    _op("attention_over_queries", "vit", _attention(softmax=_over_queries),
        "the softmax of attention runs over the queries"),
    _op("attention_last_key", "vit", {"attention": _without_last_key},
        "the softmax of attention leaves the last key out"),
    _op("attention_causal", "vit", _with("attention", causal=lambda c: True),
        "attention is causal"),
    _op("attention_softmax_bf16", "vit", _attention(softmax=_softmax_bf16),
        "the softmax of attention runs in bfloat16"),
    _op("attention_gradient", "vit", _DROPPED, "attention passes its values no gradient",
        infer=False),
    _op("concat_order", "vit",
        {"concat": lambda ops, dtype, xs, *, axis: ops.concat(list(xs)[::-1], axis=axis)},
        "tensors are joined in reverse"),
    _op("residual_bf16", "vit", _result_rounded("add", 8), "residuals are kept in bfloat16"),
    _op("patches_without_bias", "vit", _no_bias("conv2d"), "the convolution leaves out its bias"),
    _op("max_pool_average", "convnet",
        {"max_pool2d": lambda ops, dtype, x, **keywords: ops.avg_pool2d(x, **keywords)},
        "the average instead of the maximum is pooled"),
    _op("conv_padding", "convnet", {"conv2d": _shifted_padding},
        "all padding is on the far side, as SAME puts it with stride 2"),
    _op("conv_flipped", "convnet", {"conv2d": _flipped_kernel}, "a convolution, not a correlation"),
    _op("conv_transposed", "convnet", {"conv2d": _transposed_kernel},
        "height and width of the kernel are swapped"),
    _op("flatten_order", "convnet", {"flatten": _channels_first}, "channels are flattened first"),
    _op("dense_without_bias", "mlp", _no_bias("dense"), "dense layers leave out their bias"),
    _op("dense_bias_twice", "mlp", {"dense": _bias_twice}, "dense layers add their bias twice"),
    _op("dense_bias_unlearned", "mlp", {"dense": _unlearned_bias}, "biases get no gradient",
        infer=False),
    _op("relu_leaky", "mlp",
        {"relu": lambda ops, dtype, x: ops.leaky_relu(x, slope=1e-6)}, "ReLU with a slope of 1e-6",
        weak=True),
    _op("relu_gradient", "mlp", _scaled_gradient("relu"), "the gradient of ReLU times 1 + 1e-5",
        infer=False, weak=True),
    _op("loss_sum", "mlp", {"cross_entropy": _loss_as_sum}, "the loss is a sum", infer=False),
    _op("loss_smoothing", "mlp", _with("cross_entropy", smoothing=lambda s: 1e-3),
        "labels are smoothed by 1e-3", infer=False),
    _op("loss_scaled", "mlp", _scaled("cross_entropy", SLIGHTLY), "the loss times 1 + 1e-5",
        infer=False, weak=True),
    _op("loss_last_example", "mlp", {"cross_entropy": _without_last_example},
        "the loss leaves out the last example", infer=False),
    _op("silent_tf32_mlp", "mlp", _contractions(11), "contractions in TF32"),
    _op("silent_bf16_mlp", "mlp", _contractions(8), "contractions in bfloat16"),
    _op("silent_tf32_convnet", "convnet", _contractions(11), "contractions in TF32"),
    _op("silent_bf16_convnet", "convnet", _contractions(8), "contractions in bfloat16"),
    _op("silent_tf32_vit", "vit", _contractions(11), "contractions in TF32"),
    _op("silent_bf16_vit", "vit", _contractions(8), "contractions in bfloat16"),
    _op("activations_bf16", "mlp", _result_rounded("relu", 8), "activations in bfloat16"),
    _op("activations_fp16", "vit", _result_rounded("gelu", 11), "activations in float16"),
)  # fmt: skip


# -- recipes ---------------------------------------------------------------------------------------


class _Late(Schedule):
    """A schedule that is one step behind."""

    def __call__(self, t: int) -> float:
        return super().__call__(max(t - 1, 1))


def _late(recipe: Recipe) -> Recipe:
    s = recipe.schedule
    return replace(recipe, schedule=_Late(s.kind, s.warm_up, s.steps, s.every, s.factor))


def _recipe(
    name: str, recipe: str, change: Callable[[Recipe], Any], sentence: str, **more: Any
) -> Fault:
    """On the smallest model; `change` gives the constants that are wrong, or a recipe."""

    def changed(sound: Recipe) -> Recipe:
        made = change(sound)
        return made if isinstance(made, Recipe) else replace(sound, **made)

    return Fault(name, "recipe", sentence, "mlp", changed, recipe=recipe, **more)


_RECIPES = (
    _recipe("rate_scaled", "sgd_momentum",
            lambda r: {"learning_rate": r.learning_rate * SLIGHTLY}, "the rate times 1 + 1e-5",
            weak=True),
    _recipe("momentum_0.89", "sgd_momentum", lambda r: {"momentum": 0.89}, "momentum 0.89"),
    _recipe("momentum_off", "sgd_momentum", lambda r: {"momentum": 0.0}, "no momentum"),
    _recipe("nesterov_on", "sgd_momentum", lambda r: {"nesterov": True}, "Nesterov's momentum"),
    _recipe("dampening_on", "sgd_momentum", lambda r: {"dampening": 0.1}, "dampening 0.1"),
    _recipe("decay_on", "sgd_momentum", lambda r: {"weight_decay": 1e-4}, "a decay of 1e-4"),
    _recipe("clip_far_away", "sgd_momentum", lambda r: {"clip_norm": 1e6},
            "clips at a norm that no gradient reaches", dead=True),
    _recipe("schedule_late", "sgd_warmup_cosine", _late, "the schedule is one step behind"),
    _recipe("schedule_off", "sgd_warmup_cosine", lambda r: {"schedule": Schedule()},
            "no schedule"),
    _recipe("schedule_length", "sgd_warmup_cosine",
            lambda r: {"schedule": replace(r.schedule, steps=21)}, "a cosine over 21 steps"),
    _recipe("adam_epsilon", "adamw_clip", lambda r: {"epsilon": 1e-7}, "Adam's epsilon 1e-7"),
    _recipe("adam_beta_2", "adamw_clip", lambda r: {"betas": (0.9, 0.99)}, "beta 2 is 0.99"),
    _recipe("adam_betas_swapped", "adamw_clip", lambda r: {"betas": r.betas[::-1]},
            "beta 1 and beta 2 are swapped"),
    _recipe("adam_decay_coupled", "adamw_clip",
            lambda r: {"optimizer": "adam", "decay": "coupled"}, "L2 regularisation for decay"),
    _recipe("adam_decay_0.004", "adamw_clip", lambda r: {"weight_decay": 0.004},
            "Keras's default decay"),
    _recipe("clip_threshold", "adamw_clip", lambda r: {"clip_norm": 1.01 * (r.clip_norm or 0)},
            "the clipping threshold times 1.01"),
    _recipe("clip_off", "adamw_clip", lambda r: {"clip_norm": None}, "no clipping"),
    _recipe("clip_by_value", "adamw_clip",
            lambda r: {"clip_norm": None, "clip_value": r.clip_norm}, "clips values, not the norm"),
)  # fmt: skip


# -- threads ---------------------------------------------------------------------------------------


def _first_scaled(name: str) -> dict[str, Callable[..., Any]]:
    def op(ops: Ops, dtype: str, *arguments: Any, **keywords: Any) -> Any:
        result = getattr(ops, name)(*arguments, **keywords)
        first, *rest = result if isinstance(result, tuple) else (result,)
        first = ops.multiply(first, ops.constant(np.asarray(1.001)))
        return (first, *rest) if rest else first

    return {name: op}


_THREADS = tuple(
    Fault(f"two_threads_{op}", "threads", f"{op} is wrong with two threads", op,
          _first_scaled(op), mode="infer", suite="threads")
    for op in ("lstm", "layer_norm", "attention", "gelu")
)  # fmt: skip


# -- what exercises show, and models do not --------------------------------------------------------


def _exercise(name: str, suite: str, place: str, change: Any, sentence: str) -> Fault:
    """`place` is SUBJECT/EXERCISE."""
    subject, _, exercise = place.partition("/")
    return Fault(name, "op", sentence, subject, change, mode="infer", suite=suite,
                 exercise=exercise)  # fmt: skip


_EXERCISES = (
    _exercise("minimum_float32", "operations", "minimum/usual", operations.in_float32("minimum"),
              "the minimum of float64 numbers is computed in float32"),
    _exercise("matmul_float32", "operations", "matmul/usual", operations.in_float32("matmul"),
              "the product of float64 matrices is computed in float32"),
    _exercise("exp_tail", "operations", "exp/far below 0 alone", operations.zero_below("exp", -10),
              "exp is 0 below -10"),
    _exercise("sigmoid_tail", "operations", "sigmoid/far below 0 alone",
              operations.zero_below("sigmoid", -20), "sigmoid is 0 below -20"),
    *(_exercise(f"{layout}_view", "operations", f"exp/{layout} view",
                lambda: operations.reads_densely("exp"), f"exp reads {what}")
      for layout, what in (("broadcast", "a broadcast view as if it were in memory"),
                           ("offset", "a view from the start of its memory"),
                           ("gapped", "every element of a view of every other"))),
    _exercise("batch_above_16", "operations", "softmax/batch of 33",
              operations.first_for_later("softmax", 16),
              "of a batch above 16, the rest gets what the first example gets"),
    _exercise("side_of_17", "sizes", "matmul/few sizes of sides",
              operations.off_at("matmul", lambda shape: shape[-1] % 17 == 0),
              "a product is off where a side is a multiple of 17"),
    _exercise("above_2_15", "sizes", "relu/few sizes of elements",
              operations.off_at("relu", lambda shape: shape[0] > 2**15),
              "ReLU is off above 2^15 elements"),
    _exercise("causal_beyond_32", "operations", "attention/causal, many queries",
              operations.unmasked_beyond(32), "attention is causal for 32 queries only"),
    _exercise("lstm_beyond_8", "operations", "lstm/64 steps", operations.frozen_after(8),
              "an LSTM gives the same from the ninth position on"),
)  # fmt: skip


# -- programs --------------------------------------------------------------------------------------


def _program(name: str, mode: str, change: Any, sentence: str) -> Fault:
    infer = mode == "infer"
    return Fault(name, "program", sentence, "mlp", change, mode=mode, infer=infer)


_PROGRAMS = (
    _program("output_stale", "infer", programs.Stale, "a step returns the output of the last one"),
    _program("output_stale_once", "infer", programs.StaleOnce,
             "the third step returns the output of the second"),
    _program("batch_baked_in", "infer", programs.Baked, "the first batch is part of the program"),
    _program("batch_baked_in_training", "train", programs.Baked,
             "every step of training sees the first batch"),
    _program("batch_before", "train", programs.BatchBefore,
             "a step of training sees the batch of the one before"),
    _program("output_is_a_view", "infer", programs.View, "the output changes with its input"),
    _program("input_changed", "infer", programs.InputChanged, "a step works in place on its input"),
    _program("input_changed_in_training", "train", programs.InputChanged,
             "a step of training works in place on its input"),
    _program("memory_unwritten", "infer", programs.Unwritten, "reads memory that it did not write"),
    _program("memory_unwritten_in_training", "train", programs.Unwritten,
             "training reads memory that it did not write"),
)  # fmt: skip

#: What shows late, at once, or in one channel: in runs that other suites make.
_IN_SUITES = (
    Fault("momentum_lost", "program", "momentum is lost after step 100", "mlp",
          programs.MomentumLost, suite="conformance"),
    Fault("first_losses", "program", "the first losses of a training are off", "mlp",
          programs.FirstLosses, suite="convergence"),
    Fault("channel_scaled", "program", "a channel of an int8 layer is scaled back 1% too far",
          "mlp", programs.ChannelScaled, mode="infer", suite="quantization"),
)  # fmt: skip


# -- loading ---------------------------------------------------------------------------------------


def _weights(
    name: str,
    model: str,
    tensors: tuple[str, ...],
    change: Callable[..., Any],
    sentence: str,
    *,
    weak: bool = False,
) -> Fault:
    """`change` gives new values for `tensors`, as one array or as many as there are."""

    def changed(loaded: Tensors) -> dict[str, np.ndarray]:
        if not set(tensors) <= set(loaded):  # parameters and buffers are loaded one after the other
            return {}
        made = change(*(loaded[name] for name in tensors))
        return dict(zip(tensors, made if isinstance(made, tuple) else (made,), strict=True))

    return Fault(name, "weights", sentence, model, changed, infer=True, weak=weak)


def _first_element(w: np.ndarray) -> np.ndarray:
    return np.concatenate([w.ravel()[:1] * (1 + 1e-3), w.ravel()[1:]]).reshape(w.shape)


def _fp16(w: np.ndarray) -> np.ndarray:
    return w.astype(np.float16).astype(w.dtype)


_WEIGHTS = (
    _weights("weight_scaled", "mlp", ("fc2/w",), lambda w: w * SLIGHTLY,
             "a weight times 1 + 1e-5", weak=True),
    _weights("weight_element", "mlp", ("fc2/w",), _first_element,
             "one element of a weight times 1 + 1e-3"),
    _weights("weight_fp16", "mlp", ("fc2/w",), _fp16, "a weight went through float16"),
    _weights("weight_reshaped", "mlp", ("fc2/w",),
             lambda w: w.T.reshape(w.shape), "a weight is read in the wrong order"),
    _weights("bias_zeroed", "mlp", ("fc1/b",), np.zeros_like, "a bias is not loaded"),
    _weights("weight_transposed", "vit", ("block0/attention/out/w",), lambda w: w.T.copy(),
             "a square weight is transposed"),
    _weights("weights_swapped", "vit", ("block0/mlp/fc1/w", "block1/mlp/fc1/w"),
             lambda a, b: (b, a), "weights of two layers are swapped"),
    _weights("scale_and_offset_swapped", "convnet", ("norm1/scale", "norm1/offset"),
             lambda a, b: (b, a), "scale and offset are swapped"),
    _weights("running_mean_zero", "convnet", ("norm1/mean",), np.zeros_like,
             "a running mean is not loaded"),
    _weights("running_variance_one", "convnet", ("norm2/var",), np.ones_like,
             "a running variance is not loaded"),
)  # fmt: skip


def _data(name: str, model: str, sentence: str, **changes: Callable[[np.ndarray], Any]) -> Fault:
    """`changes` are of "x" (N, H, W, C) and "y" (N,)."""

    def changed(batch: Tensors, dtype: str) -> dict[str, np.ndarray]:
        return {part: change(batch[part]) for part, change in changes.items()}

    return Fault(name, "data", sentence, model, changed, infer="x" in changes)


_DATA = (
    _data("data_order", "mlp", "images and labels are shifted against each other",
          x=lambda x: np.roll(x, 1, axis=0)),
    _data("labels_from_one", "mlp", "labels count from one", y=lambda y: (y + 1) % 10),
    _data("data_scale", "convnet", "images are divided by a deviation off by 1e-4",
          x=lambda x: x * (1 + 1e-4)),
    _data("data_mean", "convnet", "a mean off by 1e-4 is subtracted", x=lambda x: x - 1e-4),
    _data("data_fp16", "vit", "images went through float16", x=_fp16),
    _data("data_duplicate", "vit", "one example is there twice",
          x=lambda x: np.concatenate([x[:1], x[:1], x[2:]])),
    _data("data_flipped", "convnet", "images are mirrored", x=lambda x: x[:, :, ::-1].copy()),
    _data("data_transposed", "vit", "height and width are swapped",
          x=lambda x: x.transpose(0, 2, 1, 3).copy()),
)  # fmt: skip

#: Name -> fault.
FAULTS: dict[str, Fault] = {
    f.name: f
    for f in (
        *_OPS, *_RECIPES, *_THREADS, *_EXERCISES, *_PROGRAMS, *_IN_SUITES, *_WEIGHTS, *_DATA
    )
}  # fmt: skip


# -- what is no fault ------------------------------------------------------------------------------


def _one_ulp(batch: Tensors, dtype: str) -> dict[str, np.ndarray]:
    x = batch["x"].astype(dtype)
    up = np.random.default_rng(1).random(x.shape) < 0.5
    return {"x": np.nextafter(x, np.where(up, np.inf, -np.inf).astype(dtype))}


def _permuted(batch: Tensors, dtype: str) -> dict[str, np.ndarray]:
    order = permutation(len(batch["y"]))
    return {part: value[order] for part, value in batch.items()}


#: Changes of data that leave every result what it is, but for rounding and the order of outputs.
CONTROLS: dict[str, Fault] = {
    "batch_permuted": Fault(
        "batch_permuted", "data", "the examples come in another order", "mlp", _permuted
    ),
    "inputs_one_ulp": Fault(
        "inputs_one_ulp", "data", "every input is moved by one unit in the last place", "mlp",
        _one_ulp,
    ),
}  # fmt: skip
