"""Mixed precision: which operations run in 16 bits, as declared here and the same in all adapters.

`PolicyOps` runs a model over two implementations of one vocabulary, `full` in the dtype of the
parameters and `low` in 16 bits, and casts between them. An operation belongs to one kind:

    LOW        floating-point tensors are cast to 16 bits, and so is the result
    FULL       they are cast to the parameters' dtype, and so is the result
    INSIDE     computed as FULL; what is normalised comes out in the dtype in which it came in
    FOLLOW     computed in the widest dtype of its tensors. One of rank 0 counts only where there
               is no other, as in PyTorch's promotion

Parameters, running statistics, gradients and the optimizer stay in the parameters' dtype: these
are master weights (Micikevicius et al. 2018), which a LOW operation casts for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapters.ops import FORMS, NAMES, Array, Ops

LOW, FULL, INSIDE, FOLLOW = "low", "full", "inside", "follow"

#: Floating-point dtypes, from narrow to wide. Of the two of 16 bits a program has one.
FLOATS = ("float16", "bfloat16", "float32", "float64")

CONTRACTIONS = frozenset(
    "matmul dense conv2d conv_transpose2d conv3d conv_transpose3d attention lstm gru".split()
)
NORMS = frozenset("layer_norm batch_norm group_norm rms_norm".split())
LOSSES = frozenset("cross_entropy bce_with_logits mse smooth_l1".split())
#: What sums many terms, or leaves the range of 16 bits soon.
SENSITIVE = frozenset("softmax softplus exp log sqrt sum mean variance norm".split())

#: Operation -> kind.
Policy = Callable[[str], str]


def declared(name: str) -> str:
    """Assay's own policy, `amp_bf16` and `amp_fp16`."""
    if name in CONTRACTIONS:
        return LOW
    if name in NORMS:
        return INSIDE
    return FULL if name in LOSSES or name in SENSITIVE else FOLLOW


def computing_low(name: str) -> str:
    """What Keras (`mixed_bfloat16`, `mixed_float16`) and Flax (`dtype=`) do: every layer computes
    in 16 bits, but for the statistics of normalisations and the loss."""
    if name in NORMS:
        return INSIDE
    return FULL if name in LOSSES else LOW


def unchanged(name: str) -> str:
    """Nothing is cast: what operations return is the framework's own affair."""
    return ""


class PolicyOps(Ops):
    """`full` and `low` under a policy. `results` tells, by operation, the dtypes that came out, as
    the framework reports them."""

    def __init__(self, full: Ops, low: Ops, policy: Policy, dtypes: tuple[str, str]) -> None:
        self._full, self._low = full, low
        self._kinds = {name: policy(name) for name in NAMES}
        self._wide, self._narrow = dtypes
        self.results: dict[str, set[str]] = {}

    # -- data --------------------------------------------------------------------------------

    def shape(self, x: Array) -> tuple[int, ...]:
        return self._full.shape(x)

    def dtype_of(self, x: Array) -> str:
        return self._full.dtype_of(x)

    def cast(self, x: Array, dtype: str) -> Array:
        return self._full.cast(x, dtype)

    def constant(self, value: Any) -> Array:
        return self._full.constant(value)

    # -- how an operation runs -----------------------------------------------------------------

    def _run(self, name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        kind = self._kinds[name]
        if not kind:
            return self._kept(name, getattr(self._full, name)(*arguments, **keywords))
        back = ""
        if kind == LOW:
            dtype = self._narrow
        elif kind == FOLLOW:
            dtype = self._widest((*arguments, *keywords.values()))
        else:
            dtype = self._wide
            back = self.dtype_of(arguments[0]) if kind == INSIDE else ""
        ops = self._low if dtype == self._narrow else self._full
        given = [self._in(x, dtype) for x in arguments]
        result = getattr(ops, name)(*given, **{n: self._in(x, dtype) for n, x in keywords.items()})
        if back == self._narrow:
            # of several results the first is what was normalised, the others are statistics
            head, rest = (result[0], result[1:]) if isinstance(result, tuple) else (result, ())
            head = self._full.cast(head, back)
            result = (head, *rest) if rest else head
        return self._kept(name, result)

    def _kept(self, name: str, result: Any) -> Any:
        first = result[0] if isinstance(result, tuple) else result
        self.results.setdefault(name, set()).add(self.dtype_of(first))
        return result

    def _is_float(self, x: Any) -> bool:
        return hasattr(x, "shape") and self.dtype_of(x) in FLOATS

    def _in(self, x: Any, dtype: str) -> Any:
        """`x`, an argument of any kind, with its floating-point tensors in `dtype`."""
        if isinstance(x, list | tuple):
            return type(x)(self._in(one, dtype) for one in x)
        if not self._is_float(x) or self.dtype_of(x) == dtype:
            return x
        return self._full.cast(x, dtype)

    def _widest(self, values: Sequence[Any]) -> str:
        flat = [one for x in values for one in (x if isinstance(x, list | tuple) else (x,))]
        floats = [x for x in flat if self._is_float(x)]
        ranked = [x for x in floats if self.shape(x)] or floats
        found = [self.dtype_of(x) for x in ranked]
        # not max with a key, which torch.compile cannot trace
        return next((dtype for dtype in reversed(FLOATS) if dtype in found), self._wide)

    # -- forms: what a loop carries keeps its dtype ----------------------------------------------

    def cond(
        self, predicate: Array, true: Callable[..., Array], false: Callable[..., Array],
        *operands: Array,
    ) -> Array:  # fmt: skip
        def wide(branch: Callable[..., Array]) -> Callable[..., Array]:
            return lambda *xs: self._in(branch(*xs), self._wide)

        return self._full.cond(predicate, wide(true), wide(false), *operands)

    def while_loop(
        self, condition: Callable[[Array], Array], body: Callable[[Array], Array], state: Array
    ) -> Array:
        return self._full.while_loop(condition, lambda old: self._like(body(old), old), state)

    def scan(self, body: Callable[[Any, Array], Any], state: Any, xs: Array) -> Any:
        return self._full.scan(lambda old, x: self._like(body(old, x), old), state, xs)

    def _like(self, new: Any, old: Any) -> Any:
        if isinstance(new, tuple):
            return tuple(self._like(n, o) for n, o in zip(new, old, strict=True))
        return self._in(new, self.dtype_of(old)) if self._is_float(old) else new


def _operation(name: str) -> Any:
    def op(self: PolicyOps, *arguments: Any, **keywords: Any) -> Any:
        return self._run(name, arguments, keywords)

    op.__name__ = name
    return op


def _form(name: str) -> Any:
    def form(self: PolicyOps, *arguments: Any, **keywords: Any) -> Any:
        return getattr(self._full, name)(*arguments, **keywords)

    form.__name__ = name
    return form


for _names, _make in ((NAMES, _operation), (FORMS, _form)):
    for _name in _names:
        if _name not in vars(PolicyOps):
            setattr(PolicyOps, _name, _make(_name))


def results(ops: Ops) -> dict[str, list[str]] | None:
    """What `ops` tells of its results; None where it has no policy."""
    if not isinstance(ops, PolicyOps):
        return None
    return {name: sorted(dtypes) for name, dtypes in sorted(ops.results.items())}
