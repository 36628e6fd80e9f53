//! What the pool asks of the heap: nothing for an execution, once it runs.

mod idle;

use std::alloc::System;
use std::sync::Arc;

use idle::Nothing;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use thalweg::backend::Wait;
use thalweg::pool::{Configuration, ExecutionPool, Order, Producer, Responses};
use thalweg::units::Clock;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Executions until everything has been used once.
const WARM_UP: u64 = 500;

const EXECUTIONS: u64 = 4_000;

/// Threads that wait on a channel for the first time, and whatever the test's own harness does meanwhile.
const ALLOWED: usize = 20;

/// Sends requests one by one and reads their responses, with all slots in use.
fn run(producer: &Producer, responses: &mut Responses, outstanding: u64, count: u64) {
    for sent in 0..count {
        producer.reserve(1).expect("the pool runs").commit(sent);
        if sent >= outstanding {
            responses.next().expect("a response");
        }
    }
    (0..outstanding.min(count)).for_each(|_| drop(responses.next().expect("a response")));
}

/// The same in the slots that the responses were in.
fn run_again(producer: &Producer, responses: &mut Responses, outstanding: u64, count: u64) {
    (0..outstanding).for_each(|sent| {
        producer.reserve(1).expect("the pool runs").commit(sent);
    });
    for sent in 0..count {
        let response = responses.next().expect("a response");
        producer.refill(response).expect("nobody else wants it").commit(sent);
    }
    (0..outstanding).for_each(|_| drop(responses.next().expect("a response")));
}

/// One test, since others beside it would allocate too.
#[test]
fn an_execution_allocates_nothing_however_submitters_wait() {
    for wait in [Wait::Block, Wait::Spin] {
        let configuration = Configuration { streams: 2, wait, ..Configuration::default() };
        let pool = ExecutionPool::start(Arc::new(Nothing::new()), &configuration, Clock::start())
            .expect("executors that do nothing always start");
        let (producer, mut responses) = (pool.producer(), pool.responses(Order::Completion));
        run(&producer, &mut responses, 3, WARM_UP);
        run_again(&producer, &mut responses, 3, WARM_UP);
        let region = Region::new(ALLOCATOR);
        run(&producer, &mut responses, 3, EXECUTIONS / 2);
        run_again(&producer, &mut responses, 3, EXECUTIONS / 2);
        let change = region.change();
        let count = change.allocations + change.reallocations;
        assert!(count <= ALLOWED, "{wait}: {count} allocations in {EXECUTIONS} executions: {change:?}");
        pool.stop().expect("the pool stops");
    }
}
