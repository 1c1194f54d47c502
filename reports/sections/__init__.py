"""The sections with charts, in the order in which pages show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reports.data import RunData
from reports.exhibits import Panel
from reports.sections import (
    benchmarks,
    cold_start,
    convergence,
    gate,
    performance,
    precision,
    quantization,
    scaling,
)


@dataclass(frozen=True)
class Section:
    """`note` says how to read it; `make` makes its panels, of which there may be none."""

    name: str
    title: str
    note: str
    make: Callable[[RunData], list[Panel]]


SECTIONS = (
    Section(
        "benchmarks",
        "Benchmarks",
        "What another tool measured and wrote into its file. Nothing of it was judged here.",
        benchmarks.benchmarks,
    ),
    Section(
        "gate",
        "Gate",
        "Head, which is what ran here, against base. Pairs of processes took turns, so that "
        "whatever disturbed the machine disturbed both. Regressed: worse for certain, and by "
        "more than half of the threshold, in two independent sets of pairs. Unchanged: whatever "
        "changed is for certain less than the threshold. Inconclusive is neither, and never "
        "counts as a pass.",
        gate.gate,
    ),
    Section(
        "convergence",
        "Convergence",
        "Training on real data until a stated score on examples that it does not see: from the "
        "same parameters, on the same examples in the same order in every adapter. A line is "
        "the median over seeds, where a seed that has reached the target keeps its last score; "
        "a marker is where a seed reached it. Lines that coincide lie on each other, the first "
        "adapter's widest. “Later by chance” is how likely an adapter is to come so late where "
        "all are alike. Time is that of bringing batches to the device and of steps, and of "
        "compiling in the first seed; evaluation is not counted. What is timed may use several "
        "threads and then takes other steps, which are told below the time.",
        convergence.convergence,
    ),
    Section(
        "speed",
        "Throughput",
        "Steady state. “Of peak” is arithmetic per second over what the machine's limits allow "
        "for it (the roofline), and “bound by” the limit that binds.",
        performance.throughput,
    ),
    Section(
        "latency",
        "Latency",
        "Single calls, one after the other, each waited for. A quantile is shown, and has an "
        "interval, only where there were calls enough.",
        performance.latency,
    ),
    Section(
        "memory",
        "Memory",
        "Peaks above the same process before the build. “Of one step” is above what the process "
        "holds between steps: a framework that keeps its memory from step to step shows little "
        "there. Activations are that of training minus that of inference, and at least so much; "
        "on a device, from its allocator's peaks.",
        performance.memory,
    ),
    Section(
        "precision",
        "Precision",
        "What a precision brings in speed and memory, and what it costs in accuracy. Each row "
        "is compared with fp32 in the same adapter. An error is the norm of the difference from "
        "the float64 reference over the norm of the reference. In the chart, up is faster than "
        "fp32 and right is less accurate; what has no speed is in the table alone, with the "
        "reason. Gradients may not all be there at once.",
        precision.precision,
    ),
    Section(
        "quantization",
        "Quantization",
        "Layers that compute with integers. The verdict says whether they compute what their "
        "scales and zero points say, against an oracle in NumPy that gets the same integers: "
        "bitwise where all results are equal; rounding-equal where at least 99% are and the "
        "others are 1 away, or within what rounding explains; precision-equal where they are "
        "not, with a signal-to-quantization-noise ratio (SQNR) of at least 60 dB against the "
        "oracle. Quality is told and never judged: on trained parameters and examples that "
        "training has not seen, against the model in float64. Speed and memory are measured on "
        "programs that agree, and are left out wherever a verdict is divergent. Above 1, “vs "
        "fp32” is faster than fp32 in the same adapter; a precision that does not pay is called "
        "slower. In the chart, up is faster and right is more accurate.",
        quantization.quantization,
    ),
    Section(
        "start",
        "Cold start",
        "Importing the framework, building the program and the first call, in a new process "
        "with compile caches off. A compiler is ahead of eager execution after the steps in the "
        "last column.",
        cold_start.cold_start,
    ),
    Section(
        "scaling",
        "Scaling",
        "One line per adapter. A cross above the curves is a point without a figure; the table "
        "says why.",
        scaling.scaling,
    ),
)
