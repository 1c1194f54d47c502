"""Monte-Carlo arithmetic (Parker 1997) under a whole PyTorch program: forward, backward, optimizer.

`MonteCarlo` sees every ATen operation of a float64 program and disturbs it as arithmetic with a
significand of `bits` bits would. With u = 2^-bits and e uniform in [-1, 1], drawn for each element:

    what an operation rounds        is multiplied by 1 + u e, also where it is written in place,
                                    so that storing a parameter rounds it
    what enters a sum of K terms    is multiplied by 1 + u sqrt(K/2) e, and
    what comes out of it            by 1 + u sqrt(1 + K/3) e, as derived below
    what enters a contraction       likewise, and also by 1 + v e with v = 2^-input_bits where
                                    `input_bits` asks for less than `bits` (TF32, say)
    what comes out of it            by 1 + w e with w = 2^-result_bits where that asks for less;
                                    `throughout`: what comes out of any operation
    what moves or selects values    is left alone

A sum of K terms, added one after the other, rounds each of its partial sums s_k: its error has
the variance u^2/3 sum_k s_k^2 (Higham and Mary 2019 bound it this way). Terms of random signs make
a walk, s_k^2 ~ k x^2, and sum_k s_k^2 ~ K/2 sum x^2: as if every term were off by u sqrt(K/2) e.
Terms of one sign make a steady growth, s_k = S k / K, and sum_k s_k^2 ~ S^2 K/3: as if the result
were off by u sqrt(K/3) e. What adds pairwise or in blocks does better than both. What adds one
value again and again (the background of an image) can do worse: its errors have one sign as well.

A normalisation, softmax or loss is none of these: it is taken apart by PyTorch's own decompositions
into sums and elementwise operations, which cancel, or amplify, what was disturbed before them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from adapters.base import Noise, Unsupported

#: Roundings between a gradient and the step that a fused optimizer makes of it.
FUSED_ROUNDINGS = 8

#: Operations that move, select or compare values, by their names without a trailing underscore.
#: Views need no entry: their schema says what they are.
MOVES = frozenset(
    "abs amax amin aminmax arange argmax as_strided_scatter bitwise_not cat ceil clamp clamp_max "
    "clamp_min clone constant_pad_nd copy detach_copy embedding empty empty_like empty_strided "
    "expand_copy fill flip floor full full_like gather index index_put index_select "
    "lift_fresh masked_fill max max_pool2d_with_indices maximum median min "
    "minimum nanmedian neg new_empty new_empty_strided new_full new_ones new_zeros normal ones "
    "ones_like permute_copy rand rand_like relu repeat roll round scalar_tensor scatter "
    "select_backward select_scatter set sgn sign slice_backward slice_scatter sort stack "
    "threshold_backward topk tril triu trunc uniform where zero zeros zeros_like "
    "_foreach_copy _foreach_zero _local_scalar_dense _reshape_copy _to_copy _unsafe_view "
    "_unsafe_index squeeze t transpose unsqueeze".split()  # the last four: in place
)

#: Sums of a few terms: the rounding of the result says enough.
SHORT_SUMS = frozenset(
    "max_pool2d_with_indices_backward scatter_add unfold_backward prod cross dist".split()
)

#: Name -> the positions of the tensors that are summed. K is what the result is smaller by.
REDUCTIONS: Mapping[str, tuple[int, ...]] = {
    "sum": (0,), "mean": (0,), "nansum": (0,), "linalg_vector_norm": (0,), "norm": (0,),
    "_foreach_norm": (0,),
}  # fmt: skip

#: Name -> (positions of the two factors, the number of terms of an element of the result).
CONTRACTIONS: Mapping[str, tuple[tuple[int, int], Callable[[Sequence[Any]], float]]] = {
    "mm": ((0, 1), lambda a: a[0].shape[-1]),
    "bmm": ((0, 1), lambda a: a[0].shape[-1]),
    "mv": ((0, 1), lambda a: a[0].shape[-1]),
    "dot": ((0, 1), lambda a: a[0].shape[-1]),
    "linear": ((0, 1), lambda a: a[0].shape[-1]),
    "addmm": ((1, 2), lambda a: a[1].shape[-1]),
    "addmv": ((1, 2), lambda a: a[1].shape[-1]),
    "baddbmm": ((1, 2), lambda a: a[1].shape[-1]),
    "convolution": ((0, 1), lambda a: _taps(a[1], stride=a[3], transposed=a[6])),
}

#: Name -> the number of terms of an element of the result; the first argument is summed.
OTHER_SUMS: Mapping[str, Callable[[Sequence[Any]], float]] = {
    "avg_pool2d": lambda a: math.prod(a[1]),
    "avg_pool2d_backward": lambda a: math.prod(
        math.ceil(k / s) for k, s in zip(a[2], a[3] or a[2], strict=True)
    ),
    "cumsum": lambda a: a[0].shape[a[1]] if a[0].ndim else 1,
    "upsample_bilinear2d": lambda a: 4,
    "upsample_bilinear2d_backward": lambda a: _reach(a[1], a[2][2:], radius=1),
    "_upsample_bilinear2d_aa": lambda a: _reach(a[0].shape[2:], a[1], radius=1),
    "_upsample_bilinear2d_aa_backward": lambda a: _reach(a[1], a[2][2:], radius=1),
    "_upsample_bicubic2d_aa": lambda a: _reach(a[0].shape[2:], a[1], radius=2),
    "_upsample_bicubic2d_aa_backward": lambda a: _reach(a[1], a[2][2:], radius=2),
    "embedding_dense_backward": lambda a: _most_frequent(a[1]),
}


class MonteCarlo(TorchDispatchMode):
    """`with MonteCarlo(noise):` disturbs what runs inside, on tensors of float64. What runs inside
    a second time is disturbed in the same way: steps on one batch repeat most of their rounding
    errors, which then add up as n and not as sqrt(n)."""

    def __init__(self, noise: Noise) -> None:
        super().__init__()
        self._unit = 2.0**-noise.bits
        self._input_unit = 2.0**-noise.input_bits if 0 < noise.input_bits < noise.bits else 0.0
        self._result_unit = 2.0**-noise.result_bits if 0 < noise.result_bits < noise.bits else 0.0
        self._throughout = noise.throughout
        self._seed = noise.seed
        self._draw = 0
        self._generators: dict[torch.device, torch.Generator] = {}
        self._depth = 0

    def draw_anew(self) -> None:
        """From now on disturbs in another way: the next draw of the same seed."""
        self._draw += 1

    @contextmanager
    def wide(self) -> Iterator[None]:
        """What runs inside stores in fewer bits what comes out of contractions alone: an optimizer,
        or the parts of an operation."""
        kept, self._throughout = self._throughout, False
        try:
            yield
        finally:
            self._throughout = kept

    def __enter__(self) -> MonteCarlo:
        if self._depth == 0:
            # the same draws in every step: the batch is the same, and so is most of its rounding
            self._generators.clear()
            # attention as products and a softmax: a fused kernel's sums are out of reach
            self._attention = sdpa_kernel(SDPBackend.MATH)
            self._attention.__enter__()
        self._depth += 1
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._depth -= 1
        if self._depth == 0:
            self._attention.__exit__(*exception)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = kwargs or {}, func._schema.name.partition("::")[2].rstrip("_")
        k, narrow = 0.0, self._throughout  # terms of a sum; whether its result is stored in less
        if name in MOVES or _is_view(func) or not _any_disturbed((args, kwargs)):
            return func(*args, **kwargs)
        special = getattr(self, f"_run_{name.lstrip('_')}", None)
        if special is not None:
            return special(func, args, kwargs)
        if name in CONTRACTIONS:
            factors, terms = CONTRACTIONS[name]
            k = terms(args)
            args, narrow = self._entering(args, factors, k, contraction=True), True
        elif name in REDUCTIONS:
            k = _ratio(args[0], func(*args, **kwargs))
            args = self._entering(args, REDUCTIONS[name], k)
        elif name in OTHER_SUMS:
            k = OTHER_SUMS[name](args)
            args = self._entering(args, (0,), k)
        elif not _is_elementwise(func, name):
            result = self._apart(func, args, kwargs)
            return self._narrowed(result) if narrow else result
        result = self._rounded(func, args, func(*args, **kwargs), k)
        return self._narrowed(result) if narrow else result

    def _narrowed(self, result: Any) -> Any:
        """A result as it is stored."""
        if not self._result_unit:
            return result
        return _each(result, lambda x: self._disturbed(x, self._result_unit))

    def _apart(self, func: Any, args: Sequence[Any], kwargs: Any) -> Any:
        """The operation as PyTorch takes it apart; its parts are disturbed one by one."""
        with self.wide(), self:
            if func in decomposition_table:
                return decomposition_table[func](*args, **kwargs)
            result = func.decompose(*args, **kwargs)
        if result is NotImplemented:
            raise Unsupported(f"no model of the rounding in {func}")
        return result

    # -- noise -------------------------------------------------------------------------------

    def _disturbed(self, x: torch.Tensor, size: float) -> torch.Tensor:
        """x (1 + size e)."""
        if x.device not in self._generators:
            self._generators[x.device] = torch.Generator(x.device)
            # far from the seeds that programs draw with themselves
            self._generators[x.device].manual_seed(2**40 + 2**16 * self._seed + self._draw)
        e = torch.rand(
            x.shape, generator=self._generators[x.device], device=x.device, dtype=x.dtype
        )
        return x * e.mul_(2 * size).add_(1 - size)

    def _rounded(self, func: Any, args: Sequence[Any], result: Any, terms: float = 0.0) -> Any:
        """What `func` returned or wrote, rounded, and before that summed of `terms` terms."""
        size = self._unit * math.sqrt(1 + terms / 3)
        written = [
            value
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        if not written:
            return _each(result, lambda x: self._disturbed(x, size))
        _each(written, lambda x: x.copy_(self._disturbed(x, size)))
        return result

    def _entering(
        self, args: Sequence[Any], at: Sequence[int], terms: float, *, contraction: bool = False
    ) -> list[Any]:
        """`args`, of which those `at` some positions enter sums of `terms` terms."""
        size = self._unit * math.sqrt(terms / 2)
        found = list(args)
        for i in at:
            found[i] = _each(found[i], lambda x: self._disturbed(x, size))
            if contraction and self._input_unit:
                found[i] = _each(found[i], lambda x: self._disturbed(x, self._input_unit))
        return found

    # -- operations of their own kind --------------------------------------------------------

    def _run_convolution_backward(self, func: Any, args: Sequence[Any], kwargs: Any) -> Any:
        """Three sums over different terms."""
        gradient, x, w, sizes, stride, padding, dilation, transposed, *rest = args
        *rest, wanted = rest
        outputs = gradient.numel() // gradient.shape[1]  # examples times positions
        terms = (_taps(w, stride=stride, transposed=not transposed), outputs, outputs)
        factors = ((0, 2), (0, 1), (0,))
        results: list[torch.Tensor | None] = []
        for i, (at, k) in enumerate(zip(factors, terms, strict=True)):
            mask = [wanted[j] and i == j for j in range(3)]
            if not mask[i]:
                results.append(None)
                continue
            entering = self._entering((gradient, x, w), at, k, contraction=i < 2)
            common = (sizes, stride, padding, dilation, transposed, *rest, mask)
            result = self._rounded(func, (), func(*entering, *common)[i], k)
            results.append(self._narrowed(result) if i < 2 else result)
        return tuple(results)

    def _run_var(self, func: Any, args: Sequence[Any], kwargs: Any) -> Any:
        return self._run_var_mean(func, args, kwargs)[0]

    def _run_var_mean(self, func: Any, args: Sequence[Any], kwargs: Any) -> Any:
        """In two passes, as all frameworks do."""
        names = [argument.name for argument in func._schema.arguments]
        given = dict(zip(names, args, strict=False)) | kwargs
        x, keepdim = args[0], given.get("keepdim", False)
        dim = list(range(x.ndim)) if given.get("dim") is None else list(given["dim"])
        correction = given.get("correction", given.get("unbiased"))
        n = math.prod(x.shape[d] for d in dim) - (1 if correction is None else int(correction))
        with self:
            mean = x.mean(dim, keepdim=True)
            centred = x - mean
            variance = (centred * centred).sum(dim, keepdim=keepdim) / n
        return variance, mean if keepdim else mean.reshape(variance.shape)

    def _run_index_add(self, func: Any, args: Sequence[Any], kwargs: Any) -> Any:
        k = _most_frequent(args[2])
        args = self._entering(args, (3,), k)
        return self._rounded(func, args, func(*args, **kwargs), k)

    def _run_fused_sgd(self, func: Any, args: Sequence[Any], kwargs: Any) -> Any:
        return self._fused(func, args, kwargs, states=args[2:3])

    def _run_fused_adam(self, func: Any, args: Sequence[Any], kwargs: Any) -> Any:
        return self._fused(func, args, kwargs, states=args[2:5])

    _run_fused_adamw = _run_fused_adam
    _run_fused_adagrad = _run_fused_sgd

    def _fused(self, func: Any, args: Sequence[Any], kwargs: Any, *, states: Sequence[Any]) -> None:
        """A step p + d of a fused optimizer: d comes from several roundings, and p, like the
        optimizer's moments, is stored."""
        before = [p.clone() for p in args[0]]
        func(*args, **kwargs)
        for p, old in zip(args[0], before, strict=True):
            d = self._disturbed(p - old, self._unit * math.sqrt(FUSED_ROUNDINGS))
            p.copy_(self._disturbed(old + d, self._unit))
        _each(list(states), lambda x: x.copy_(self._disturbed(x, self._unit)))


