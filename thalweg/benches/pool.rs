//! What the pool itself costs: executors that do nothing, everything else as always.
//!
//! `cargo bench -p thalweg --bench pool` prints inferences per second through the whole pool (reserve, fill,
//! commit, schedule, enqueue, poll, respond, release) and nanoseconds per inference, for 1, 2, 4 and 8
//! executors, with one producing and one consuming thread.

#[path = "../tests/idle/mod.rs"]
mod idle;

use std::sync::Arc;
use std::time::{Duration, Instant};

use idle::Nothing;
use thalweg::pool::{Configuration, ExecutionPool, Order};
use thalweg::units::Clock;

/// Long enough that starting and stopping do not count.
const DURATION: Duration = Duration::from_millis(700);

/// Repetitions, whose median and range are printed.
const ROUNDS: usize = 5;

fn main() {
    println!("executors  submitters   inferences/s (median of {ROUNDS})   ns per inference (min to max)");
    for (streams, submitters) in [(1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (4, 2), (8, 2)] {
        let mut nanoseconds: Vec<f64> = (0..ROUNDS).map(|_| run(streams, submitters)).collect();
        nanoseconds.sort_by(f64::total_cmp);
        let median = nanoseconds[ROUNDS / 2];
        println!(
            "{streams:9}  {submitters:10}  {:24.0}  {median:19.0} ({:.0} to {:.0})",
            1e9 / median,
            nanoseconds[0],
            nanoseconds[ROUNDS - 1]
        );
    }
}

/// Nanoseconds per inference.
fn run(streams: usize, submitters: usize) -> f64 {
    let configuration = Configuration { streams, submitters, ..Configuration::default() };
    let pool = ExecutionPool::start(Arc::new(Nothing::new()), &configuration, Clock::start())
        .expect("executors that do nothing always start");
    let producer = pool.producer();
    let started = Instant::now();
    let sender = std::thread::spawn(move || {
        let mut count = 0_u64;
        while started.elapsed() < DURATION {
            for _ in 0..64 {
                producer.reserve(1).expect("the pool runs").commit(0);
                count += 1;
            }
        }
        count
    });
    let consumer = pool.responses(Order::Completion);
    let reader = std::thread::spawn(move || consumer.count());
    let sent = sender.join().expect("the sender ends well");
    pool.stop().expect("the pool stops");
    assert_eq!(reader.join().expect("the reader ends well") as u64, sent, "every request is answered");
    started.elapsed().as_secs_f64() * 1e9 / sent as f64
}
