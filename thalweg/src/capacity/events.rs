//! A small model of executions that share a host thread, two copy engines and the device.
//!
//! In: a configuration, how long each stage of an execution takes alone, and how executions slow each other down.
//! Out: the rhythm they settle into. It goes from event to event: an execution is submitted, its inputs are
//! copied, its kernels run in the order of their executor's stream, its outputs are copied, and its slot is
//! submitted again. Copy engines and host threads serve one execution after the other, the device serves all
//! streams at once. Nothing is random, so the same question has the same answer.

use std::collections::VecDeque;

use crate::backend::CudaGraph;
use crate::pool::Configuration;

/// Times that every slot goes round before the rhythm counts: the start, when all wait for the host at once, is
/// over then.
const SETTLING_ROUNDS: usize = 3;

/// Times that every slot goes round while the rhythm is measured.
const MEASURED_ROUNDS: usize = 5;

/// Executions that are measured at least.
const LEAST_MEASURED: usize = 16;

/// Seconds that each stage of one execution takes with nothing else around.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ExecutionTimes {
    /// The submitting thread.
    pub enqueue: f64,
    /// Inputs from host to device.
    pub h2d: f64,
    /// The kernels.
    pub compute: f64,
    /// Outputs from device to host.
    pub d2h: f64,
}

/// Runs the model; gives the executions per second that it settles into. `slow_downs` says how many times longer
/// kernels take, by the number of streams that compute at once.
pub(super) fn settle(configuration: &Configuration, times: &ExecutionTimes, slow_downs: &[f64]) -> f64 {
    let slots = configuration.streams * configuration.depth;
    let mut model = Model::new(configuration, times, slow_downs);
    let start = model.run_until_completed(SETTLING_ROUNDS * slots);
    let measured = (MEASURED_ROUNDS * slots).max(LEAST_MEASURED);
    let end = model.run_until_completed(SETTLING_ROUNDS * slots + measured);
    measured as f64 / (end - start)
}

/// An execution in a stage, and the seconds of work it has left there.
#[derive(Clone, Copy)]
struct Work {
    slot: usize,
    left: f64,
}

/// One that serves whoever came first.
#[derive(Default)]
struct Server {
    current: Option<Work>,
    waiting: VecDeque<usize>,
}

impl Server {
    fn start_next(&mut self, time: f64) -> Option<usize> {
        if self.current.is_some() {
            return None;
        }
        let slot = self.waiting.pop_front()?;
        self.current = Some(Work { slot, left: time });
        Some(slot)
    }

    /// Lets time pass at this speed; gives the execution that it finished.
    fn pass(&mut self, time: f64) -> Option<usize> {
        let work = self.current.as_mut()?;
        work.left -= time;
        // What is left of a billionth of a second is rounding.
        if work.left > 1e-12 {
            return None;
        }
        self.current.take().map(|work| work.slot)
    }

    fn left(&self) -> Option<f64> {
        self.current.map(|work| work.left)
    }
}

/// An executor's stream.
#[derive(Default)]
struct Stream {
    kernels: Server,
    /// An execution whose kernels are done as far as they were launched.
    waits_for_launch: Option<usize>,
    /// In stream order: executions submitted, the first of them somewhere between its copies.
    in_order: VecDeque<usize>,
}

struct Model<'a> {
    configuration: &'a Configuration,
    times: &'a ExecutionTimes,
    slow_downs: &'a [f64],
    now: f64,
    completed: usize,
    hosts: Vec<Server>,
    h2d: Server,
    d2h: Server,
    streams: Vec<Stream>,
    /// Of each slot: whether all of its current execution was submitted.
    is_submitted: Vec<bool>,
}

