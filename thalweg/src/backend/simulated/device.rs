//! The event model of a simulated device: two copy engines, SMs and DRAM that all streams share, clocks.
//!
//! In: executions with the time at which the host submitted them. Out: completions, with the time of each
//! stage. [`Device::run_until`] moves its time; nothing else does.
//!
//! Copies of one direction run one after the other, and those of one stream in the order of their submission. Kernels
//! of different streams run side by side and share the device as a fluid: as long as what they hold adds up to less
//! than the whole, none slows another; above it all slow down alike. So all running phases advance at one common rate,
//! and one counter of work done is enough to know when each of them ends.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::meter::Totals;
use super::parameters::Parameters;
use super::phases::{Holding, Phase, Program};
use crate::backend::{Completion, CudaGraph, ExecutorSpec, Outcome, Slot, Span, StageTimes, Waker};
use crate::random::Random;
use crate::units::Nanos;

/// An execution as the host submits it. Times are in seconds of the device's clock.
pub(super) struct Submission {
    pub slot: Slot,
    pub program: Arc<Program>,
    /// The enqueue call.
    pub enqueue: Span,
    /// When the copy of the inputs was submitted.
    pub copy_at_s: f64,
    /// When the first kernel was launched, or the whole graph.
    pub launch_at_s: f64,
    /// Host time from one launch to the next; 0 for a graph.
    pub launch_each_s: f64,
    /// Bytes that a copy of the inputs and one of the outputs move.
    pub h2d_bytes: f64,
    pub d2h_bytes: f64,
    /// Gives the outputs that belong to the inputs.
    pub compute: Compute,
}

/// What the network computes: words of all inputs to words of all outputs.
pub(super) type Compute = fn(&mut Slot);

/// A device with the executors of one pool.
pub(super) struct Device {
    parameters: Parameters,
    cuda_graph: CudaGraph,
    random: Random,
    now_s: f64,
    lanes: Vec<Lane>,
    /// For each stream for copies to the host what was submitted on it, the oldest first.
    outgoing: Vec<VecDeque<usize>>,
    runs: Vec<Option<Run>>,
    h2d: CopyEngine,
    d2h: CopyEngine,
    /// What happens at a known time.
    timed: BinaryHeap<Reverse<(Key, Event)>>,
    event_count: u64,
    /// Running phases by the amount of common work at which they end.
    working: BinaryHeap<Reverse<(Key, usize)>>,
    work_done_s: f64,
    /// Streams between the first and the last kernel of an execution.
    active_count: usize,
    /// What running phases hold together.
    load: Holding,
    /// Busy share of the SMs, averaged over the clock's memory.
    average_busy: f64,
    totals: Totals,
    /// When the driver's lock on the host is free again.
    pub driver_free_at_s: f64,
}

/// One executor's stream.
#[derive(Default)]
struct Lane {
    /// Executions that wait for the one before to leave, where copies are in stream order.
    in_order: VecDeque<usize>,
    is_occupied: bool,
    /// Executions whose inputs are on the device.
    ready: VecDeque<usize>,
    computing: Option<usize>,
    finished: VecDeque<Completion>,
    waker: Option<Waker>,
}

struct Run {
    submission: Submission,
    lane: usize,
    phase: usize,
    /// What its current phase holds.
    holding: Holding,
    /// Its own factor on all times: executions differ.
    slowness: f64,
    times: StageTimes,
    is_computed: bool,
}

#[derive(Default)]
struct CopyEngine {
    waiting: VecDeque<usize>,
    current: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The copy of the inputs was submitted.
    Submitted(usize),
    /// Inputs are on the device.
    CopiedIn,
    /// Outputs are on the host.
    CopiedOut,
    /// The stream has waited, the kernels of the phase start.
    Started(usize),
    /// The host sees that the execution has ended.
    Seen(usize),
}

/// Orders by a number, then by age, so that nothing depends on a heap's whims.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Key(f64, u64);

