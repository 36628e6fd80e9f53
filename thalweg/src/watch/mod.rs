//! What somebody else's program does with its GPU, and what that costs it.
//!
//! In: the files of activities that were recorded inside the program's processes
//! ([`thalweg_nvidia::activity`]), and what NVML says of a GPU meanwhile ([`Gauges`]). Out: an [`Observation`]: findings
//! with the thread, the call, the count and the time lost, the largest loss first. Starting the program is left to the
//! caller, and how it looks to `report`.

mod calls;
mod gauges;
mod losses;
mod observation;
mod overlap;
mod program;
mod threads;

#[cfg(test)]
pub(crate) mod samples;

pub use calls::CallKind;
pub use gauges::{Gauge, Gauges, GpuReadings, ProcessReading, Reading, Watcher};
pub use losses::Cause;
pub use observation::{Finding, Observation, Settings, StreamReading, ThreadReading, Watched, observe};
pub use overlap::{Gap, GapCause, Sharing};
pub use program::{DeviceWork, Direction, HostCall, HostMemory, Program, StreamOfProgram, What, read_folder};
