//! What each number in a report means. The definitions travel with the numbers.

/// Every metric and knob that a report names, with its definition, in the order in which they read best.
pub fn definitions() -> &'static [(&'static str, &'static str)] {
    DEFINITIONS
}

/// The same for a report on accuracy.
pub(super) fn loss_definitions() -> &'static [(&'static str, &'static str)] {
    LOSS_DEFINITIONS
}

const LOSS_DEFINITIONS: &[(&str, &str)] = &[
    (
        "cosine",
        "The cosine of the angle between both outputs as vectors: 1 where they have the same direction. It does not see \
         a common factor.",
    ),
    (
        "relative error",
        "The largest difference of two elements over the largest magnitude of the reference: max |a - b| / max |b|.",
    ),
    (
        "same top-1, top-5",
        "The share of samples whose largest element is the same, and whose largest element in the reference is among the \
         five largest. Only where a sample's output is a row of classes.",
    ),
    (
        "adds",
        "A layer's relative error less the largest of what it reads. Layers that magnify an error add to it as much as \
         layers that round.",
    ),
    (
        "computes in",
        "The type of the numbers that a layer multiplies: i8 for eight bits, f16 and bf16 for half precision, f32.",
    ),
];

const DEFINITIONS: &[(&str, &str)] = &[
    (
        "inferences/s",
        "Samples whose outputs became readable, per second of wall time, over the windows that were used. \
         One execution of a batch of 8 counts as 8.",
    ),
    (
        "executions/s",
        "Runs of the engine per second over the same time, what trtexec calls qps. A batch of 8 counts as 1.",
    ),
    (
        "95 % interval",
        "The range that holds the true value in 95 of 100 repetitions. Two results whose intervals overlap \
         cannot be told apart without measuring for longer.",
    ),
    (
        "latency",
        "From the moment a request was meant to be sent until its outputs could be read on the host. A wait \
         for a full pool counts.",
    ),
    (
        "p50, p90, p95, p99",
        "Percentiles of the latency by nearest rank: p99 is the latency that 99 of 100 requests do not \
         exceed. p99 is given from 300 requests on and p99.9 from 3,000, because fewer cannot bound it.",
    ),
    ("enqueue", "Host time that the submitting thread spends on starting one execution."),
    ("H2D, D2H", "Copies of the inputs from host to device, and of the outputs back."),
    ("compute", "Time in which the device runs the network for one execution."),
    (
        "evenness of grids",
        "Blocks of a kernel over the SMs times the most blocks that one of them gets: 1 where all get the same number, \
         0.25 where one SM in four has a block. Averaged over the time of all kernels. It says nothing about how full an \
         SM is.",
    ),
    (
        "recording",
        "Throughput in a short window in which CUPTI recorded each kernel, over that of one right before. Times in that \
         window are longer than else where it is far below 1.",
    ),
    (
        "overlap",
        "From the times of the stages, each execution counted once. Copies under another computation: of the time \
         of all copies together, the share in which another execution computed. Two or more stages: of the time in \
         which any H2D, compute or D2H ran, the share in which at least two did. Neither says that overlapping pays: \
         stages that share the device take longer.",
    ),
    (
        "stream",
        "Executions in one stream run one after the other; streams run at the same time. On a GPU it is a \
         CUDA stream, on a CPU a share of the cores.",
    ),
    (
        "batch, down to",
        "Samples that one execution runs at most. Down to 1: executions of 1, 2, 4 samples and so on are prepared too, and a \
         batch that is not full runs as the smallest that holds it.",
    ),
    ("depth", "Executions that each stream may have in flight or being filled."),
    ("submitters", "Host threads that drive the streams."),
    (
        "copy lanes",
        "Pairs of CUDA streams for copies, one to the device and one back, that all streams share in turn; own gives each \
         stream a pair of its own.",
    ),
    (
        "wait",
        "How a submitter waits for executions to end: block sleeps and sees the end some ten microseconds late, spin \
         asks all the time and keeps a core busy, hybrid asks for 100 us and then sleeps.",
    ),
    (
        "transfers",
        "With transfers off, only the first execution in each slot copies inputs and outputs; all later ones compute \
         on what lies on the device (trtexec's --noDataTransfers).",
    ),
    ("threads", "Host threads that compute for each stream; only the CPU backend uses them."),
    ("delay", "How long an execution that is not full waits for more samples."),
    (
        "verification",
        "Outputs of all streams are compared with those of a single stream. The relative error of a tensor \
         is its largest difference over the largest value of the reference.",
    ),
    (
        "stability",
        "Time after the warm-up is cut into windows. A result is stable where the last windows agree in \
         throughput and in mean latency; only they are used then. A spread of 3 % means that the largest is \
         3 % above the smallest.",
    ),
    (
        "Pareto front",
        "Candidates that no other beats in both throughput and p99. The largest latency stands in where \
         there are too few requests for a p99.",
    ),
    (
        "standing",
        "winner; close: still in the race when the search ended; slower: below the leader with 95 % \
         confidence; over: breaks a limit; failed: could not run; not run: the search ended before its turn.",
    ),
    (
        "times the default",
        "The winner's throughput over that of one stream with batch 1, both measured in turns in the same \
         run, so that a change of the clocks meets both.",
    ),
];