impl<'a> Model<'a> {
    fn new(configuration: &'a Configuration, times: &'a ExecutionTimes, slow_downs: &'a [f64]) -> Self {
        let Configuration { streams, depth, submitters, .. } = *configuration;
        let slots = streams * depth;
        let mut model = Self {
            configuration,
            times,
            slow_downs,
            now: 0.0,
            completed: 0,
            hosts: (0..submitters).map(|_| Server::default()).collect(),
            h2d: Server::default(),
            d2h: Server::default(),
            streams: (0..streams).map(|_| Stream::default()).collect(),
            is_submitted: vec![false; slots],
        };
        // Slot s belongs to executor s modulo streams, so that every stream gets its first work early.
        (0..slots).for_each(|slot| model.submit(slot));
        model
    }

    fn run_until_completed(&mut self, count: usize) -> f64 {
        while self.completed < count {
            self.start_what_can();
            let (time, slow_down) = self.next_event();
            self.pass(time, slow_down);
        }
        self.now
    }

    fn stream_of(&self, slot: usize) -> usize {
        slot % self.configuration.streams
    }

    fn submit(&mut self, slot: usize) {
        self.is_submitted[slot] = false;
        let host = self.stream_of(slot) % self.configuration.submitters;
        self.hosts[host].waiting.push_back(slot);
    }

    fn start_what_can(&mut self) {
        for host in 0..self.hosts.len() {
            let started = self.hosts[host].start_next(self.times.enqueue);
            // Without a graph the copy and the first kernels run while the others are being launched.
            if let (Some(slot), CudaGraph::Off) = (started, self.configuration.cuda_graph) {
                self.h2d.waiting.push_back(slot);
            }
        }
        self.h2d.start_next(self.times.h2d);
        self.d2h.start_next(self.times.d2h);
        for stream in &mut self.streams {
            if stream.waits_for_launch.is_none() {
                stream.kernels.start_next(self.times.compute);
            }
        }
    }

    /// Time to the next event, and how much slower kernels run until then.
    fn next_event(&self) -> (f64, f64) {
        let computing = self.streams.iter().filter(|stream| stream.kernels.current.is_some()).count();
        let slow_down = self.slow_downs[computing];
        let kernels = self.streams.iter().filter_map(|stream| stream.kernels.left());
        let others = self.hosts.iter().chain([&self.h2d, &self.d2h]).filter_map(Server::left);
        let next = kernels.map(|left| left * slow_down).chain(others).fold(f64::INFINITY, f64::min);
        (next.max(0.0), slow_down)
    }

    fn pass(&mut self, time: f64, slow_down: f64) {
        self.now += time;
        for host in 0..self.hosts.len() {
            if let Some(slot) = self.hosts[host].pass(time) {
                self.submitted(slot);
            }
        }
        if let Some(slot) = self.h2d.pass(time) {
            let stream = self.stream_of(slot);
            self.streams[stream].kernels.waiting.push_back(slot);
        }
        for stream in 0..self.streams.len() {
            if let Some(slot) = self.streams[stream].kernels.pass(time / slow_down) {
                self.computed(slot);
            }
        }
        if let Some(slot) = self.d2h.pass(time) {
            self.complete(slot);
        }
    }

    fn submitted(&mut self, slot: usize) {
        self.is_submitted[slot] = true;
        let stream = self.stream_of(slot);
        match self.configuration.cuda_graph {
            CudaGraph::Off => {
                if self.streams[stream].waits_for_launch == Some(slot) {
                    self.streams[stream].waits_for_launch = None;
                    self.d2h.waiting.push_back(slot);
                }
            }
            CudaGraph::Compute => self.h2d.waiting.push_back(slot),
            CudaGraph::Copies => {
                self.streams[stream].in_order.push_back(slot);
                if self.streams[stream].in_order.len() == 1 {
                    self.h2d.waiting.push_back(slot);
                }
            }
        }
    }

    fn computed(&mut self, slot: usize) {
        if self.is_submitted[slot] {
            self.d2h.waiting.push_back(slot);
        } else {
            let stream = self.stream_of(slot);
            self.streams[stream].waits_for_launch = Some(slot);
        }
    }

