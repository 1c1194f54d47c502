"""What is measured, counted and derived: names, units, meanings."""

from __future__ import annotations

#: metric -> (unit, what it is)
METRICS: dict[str, tuple[str, str]] = {
    "step_time": ("s", "time of one step in steady state"),
    "throughput": ("1/s", "examples per second in steady state"),
    "dispatch_time": ("s", "the host's time to enqueue one step, without waiting for it"),
    "device_time": ("s", "time of one step between two events on the device"),
    "transfer_time": ("s", "bringing one batch from NumPy arrays to the device"),
    "latency": ("s", "time of one synchronised call"),
    "import_time": ("s", "importing the adapter and its framework in a new process"),
    "build_time": ("s", "from arrays to a program that is ready to be called"),
    "trace_time": ("s", "the part of the first call that turns the program into a graph"),
    "compile_time": ("s", "the part of the first call that turns the graph into code"),
    "first_call_time": ("s", "the first step, with compile caches off"),
    "first_call_time_warm_cache": (
        "s",
        "the first step in a new process, with what an earlier process compiled in the cache",
    ),
    "host_peak_bytes": (
        "B",
        "peak memory over steady steps, above the same process before the build",
    ),
    "step_peak_bytes": (
        "B",
        "peak memory over steady steps, above what the process holds between them",
    ),
    "compile_peak_bytes": ("B", "peak memory of build and first call, above the same"),
    "parameter_bytes": ("B", "parameters and buffers, as the framework holds them"),
    "gradient_bytes": ("B", "gradients of one step, which may not all be there at once"),
    "optimizer_bytes": ("B", "what the optimizer keeps between steps, averages included"),
    "device_peak_bytes": (
        "B",
        "peak device memory over steady steps, by the framework's allocator; with the first call "
        "where the framework cannot reset its statistics",
    ),
    "device_compile_peak_bytes": ("B", "peak device memory of build and first call"),
    "device_reserved_bytes": ("B", "the most that the framework's allocator took from the device"),
    "device_process_bytes": ("B", "device memory of the process by the driver, context included"),
    "artifact_bytes": ("B", "the model for inference, as the framework writes it to a file"),
    "sqnr": (
        "dB",
        "10 log10(signal / quantization noise) of the output against float64, held-out examples",
    ),
    "top1_agreement": ("1", "held-out examples whose largest logit is that of float64"),
    "kl_divergence": ("nat", "mean divergence of the output's probabilities from float64's"),
    "score": ("1", "the model's own score on held-out examples: accuracy, say"),
    "score_lost": (
        "1",
        "how much worse the score is than that of float64 before quantization and the training "
        "that belongs to it; below 0: better",
    ),
    "flops_per_step": ("FLOP", "arithmetic of one step, counted from the model"),
    "bytes_per_step": ("B", "what one step must read and write at least, counted from the model"),
    "steps_to_target": ("steps", "steps of training until the model's goal is reached, per seed"),
    "time_to_target": (
        "s",
        "time of training until the model's goal is reached, per seed: batches to the device, "
        "steps, and compiling on the first; evaluation is not counted",
    ),
    "speedup": (
        "1",
        "step time in fp32 over step time, paired rounds in the same adapter: above 1 is faster",
    ),
    "slowdown": ("1", "time over that of a gate's base, paired rounds: above 1 is slower"),
    "control_ratio": ("1", "step time over that of the native control, paired rounds"),
    # read from files of other tools, never measured here
    "cpu_time": ("s", "processor time of one call, as another tool measured it"),
    "items_per_second": ("1/s", "items that a benchmark works off per second, as it counts them"),
    "bytes_per_second": ("B/s", "bytes that a benchmark works off per second, as it counts them"),
    "object_bytes": ("B", "size of an object, as another tool measured it"),
    "process_peak_bytes": ("B", "peak memory of a whole process, as another tool measured it"),
    "tracked_value": ("1", "a number that another tool tracks; which way is better is not known"),
}
#: Metrics that may be below 0.
SIGNED = ("sqnr", "score_lost", "tracked_value")
#: Metrics of which more is better. Of the others that a gate compares, more is worse.
HIGHER_IS_BETTER = ("items_per_second", "bytes_per_second")
#: Metrics that are never stored: `results.derived` computes them from those that are.
DERIVED: dict[str, tuple[str, str]] = {
    "latency_p50": ("s", "half of all synchronised calls take at most this long"),
    "latency_p95": ("s", "95% of all synchronised calls take at most this long"),
    "latency_p99": ("s", "99% of all synchronised calls take at most this long"),
    "break_even_steps": ("steps", "after so many steps a compiler has paid for itself"),
    "activation_bytes": (
        "B",
        "what a step of training takes anew above one of inference: activations, at least",
    ),
    "peak_fraction": ("1", "arithmetic per second over what this machine allows for it"),
}
#: limit of the machine -> (unit, what it is)
LIMITS: dict[str, tuple[str, str]] = {
    "matmul_fp32": ("FLOP/s", "largest rate of a float32 matrix product"),
    "matmul_bf16": ("FLOP/s", "largest rate of a bfloat16 matrix product"),
    "matmul_int8": ("OP/s", "largest rate of an int8 matrix product into int32"),
    "bandwidth": ("B/s", "largest rate of reading and writing memory, arrays far above the cache"),
}
#: flag -> what it says about a figure. `noisy` is never stored: it follows from the interval.
FLAGS: dict[str, str] = {
    "not_steady": "the step time was still drifting when warm-up reached its limit",
    "allocator_bound": "the number of page faults varies from block to block",
    "recompiled": "the framework traced or compiled again while it was timed",
    "noisy": "the 95% interval reaches more than 5% to one side of the figure",
    "oversubscribed": "more processor time was used than the threads that were asked for can use",
    "throttled": "the device lowered its clocks for heat or power",
    "gpu_shared": "another process was using the device",
}
