//! What the pool itself costs: executors that compute nothing, everything else as always.
//!
//! `cargo bench -p thalweg --bench pool` prints two tables, each for slots that are asked for (reserve, fill, commit,
//! schedule, enqueue, poll, respond, release; one producing and one consuming thread), for slots that whoever has read
//! them fills again, and for those of a pool that its reader drives. The first: inferences per second through executors that are done at once. The second: what the host
//! pays for an execution of 0.8 ms on eight streams, as ResNet-50's at batch 1 on an H200, CPU time and how often a thread
//! leaves its core, that of the threads included that stand for the device.

#[path = "../tests/idle/mod.rs"]
mod idle;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use idle::Nothing;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use thalweg::backend::Wait;
use thalweg::pool::{Configuration, ExecutionPool, LocalPool, Order, Producer, Response};
use thalweg::units::Clock;

/// Long enough that starting and stopping do not count.
const DURATION: Duration = Duration::from_millis(700);

/// Repetitions, whose median and range are printed.
const ROUNDS: usize = 5;

const ALL: [Slots; 3] = [Slots::Asked, Slots::Kept, Slots::Local];

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// An execution of the second table.
const EXECUTION: Duration = Duration::from_micros(800);

/// How slots come to their next request.
#[derive(Clone, Copy, Debug)]
enum Slots {
    Asked,
    Kept,
    /// Kept by a thread that drives the executors too.
    Local,
}

fn main() {
    println!(
        "executors  submitters  slots   inferences/s (median of {ROUNDS})   ns per inference (min to max)"
    );
    for (streams, submitters) in [(1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (4, 2), (8, 2)] {
        // With several submitters a slot may go home, and who reads all by itself would wait for room and for itself.
        let kinds = if submitters == 1 { &ALL[..] } else { &[Slots::Asked] };
        for &slots in kinds {
            let configuration = Configuration { streams, submitters, ..Configuration::default() };
            let run = |_| run(Nothing::new(), &configuration, slots).wall_ns;
            let [least, median, most] = spread((0..ROUNDS).map(run).collect());
            let per_s = 1e9 / median;
            println!(
                "{streams:9}  {submitters:10}  {slots:<5?}  {per_s:24.0}  {median:19.0} ({least:.0} to {most:.0})"
            );
        }
    }
    println!("\nwait   slots   executions/s   us of CPU each (min to max)   context switches each");
    for wait in [Wait::Block, Wait::Spin] {
        for slots in ALL {
            let configuration = Configuration { streams: 8, wait, ..Configuration::default() };
            let runs: Vec<Cost> =
                (0..ROUNDS).map(|_| run(Nothing::lasting(EXECUTION), &configuration, slots)).collect();
            let of = |part: fn(&Cost) -> f64| spread(runs.iter().map(part).collect());
            let [least, median, most] = of(|cost| cost.cpu_ns / 1e3);
            let (per_s, switches) = (1e9 / of(|cost| cost.wall_ns)[1], of(|cost| cost.switches)[1]);
            println!(
                "{wait:<5}  {slots:<5?}  {per_s:13.0}  {median:15.1} ({least:.1} to {most:.1})  {switches:20.1}"
            );
        }
    }
}

/// Least, median and most.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// For each inference.
struct Cost {
    wall_ns: f64,
    cpu_ns: f64,
    switches: f64,
}

fn run(device: Nothing, configuration: &Configuration, slots: Slots) -> Cost {
    let (device, outstanding) = (Arc::new(device), configuration.streams * configuration.depth);
    let start = || {
        ExecutionPool::start(device.clone(), configuration, Clock::start())
            .expect("executors that compute nothing always start")
    };
    let (started, before) = (Instant::now(), host_use());
    let sent = match slots {
        Slots::Asked => ask(start()),
        Slots::Kept => {
            let pool = start();
            let mut responses = pool.responses(Order::Completion);
            let sent = keep(&pool.producer(), outstanding, || responses.next().expect("the pool runs"));
            pool.stop().expect("the pool stops");
            assert_eq!(responses.count(), outstanding, "every request is answered");
            sent
        }
        Slots::Local => {
            let mut pool =
                LocalPool::start(device.clone(), configuration, Clock::start()).expect("it starts");
            let producer = pool.producer();
            keep(&producer, outstanding, || pool.next_within(PATIENCE).expect("the pool runs"))
        }
    };
    let each = |total: f64| total / sent as f64;
    let used = host_use();
    Cost {
        wall_ns: each(started.elapsed().as_secs_f64() * 1e9),
        cpu_ns: each(used.0 - before.0),
        switches: each(used.1 - before.1),
    }
}

/// One thread sends, another one reads.
fn ask(pool: ExecutionPool) -> u64 {
    let (producer, responses) = (pool.producer(), pool.responses(Order::Completion));
    let started = Instant::now();
    let sender = thread::spawn(move || {
        let mut count = 0_u64;
        while started.elapsed() < DURATION {
            for _ in 0..64 {
                producer.reserve(1).expect("the pool runs").commit(0);
                count += 1;
            }
        }
        count
    });
    let reader = thread::spawn(move || responses.count());
    let sent = sender.join().expect("the sender ends well");
    pool.stop().expect("the pool stops");
    assert_eq!(reader.join().expect("the reader ends well") as u64, sent, "every request is answered");
    sent
}

/// Who reads sends again.
fn keep(producer: &Producer, outstanding: usize, mut next: impl FnMut() -> Response) -> u64 {
    let (started, mut sent) = (Instant::now(), outstanding as u64);
    let first = producer.clone();
    let sender = thread::spawn(move || {
        for _ in 0..outstanding {
            first.reserve(1).expect("the pool runs").commit(0);
        }
    });
    while started.elapsed() < DURATION {
        for _ in 0..64 {
            producer.refill(next()).expect("nobody else wants the slot").commit(0);
            sent += 1;
        }
    }
    sender.join().expect("the sender ends well");
    sent
}

/// CPU time of the process in nanoseconds, and how often its threads left their cores.
fn host_use() -> (f64, f64) {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask about itself");
    let cpu = usage.user_time() + usage.system_time();
    let switches = usage.voluntary_context_switches() + usage.involuntary_context_switches();
    (cpu.num_microseconds() as f64 * 1e3, switches as f64)
}