    fn complete(&mut self, slot: usize) {
        self.completed += 1;
        let stream = self.stream_of(slot);
        if self.configuration.cuda_graph == CudaGraph::Copies {
            let in_order = &mut self.streams[stream].in_order;
            in_order.pop_front();
            self.h2d.waiting.extend(in_order.front());
        }
        self.submit(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Executions that do not slow each other down.
    const APART: [f64; 9] = [1.0; 9];
    /// Executions that each fill the device.
    const FULL: [f64; 9] = [1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];

    fn configuration(streams: usize, depth: usize, cuda_graph: CudaGraph) -> Configuration {
        Configuration { streams, depth, cuda_graph, ..Configuration::default() }
    }

    fn times(enqueue: f64, h2d: f64, compute: f64, d2h: f64) -> ExecutionTimes {
        ExecutionTimes { enqueue, h2d, compute, d2h }
    }

    /// Executions per second are this.
    fn expect(configuration: &Configuration, times: &ExecutionTimes, slow_downs: &[f64], expected: f64) {
        let got = settle(configuration, times, slow_downs);
        // The measured rounds may begin and end in different places of the rhythm.
        assert!((got / expected - 1.0).abs() < 0.01, "{configuration}: {got} is not {expected}");
    }

    #[test]
    fn one_slot_takes_the_sum_of_all_stages() {
        let one = configuration(1, 1, CudaGraph::Copies);
        expect(&one, &times(0.1, 0.2, 0.5, 0.2), &FULL, 1.0);
        expect(&configuration(1, 1, CudaGraph::Compute), &times(0.1, 0.2, 0.5, 0.2), &FULL, 1.0);
    }

    #[test]
    fn without_a_graph_launching_and_computing_overlap() {
        let one = configuration(1, 1, CudaGraph::Off);
        // 0.2 of copying and 0.5 of computing within 0.9 of launching, then 0.1 of copying.
        expect(&one, &times(0.9, 0.2, 0.5, 0.1), &FULL, 1.0);
        // Here the kernels take longer.
        expect(&one, &times(0.3, 0.2, 0.5, 0.3), &FULL, 1.0);
    }

    #[test]
    fn two_slots_overlap_copies_with_kernels_unless_they_are_in_the_graph() {
        let stages = times(0.0, 0.4, 0.5, 0.1);
        expect(&configuration(1, 2, CudaGraph::Compute), &stages, &FULL, 2.0);
        expect(&configuration(1, 2, CudaGraph::Copies), &stages, &FULL, 1.0);
        // Across executors they overlap all the same.
        expect(&configuration(4, 2, CudaGraph::Copies), &stages, &FULL, 2.0);
    }

    #[test]
    fn a_slow_copy_engine_is_the_limit_however_many_streams() {
        for streams in [2, 4, 8] {
            let shape = configuration(streams, 2, CudaGraph::Compute);
            expect(&shape, &times(0.01, 1.0, 0.5, 0.1), &APART, 1.0);
            expect(&shape, &times(0.01, 0.2, 0.5, 1.0), &APART, 1.0);
        }
    }

    #[test]
    fn one_thread_that_launches_is_the_limit_and_a_second_one_helps() {
        let shape = configuration(4, 2, CudaGraph::Off);
        expect(&shape, &times(1.0, 0.1, 0.3, 0.1), &APART, 1.0);
        expect(&Configuration { submitters: 2, ..shape }, &times(1.0, 0.1, 0.3, 0.1), &APART, 2.0);
    }

    #[test]
    fn streams_that_fit_side_by_side_add_up_and_those_that_do_not_share() {
        let stages = times(0.0, 0.0, 1.0, 0.0);
        for streams in [1, 2, 4] {
            expect(&configuration(streams, 2, CudaGraph::Compute), &stages, &APART, streams as f64);
            expect(&configuration(streams, 2, CudaGraph::Compute), &stages, &FULL, 1.0);
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer() {
        let shape = configuration(8, 3, CudaGraph::Compute);
        let stages = times(0.011, 0.07, 0.31, 0.013);
        let slow_downs = [1.0, 1.0, 1.1, 1.3, 1.5, 1.8, 2.1, 2.4, 2.7];
        assert_eq!(settle(&shape, &stages, &slow_downs), settle(&shape, &stages, &slow_downs));
    }
}