def _each(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """`value`, a tensor or a nest of sequences, with every float64 tensor changed."""
    if isinstance(value, (list, tuple)):
        made = [_each(v, change) for v in value]
        named = getattr(value, "_make", None)  # of operations with several results
        return named(made) if named else type(value)(made)
    return change(value) if _is_disturbed(value) else value


def _is_disturbed(value: Any) -> bool:
    # float32 beside a float64 program is no arithmetic of it: an optimizer's count of steps
    return isinstance(value, torch.Tensor) and value.dtype == torch.float64


def _any_disturbed(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(_any_disturbed(v) for v in value)
    return _is_disturbed(value)


def _is_view(func: Any) -> bool:
    """Whether the results share the memory of an argument that is not written."""
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


def _is_elementwise(func: Any, name: str) -> bool:
    return torch.Tag.pointwise in func.tags or name in SHORT_SUMS or name.startswith("_foreach_")


def _ratio(x: Any, result: Any) -> float:
    """How many elements of `x` make one of `result`."""
    if isinstance(x, (list, tuple)):
        return max(_ratio(a, b) for a, b in zip(x, result, strict=True))
    return x.numel() / max(result.numel(), 1)


def _taps(w: torch.Tensor, *, stride: Sequence[int], transposed: bool) -> float:
    """Terms of an output element of a convolution with weights (O, I / groups, ...); a transposed
    one sees the first axis, and 1 / stride of the kernel along each axis."""
    kernel = math.prod(w.shape[2:])
    if not transposed:
        return w.shape[1] * kernel
    return w.shape[0] * max(kernel / math.prod(stride), 1)


def _reach(old: Sequence[int], new: Sequence[int], *, radius: int) -> float:
    """Inputs of an output pixel, of a kernel that shrinking stretches."""
    return math.prod(2 * radius * max(o / n, 1) for o, n in zip(old, new, strict=True))


def _most_frequent(indices: torch.Tensor) -> int:
    return int(indices.reshape(-1).bincount().max()) if indices.numel() else 1
