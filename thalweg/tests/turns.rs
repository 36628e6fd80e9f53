//! What is measured in turns: two pools on one device, and a pool beside a bare loop.

mod support;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use support::{Doubler, workload};
use thalweg::Error;
use thalweg::backend::{Engine, Executor, ExecutorSpec, Replay, Timing};
use thalweg::measure::{Neighbour, StopSignal, Workload, neighbours, overhead};
use thalweg::model::Signature;
use thalweg::pool::Configuration;
use thalweg::tune::saturating_load;

const EXECUTION: Duration = Duration::from_millis(2);
const TIME: Duration = Duration::from_millis(200);

fn neighbour(workload: &Workload, streams: usize) -> Neighbour<'_> {
    let configuration = Configuration { streams, ..Configuration::default() };
    Neighbour { workload, configuration, load: saturating_load(&configuration, None) }
}

#[test]
fn two_pools_run_at_the_same_time_and_each_is_compared_with_itself() {
    let first = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION])));
    let second = workload(Arc::new(Doubler::of_size(1, 5).with_delays(&[2 * EXECUTION])));
    let pools = [neighbour(&first, 2), neighbour(&second, 1)];
    let both = neighbours(pools, TIME, 3, &StopSignal::default()).unwrap();
    for (pool, most) in both.pools.iter().zip([1_000.0, 250.0]) {
        assert_eq!(pool.turns.len(), 3);
        // They sleep, so neither takes anything from the other; but the machine may have a lot of other work.
        let ratio = pool.ratio.unwrap().value;
        assert!((0.1..10.0).contains(&ratio), "{pool:?}");
        let beside = pool.turns.iter().map(|turn| turn.beside_inferences_per_s);
        assert!(beside.clone().all(|rate| rate > 0.0 && rate < 1.1 * most), "{pool:?}");
    }
}

#[test]
fn a_fast_pool_stays_beside_a_slow_one_until_that_is_measured() {
    let last = Arc::default();
    let fast = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION]).noting(&last)));
    // A window holds eight requests, which take it 1.6 s.
    let slow = workload(Arc::new(Doubler::of_size(1, 5).with_delays(&[Duration::from_millis(200)])));
    neighbours([neighbour(&fast, 1), neighbour(&slow, 1)], TIME, 1, &StopSignal::default()).unwrap();
    let alone = last.lock().unwrap().unwrap().elapsed();
    // By itself it would have ended 1.3 s before. What the slow one has in its slots is waited for.
    assert!(alone < Duration::from_millis(900), "the slow one ran alone for {alone:?}");
}

#[test]
fn a_wrong_output_of_one_pool_ends_both() {
    let right = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION])));
    let wrong = workload(Arc::new(Doubler::new(1).wrong_on_stream(1)));
    let pools = [neighbour(&right, 1), neighbour(&wrong, 2)];
    let error = neighbours(pools, TIME, 1, &StopSignal::default()).unwrap_err();
    assert!(matches!(error, Error::WrongResult { stream: 1, .. }), "{error}");
}

/// A doubler that also runs in a loop, at twice the speed of one of its streams.
struct Looping(Arc<Doubler>);

impl Engine for Looping {
    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn executors(self: Arc<Self>, spec: &ExecutorSpec) -> thalweg::Result<Vec<Box<dyn Executor>>> {
        Arc::clone(&self.0).executors(spec)
    }

    fn replay(self: Arc<Self>, _: &ExecutorSpec) -> thalweg::Result<Option<Replay>> {
        Ok(Some(Box::new(|time, times| {
            thread::sleep(time);
            let executions = 2 * time.as_micros() / EXECUTION.as_micros();
            // Taking times costs a tenth.
            let executions = if times == Timing::Taken { executions * 9 / 10 } else { executions };
            Ok(u64::try_from(executions).expect("a short time"))
        })))
    }
}

#[test]
fn a_pool_is_held_against_the_loop_of_its_backend() {
    let looping = Looping(Arc::new(Doubler::new(1).with_delays(&[EXECUTION])));
    let workload = workload(Arc::new(looping));
    let Neighbour { configuration, load, .. } = neighbour(&workload, 1);
    let stop = StopSignal::default();
    let measured = overhead(&workload, (configuration, load), TIME, 3, &stop).unwrap();
    let ratio = measured.throughput.unwrap().value;
    assert!((0.01..0.6).contains(&ratio), "{measured:?}");
    let stage_times = measured.stage_times.unwrap().value;
    assert!((0.7..1.1).contains(&stage_times), "{measured:?}");
    // The loop sleeps, the pool passes messages.
    assert!(measured.host_cpu.unwrap().value > 1.0, "{measured:?}");
    assert!(measured.turns.iter().all(|turn| turn.pool.context_switches > Some(0.5)), "{measured:?}");
}

#[test]
fn a_backend_without_a_loop_says_so() {
    let workload = workload(Arc::new(Doubler::new(1)));
    let Neighbour { configuration, load, .. } = neighbour(&workload, 1);
    let error = overhead(&workload, (configuration, load), TIME, 1, &StopSignal::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "overhead test: only tensorrt can launch executions with nothing around them"
    );
}
