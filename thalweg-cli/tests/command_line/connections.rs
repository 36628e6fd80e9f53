//! How many queues CUDA gets: the program starts itself again with the variable set.

use std::fs;
use std::process::Child;

use serde_json::Value;

use crate::models::launch;
use crate::program::{Scratch, command, finish, interrupt, start, wait_until};

const VARIABLE: &str = "CUDA_DEVICE_MAX_CONNECTIONS";

/// What a run of `bench` has in its environment once it measures.
fn connections_of(options: &str, set: Option<&str>) -> Option<String> {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let line = format!("bench {{}} --warm-up 0 --duration 60 --threads-per-stream 1 {options}");
    let mut command = command(&line, &[&model]);
    command.env_remove(VARIABLE);
    command.envs(set.map(|value| (VARIABLE, value)));
    let mut bench = start(command);
    let process = format!("/proc/{}", bench.id());
    wait_until(&mut bench, "threads that run streams", || thread_count(&process) > 2);
    let environment = environment(&bench);
    interrupt(&bench);
    finish(bench);
    environment
        .into_iter()
        .find_map(|entry| Some(entry.strip_prefix(VARIABLE)?.strip_prefix('=')?.to_owned()))
}

fn thread_count(process: &str) -> usize {
    fs::read_dir(format!("{process}/task")).map_or(0, Iterator::count)
}

/// What the process was started with, last by itself.
fn environment(process: &Child) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{}/environ", process.id())).unwrap();
    bytes.split(|byte| *byte == 0).map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()
}

#[test]
fn more_streams_than_queues_get_more_queues() {
    assert_eq!(connections_of("--streams 9", None).as_deref(), Some("32"));
    assert_eq!(connections_of("--streams 2", None), None, "six CUDA streams have a queue each");
    assert_eq!(connections_of("--streams 9 --backend cpu", None), None);
}

#[test]
fn what_the_user_has_set_stays() {
    assert_eq!(connections_of("--streams 9", Some("4")).as_deref(), Some("4"));
}

#[test]
fn doctor_tells_what_is_set() {
    let told = |set: Option<&str>| -> Value {
        let mut command = command("doctor --json", &[]);
        command.env_remove(VARIABLE);
        command.envs(set.map(|value| (VARIABLE, value)));
        finish(start(command)).succeeded().json()["max_connections"].clone()
    };
    assert_eq!(told(Some("16")), "16");
    assert_eq!(told(None), Value::Null);
}