impl Eq for Key {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Device {
    /// For the executors of a pool of this shape.
    pub fn new(parameters: Parameters, spec: &ExecutorSpec, seed: u64) -> Self {
        let copy_lanes = spec.copy_lanes.unwrap_or(spec.streams).clamp(1, spec.streams.max(1));
        Self {
            parameters,
            cuda_graph: spec.cuda_graph,
            random: Random::new(seed),
            now_s: 0.0,
            lanes: (0..spec.streams).map(|_| Lane::default()).collect(),
            outgoing: vec![VecDeque::new(); copy_lanes],
            runs: Vec::new(),
            h2d: CopyEngine::default(),
            d2h: CopyEngine::default(),
            timed: BinaryHeap::new(),
            event_count: 0,
            working: BinaryHeap::new(),
            work_done_s: 0.0,
            active_count: 0,
            load: Holding::default(),
            average_busy: 0.0,
            totals: Totals::default(),
            driver_free_at_s: 0.0,
        }
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub fn totals(&self) -> Totals {
        Totals { now_s: self.now_s, ..self.totals }
    }

    pub fn wake_with(&mut self, lane: usize, waker: Waker) {
        self.lanes[lane].waker = Some(waker);
    }

    pub fn take_finished(&mut self, lane: usize) -> Option<Completion> {
        self.lanes[lane].finished.pop_front()
    }

    /// A factor around 1 that differs from call to call: the sum of two dice, so that no library function
    /// of the machine decides about its last digit.
    pub fn jitter(&mut self) -> f64 {
        self.around_one(self.parameters.jitter)
    }

    fn around_one(&mut self, share: f64) -> f64 {
        1.0 + share * (self.random.unit() + self.random.unit() - 1.0)
    }

    pub fn submit(&mut self, lane: usize, submission: Submission) {
        let times = StageTimes { enqueue: submission.enqueue, ..StageTimes::default() };
        let at_s = submission.copy_at_s;
        let holding = Holding::default();
        let slowness = self.jitter();
        let run = Run { lane, phase: 0, holding, slowness, times, submission, is_computed: false };
        let free = self.runs.iter().position(Option::is_none);
        let index = free.unwrap_or(self.runs.len());
        match free {
            Some(index) => self.runs[index] = Some(run),
            None => self.runs.push(Some(run)),
        }
        self.schedule(at_s, Event::Submitted(index));
    }

    /// Lets time pass until the host can see a completion, at most until `limit`; gives the time.
    pub fn run_until(&mut self, limit: Nanos) -> Nanos {
        let limit_s = limit.as_seconds();
        loop {
            let timed_s = self.timed.peek().map_or(f64::INFINITY, |Reverse((key, _))| key.0);
            let worked_s = self.next_phase_end();
            let next_s = timed_s.min(worked_s);
            if next_s > limit_s {
                if limit != Nanos(u64::MAX) {
                    self.pass(limit_s);
                }
                return limit;
            }
            self.pass(next_s);
            if worked_s < timed_s {
                self.end_phase();
                continue;
            }
            let Some(Reverse((_, event))) = self.timed.pop() else { continue };
            self.handle(event);
            if matches!(event, Event::Seen(_)) {
                return ceiling(self.now_s).min(limit);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Submitted(run) => self.enter(run),
            Event::CopiedIn => self.end_copy_in(),
            Event::CopiedOut => self.end_copy_out(),
            Event::Started(run) => {
                let (crowding, luck) = (self.crowding(), self.luck());
                let started = self.run(run);
                started.holding = started.current().holding(crowding);
                let work_s = started.holding.work_s * started.slowness * luck;
                self.event_count += 1;
                self.working.push(Reverse((Key(self.work_done_s + work_s, self.event_count), run)));
                self.weigh();
            }
            Event::Seen(run) => self.finish(run),
        }
    }

    /// The stream takes the execution in: at once, or after the one before where copies are in its order.
    fn enter(&mut self, run: usize) {
        let lane = self.run(run).lane;
        if self.cuda_graph == CudaGraph::Copies && self.lanes[lane].is_occupied {
            self.lanes[lane].in_order.push_back(run);
            return;
        }
        self.lanes[lane].is_occupied = true;
        let outgoing = lane % self.outgoing.len();
        self.outgoing[outgoing].push_back(run);
        self.h2d.waiting.push_back(run);
        self.start_copy_in();
    }

    fn start_copy_in(&mut self) {
        if self.h2d.current.is_some() {
            return;
        }
        let Some(run) = self.h2d.waiting.pop_front() else { return };
        self.h2d.current = Some(run);
        let start = self.now();
        let bytes = self.run(run).submission.h2d_bytes;
        self.run(run).times.h2d.start = start;
        self.totals.h2d_bytes += bytes;
        self.schedule(self.now_s + self.copy_time(bytes), Event::CopiedIn);
    }

    fn end_copy_in(&mut self) {
        let now = self.now();
        let run = self.h2d.current.take().expect("bug: no copy to the device runs");
        self.run(run).times.h2d.end = now;
        let lane = self.run(run).lane;
        self.lanes[lane].ready.push_back(run);
        self.start_computing(lane);
        self.start_copy_in();
    }

    fn start_computing(&mut self, lane: usize) {
        if self.lanes[lane].computing.is_some() {
            return;
        }
        let Some(run) = self.lanes[lane].ready.pop_front() else { return };
        self.lanes[lane].computing = Some(run);
        self.active_count += 1;
        self.run(run).times.compute.start = self.now();
        self.start_phase(run);
    }

    /// A phase starts once its kernels are launched, so that its last one is not over before its launch.
    fn start_phase(&mut self, run: usize) {
        let crowding = self.crowding();
        let run_ref = self.run(run);
        let phase = *run_ref.current();
        let submission = &run_ref.submission;
        let launched = |kernels: usize| submission.launch_at_s + kernels as f64 * submission.launch_each_s;
        let next = submission.program.phases.get(run_ref.phase + 1);
        let kernels_after = next.map_or(submission.program.kernel_count, |next| next.kernels_before);
        let earliest_s = launched(phase.kernels_before).max(launched(kernels_after) - phase.work_s);
        let gap_s = phase.gap_s * run_ref.slowness * crowding;
        self.schedule(self.now_s.max(earliest_s) + gap_s, Event::Started(run));
    }

    /// How much longer everything but DRAM takes for each of the streams that are active now.
    fn crowding(&self) -> f64 {
        1.0 + self.parameters.kernels.crowding * self.company()
    }

    /// Which of several streams gets SMs and DRAM first is chance. Without it streams would keep for thousands of
    /// executions whatever order they happened to start in, and equal configurations would differ by a tenth.
    fn luck(&mut self) -> f64 {
        let company = self.company();
        if company > 0.0 { self.around_one(self.parameters.kernels.unevenness * company) } else { 1.0 }
    }

    /// Nothing for one active stream, half for two, all for very many.
    fn company(&self) -> f64 {
        1.0 - 1.0 / self.active_count.max(1) as f64
    }

    fn next_phase_end(&self) -> f64 {
        let Some(Reverse((key, _))) = self.working.peek() else { return f64::INFINITY };
        self.now_s + (key.0 - self.work_done_s).max(0.0) / self.rate()
    }

    fn end_phase(&mut self) {
        let Some(Reverse((key, run))) = self.working.pop() else { return };
        self.work_done_s = key.0;
        self.weigh();
        self.run(run).phase += 1;
        let is_over = self.run(run).phase == self.run(run).submission.program.phases.len();
        if !is_over {
            self.start_phase(run);
            return;
        }
        let now = self.now();
        self.run(run).times.compute.end = now;
        let lane = self.run(run).lane;
        self.lanes[lane].computing = None;
        self.active_count -= 1;
        self.run(run).is_computed = true;
        self.start_computing(lane);
        self.release_copies_out(lane);
        self.start_copy_out();
    }

    /// A stream copies in the order of submission: what has computed waits for what was submitted before it, also where
    /// that is of another executor that shares the stream.
    fn release_copies_out(&mut self, lane: usize) {
        let outgoing = lane % self.outgoing.len();
        while let Some(&run) = self.outgoing[outgoing].front()
            && self.run(run).is_computed
        {
            self.outgoing[outgoing].pop_front();
            self.d2h.waiting.push_back(run);
        }
    }

    fn start_copy_out(&mut self) {
        if self.d2h.current.is_some() {
            return;
        }
        let Some(run) = self.d2h.waiting.pop_front() else { return };
        self.d2h.current = Some(run);
        let start = self.now();
        let bytes = self.run(run).submission.d2h_bytes;
        self.run(run).times.d2h.start = start;
        self.totals.d2h_bytes += bytes;
        self.schedule(self.now_s + self.copy_time(bytes), Event::CopiedOut);
    }

    fn end_copy_out(&mut self) {
        let now = self.now();
        let run = self.d2h.current.take().expect("bug: no copy to the host runs");
        self.run(run).times.d2h.end = now;
        let lane = self.run(run).lane;
        self.lanes[lane].is_occupied = false;
        if let Some(next) = self.lanes[lane].in_order.pop_front() {
            self.enter(next);
        }
        let wake_s = self.parameters.host.wake_s;
        self.schedule(self.now_s + wake_s, Event::Seen(run));
        self.start_copy_out();
    }

    fn finish(&mut self, index: usize) {
        let run = self.runs[index].take().expect("bug: an execution ended twice");
        let Submission { mut slot, compute, .. } = run.submission;
        compute(&mut slot);
        let lane = &mut self.lanes[run.lane];
        lane.finished.push_back(Completion { slot, outcome: Outcome::Done, times: run.times });
        if let Some(waker) = &lane.waker {
            waker.wake();
        }
    }

    /// Lets time pass in which nothing starts or ends.
    fn pass(&mut self, to_s: f64) {
        let seconds = to_s - self.now_s;
        if seconds <= 0.0 {
            return;
        }
        let (rate, clock, busy) = (self.rate(), self.clock(), self.load.sm_share.min(1.0));
        self.work_done_s += seconds * rate;
        self.now_s = to_s;
        self.totals.sm_share_s += seconds * busy;
        self.totals.sm_resident_s += seconds * self.load.resident_share.min(1.0);
        self.totals.dram_s += seconds * (self.load.dram_share * rate).min(1.0);
        self.totals.tensor_s += seconds * (self.load.tensor_share * rate).min(1.0);
        self.totals.clock_s += seconds * clock;
        self.totals.throttled_s += if clock < 1.0 { seconds } else { 0.0 };
        let memory_s = self.parameters.clock.memory_s;
        self.average_busy += (busy - self.average_busy) * (seconds / memory_s).min(1.0);
    }

    /// Share of the highest clock.
    fn clock(&self) -> f64 {
        (self.parameters.clock.sustained / self.average_busy.sqrt()).min(1.0)
    }

    /// How fast running phases advance: 1 is as fast as alone.
    fn rate(&self) -> f64 {
        let sms = self.clock() / self.load.sm_share.max(1.0);
        let dram = 1.0 / self.load.dram_share.max(1.0);
        sms.min(dram)
    }

    /// What the running phases hold together.
    fn weigh(&mut self) {
        let mut load = Holding::default();
        for Reverse((_, run)) in &self.working {
            let holding = &self.runs[*run].as_ref().expect("bug: a phase without its execution").holding;
            load.sm_share += holding.sm_share;
            load.resident_share += holding.resident_share;
            load.dram_share += holding.dram_share;
            load.tensor_share += holding.tensor_share;
        }
        self.load = load;
    }

    /// Nothing to copy is no copy.
    fn copy_time(&self, bytes: f64) -> f64 {
        if bytes == 0.0 {
            return 0.0;
        }
        self.parameters.copies.latency_s + bytes / self.parameters.copy_bytes_per_s()
    }

    fn schedule(&mut self, at_s: f64, event: Event) {
        self.event_count += 1;
        self.timed.push(Reverse((Key(at_s, self.event_count), event)));
    }

    fn run(&mut self, index: usize) -> &mut Run {
        self.runs[index].as_mut().expect("bug: an event of an execution that has ended")
    }

    fn now(&self) -> Nanos {
        Nanos::from_seconds(self.now_s)
    }
}

impl Run {
    fn current(&self) -> &Phase {
        &self.submission.program.phases[self.phase]
    }
}

/// The first whole nanosecond that is not before this time.
fn ceiling(seconds: f64) -> Nanos {
    Nanos::from_seconds(seconds) + Nanos(1)
}
