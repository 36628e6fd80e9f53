//! Which configurations a search considers, as data.
//!
//! A [`Space`] is one list of values per knob of a [`Configuration`]. [`Space::for_device`] fills the lists
//! that make sense on a device, the user may replace any of them, and [`Space::candidates`] combines them.
//! Which candidate is best is the business of [`search`](super::Search).

use serde::{Deserialize, Serialize};

use super::Limits;
use crate::backend::{CudaGraph, DeviceSpec, TimesTaken, Wait};
use crate::error::{Error, Result};
use crate::measure::{Arrival, Load};
use crate::model::Signature;
use crate::pool::Configuration;
use crate::units::Nanos;

/// What spaces of earlier versions had.
fn asleep() -> Vec<Wait> {
    vec![Wait::Block]
}

/// What spaces of earlier versions had.
fn own_lanes() -> Vec<Option<usize>> {
    vec![None]
}

/// A journal of an earlier version can be continued.
fn are_own(lanes: &[Option<usize>]) -> bool {
    lanes == [None]
}

/// Streams on a device other than the `cpu` backend's, where streams do not cost cores. Small batches gain up to 32 of them:
/// MobileNetV2 at batch 1 runs 17,000 inferences/s with eight on an H200, 25,000 with sixteen and 31,000 with thirty-two.
const DEVICE_STREAMS: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Up to this many cores, configurations that leave cores idle are few, and for small networks one of them
/// may be best. Above it they would only lengthen the search.
const CORES_WORTH_IDLING: usize = 4;

/// The values that each knob may take. Every combination that makes sense is a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// Executors, each with its own stream.
    pub streams: Vec<usize>,
    /// Largest number of samples per execution.
    pub batch_sizes: Vec<usize>,
    /// The smallest execution that all prepare for slots that are not full; `None`: as requests are small, see
    /// [`Configuration::for_requests_of`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest_batch: Option<usize>,
    /// Slots of each executor.
    pub depths: Vec<usize>,
    /// Host threads that drive the executors; more than there are streams is left out.
    pub submitters: Vec<usize>,
    /// Host threads that compute for each stream; more than the cores allow is left out.
    pub threads_per_stream: Vec<usize>,
    /// What is captured as a CUDA graph.
    pub cuda_graphs: Vec<CudaGraph>,
    /// Pairs of copy streams that the executors share; `None` for a pair of each one's own, which is also what as many
    /// lanes as streams are, and what a graph of copies has.
    #[serde(default = "own_lanes", skip_serializing_if = "are_own")]
    pub copy_lanes: Vec<Option<usize>>,
    /// How submitters wait. One is searched, on a GPU asking all the time where that is among them, else the first; the best one
    /// known is measured with the others too.
    #[serde(default = "asleep")]
    pub waits: Vec<Wait>,
    /// How long a slot that is not full waits for more samples.
    #[serde(rename = "batching_delays_ns")]
    pub batching_delays: Vec<Nanos>,
    /// Candidates whose streams together have fewer computing threads than this are left out.
    pub least_busy_cores: usize,
}

impl Space {
    /// What is worth trying on this device with an engine of this signature.
    ///
    /// Batch sizes are the powers of two that the engine can run. On the `cpu` backend, streams and threads
    /// per stream are powers of two and the number of cores; elsewhere streams are the powers of two up to 32.
    pub fn for_device(device: &DeviceSpec, signature: &Signature) -> Self {
        let cores = device.core_count.max(1);
        let uses_cores = device.is_host();
        let per_core = powers_of_two(1, cores);
        Self {
            streams: if uses_cores { per_core.clone() } else { DEVICE_STREAMS.to_vec() },
            batch_sizes: powers_of_two(*signature.batch_sizes.start(), *signature.batch_sizes.end()),
            smallest_batch: None,
            depths: vec![2],
            submitters: vec![1],
            threads_per_stream: if uses_cores { per_core } else { vec![1] },
            cuda_graphs: if uses_cores { vec![CudaGraph::Off] } else { CudaGraph::ALL.to_vec() },
            copy_lanes: own_lanes(),
            waits: if waits_matter(device) { vec![Wait::Block, Wait::Spin] } else { asleep() },
            batching_delays: vec![Nanos::ZERO],
            least_busy_cores: if uses_cores && cores > CORES_WORTH_IDLING { cores.div_ceil(2) } else { 1 },
        }
    }

    /// The same space for a search under limits. Where latency is limited, one slot per stream is tried too:
    /// with a second one a request waits while the one before it runs, which costs up to half of the limit.
    #[must_use]
    pub fn under(mut self, limits: &Limits) -> Self {
        if limits.p99.is_some() {
            self.depths.insert(0, 1);
            self.depths.dedup();
        }
        self
    }

    /// The same space with these numbers of threads per stream, of which those that leave cores idle are tried too.
    #[must_use]
    pub fn with_threads(self, threads_per_stream: Vec<usize>) -> Self {
        Self { threads_per_stream, least_busy_cores: 1, ..self }
    }

    /// Every combination that can run and makes sense: no more submitters than streams, and no more
    /// computing threads than cores. Where the asked-for number of streams is above the number of cores,
    /// the smallest number of threads per stream is kept. Each once, in a stable order: those that are
    /// likely to be good first, so that an interrupted search has seen them.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for an empty list, a count of zero, a batch that the engine cannot run, and
    /// where nothing is left.
    pub fn candidates(&self, signature: &Signature, device: &DeviceSpec) -> Result<Vec<Configuration>> {
        self.check_lists()?;
        let mut candidates = self.combinations(device);
        candidates.sort_unstable();
        candidates.dedup();
        for candidate in &candidates {
            candidate.check(signature)?;
        }
        if candidates.is_empty() {
            return Err(Error::InvalidSetting {
                name: "submitters",
                value: format!("{:?}", self.submitters),
                reason: "no combination with the other lists is possible: include 1".to_owned(),
            });
        }
        self.put_likely_first(&mut candidates, device);
        Ok(candidates)
    }

    fn check_lists(&self) -> Result<()> {
        let lengths = [
            ("streams", self.streams.len()),
            ("batch", self.batch_sizes.len()),
            ("depth", self.depths.len()),
            ("submitters", self.submitters.len()),
            ("threads-per-stream", self.threads_per_stream.len()),
            ("cuda-graph", self.cuda_graphs.len()),
            ("copy-lanes", self.copy_lanes.len()),
            ("wait", self.waits.len()),
            ("batching-delay", self.batching_delays.len()),
        ];
        match lengths.iter().find(|(_, length)| *length == 0) {
            Some((name, _)) => Err(Error::InvalidSetting {
                name,
                value: "(empty)".to_owned(),
                reason: "give at least one value".to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn combinations(&self, device: &DeviceSpec) -> Vec<Configuration> {
        let (cores, stage_times) = (device.core_count.max(1), times_taken(device));
        let mut combinations = Vec::new();
        for &streams in &self.streams {
            for threads_per_stream in self.threads_that_fit(streams, cores) {
                for &submitters in self.submitters.iter().filter(|submitters| **submitters <= streams) {
                    let default = Configuration::default();
                    let base =
                        Configuration { streams, threads_per_stream, submitters, stage_times, ..default };
                    combinations.extend(self.with_shapes(base));
                }
            }
        }
        combinations
    }

    /// Thread counts that keep enough cores busy without asking for more than there are.
    fn threads_that_fit(&self, streams: usize, cores: usize) -> Vec<usize> {
        let fits = |threads: &usize| {
            let busy = streams * threads;
            busy <= cores && busy >= self.least_busy_cores
        };
        let fitting: Vec<usize> = self.threads_per_stream.iter().copied().filter(fits).collect();
        let fewest = self.threads_per_stream.iter().copied().min();
        // The streams were asked for, so they are tried even where no number of threads fits.
        let is_crowded = fewest.is_some_and(|fewest| streams * fewest > cores);
        if is_crowded { fewest.into_iter().collect() } else { fitting }
    }

    fn with_shapes(&self, base: Configuration) -> impl Iterator<Item = Configuration> + '_ {
        self.batch_sizes.iter().flat_map(move |&batch_size| {
            self.depths.iter().flat_map(move |&depth| {
                self.cuda_graphs.iter().flat_map(move |&cuda_graph| {
                    self.with_waits(Configuration { batch_size, depth, cuda_graph, ..base })
                })
            })
        })
    }

    fn with_waits(&self, shaped: Configuration) -> impl Iterator<Item = Configuration> + '_ {
        self.copy_lanes.iter().flat_map(move |lanes| {
            let shares = |lanes: &usize| *lanes < shaped.streams && shaped.cuda_graph != CudaGraph::Copies;
            let copy_lanes = lanes.filter(shares);
            self.waits.iter().flat_map(move |&wait| {
                let delays = self.batching_delays.iter();
                delays.map(move |&batching_delay| Configuration {
                    copy_lanes,
                    wait,
                    batching_delay,
                    ..shaped
                })
            })
        })
    }

    /// Sorts by the distance from a guess that is seldom far off: every core busy, a medium batch.
    fn put_likely_first(&self, candidates: &mut [Configuration], device: &DeviceSpec) {
        let mut batches = self.batch_sizes.clone();
        batches.sort_unstable();
        let medium_batch = batches[batches.len() / 2] as f64;
        let full = if device.is_host() {
            device.core_count.max(1)
        } else {
            self.streams.iter().copied().max().unwrap_or(1)
        };
        let distance = |candidate: &Configuration| {
            let busy = (candidate.streams * candidate.threads_per_stream) as f64;
            let idle = (busy / full as f64).log2().abs();
            idle + (candidate.batch_size as f64 / medium_batch).log2().abs()
        };
        candidates.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    }
}

/// What one would run without tuning: one stream, the smallest batch, all cores for it.
pub fn baseline(signature: &Signature, device: &DeviceSpec) -> Configuration {
    let threads_per_stream = if device.is_host() { device.core_count.max(1) } else { 1 };
    Configuration {
        batch_size: *signature.batch_sizes.start(),
        threads_per_stream,
        stage_times: times_taken(device),
        ..Configuration::default()
    }
}

/// The closed loop that keeps every slot of a configuration supplied: enough requests outstanding to fill
/// them all, and at least one per stream. Requests have the size of a whole batch unless a size is given.
pub fn saturating_load(configuration: &Configuration, samples_per_request: Option<usize>) -> Load {
    let samples_per_request = samples_per_request.unwrap_or(configuration.batch_size).max(1);
    let slots = configuration.streams * configuration.depth;
    // Too many for any memory are refused where they are made.
    let requests = slots.saturating_mul(configuration.batch_size) / samples_per_request;
    Load { arrival: Arrival::Concurrency(requests.max(configuration.streams)), samples_per_request }
}

/// Where cores compute, one that asks again and again is missing; in virtual time waiting makes no difference.
fn waits_matter(device: &DeviceSpec) -> bool {
    !device.is_host() && !device.is_simulated()
}

/// A search wants to know what stages take, and what it finds is to run without the cost of telling it each time.
fn times_taken(device: &DeviceSpec) -> TimesTaken {
    if waits_matter(device) { TimesTaken::Some } else { TimesTaken::Each }
}

/// The powers of two in a range, and its ends.
fn powers_of_two(first: usize, last: usize) -> Vec<usize> {
    let powers =
        (0..usize::BITS).map(|exponent| 1 << exponent).filter(|power| (first..=last).contains(power));
    let mut values: Vec<usize> = powers.chain([first, last]).collect();
    values.sort_unstable();
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::synthetic::{cpu, signature};

    #[test]
    fn a_latency_limit_brings_one_slot_per_stream_into_the_race() {
        let space = Space::for_device(&cpu(2), &signature(1));
        assert_eq!(space.clone().under(&Limits::default()).depths, [2]);
        let limits = Limits { p99: Some(Nanos(5_000_000)), memory_bytes: None };
        assert_eq!(space.under(&limits).depths, [1, 2]);
    }

    #[test]
    fn on_a_gpu_a_search_does_not_pay_for_the_times_of_each_execution() {
        let gpu = DeviceSpec { backend: "tensorrt".to_owned(), ..cpu(2) };
        for (device, taken) in [(gpu, TimesTaken::Some), (cpu(2), TimesTaken::Each)] {
            let space = Space::for_device(&device, &signature(8));
            let candidates = space.candidates(&signature(8), &device).unwrap();
            assert!(candidates.iter().all(|it| it.stage_times == taken));
            assert_eq!(baseline(&signature(8), &device).stage_times, taken);
        }
    }

    #[test]
    fn two_cores_give_three_ways_to_share_them_per_batch() {
        let space = Space::for_device(&cpu(2), &signature(8));
        let candidates = space.candidates(&signature(8), &cpu(2)).unwrap();
        assert_eq!(candidates.len(), 3 * 4);
        let mut shares: Vec<_> = candidates.iter().map(|c| (c.streams, c.threads_per_stream)).collect();
        shares.sort_unstable();
        shares.dedup();
        assert_eq!(shares, [(1, 1), (1, 2), (2, 1)]);
    }

    #[test]
    fn the_first_candidates_use_all_cores_and_a_medium_batch() {
        let space = Space::for_device(&cpu(4), &signature(16));
        let first = space.candidates(&signature(16), &cpu(4)).unwrap()[0];
        assert_eq!((first.streams * first.threads_per_stream, first.batch_size), (4, 4));
    }

    #[test]
    fn many_cores_are_not_left_idle() {
        let space = Space::for_device(&cpu(64), &signature(32));
        let candidates = space.candidates(&signature(32), &cpu(64)).unwrap();
        let busy = |c: &Configuration| c.streams * c.threads_per_stream;
        assert!(candidates.iter().all(|c| (32..=64).contains(&busy(c))));
        assert_eq!(candidates.len(), 13 * 6);
    }

    #[test]
    fn streams_that_were_asked_for_are_tried_on_fewer_cores() {
        let space = Space { streams: vec![8], ..Space::for_device(&cpu(2), &signature(1)) };
        let candidates = space.candidates(&signature(1), &cpu(2)).unwrap();
        assert_eq!(candidates, [Configuration { streams: 8, ..Configuration::default() }]);
    }

    #[test]
    fn threads_that_were_asked_for_may_leave_cores_idle() {
        let space = Space {
            streams: vec![1, 2, 8],
            batch_sizes: vec![1],
            ..Space::for_device(&cpu(8), &signature(1))
        };
        let shares = |space: &Space| -> Vec<_> {
            let mut candidates = space.candidates(&signature(1), &cpu(8)).unwrap();
            candidates.sort_unstable();
            candidates.iter().map(|it| (it.streams, it.threads_per_stream)).collect()
        };
        assert_eq!(shares(&space), [(1, 4), (1, 8), (2, 2), (2, 4), (8, 1)]);
        assert_eq!(shares(&space.with_threads(vec![1])), [(1, 1), (2, 1), (8, 1)]);
    }

    #[test]
    fn repeated_values_count_once_and_submitters_need_streams() {
        let mut space = Space::for_device(&cpu(2), &signature(1));
        space.streams = vec![1, 2, 2];
        space.submitters = vec![1, 2];
        let candidates = space.candidates(&signature(1), &cpu(2)).unwrap();
        assert_eq!(candidates.len(), 4);
        assert!(candidates.iter().all(|c| c.submitters <= c.streams));
    }

    #[test]
    fn a_batch_that_the_engine_cannot_run_is_refused() {
        let space = Space { batch_sizes: vec![1, 64], ..Space::for_device(&cpu(2), &signature(8)) };
        let error = space.candidates(&signature(8), &cpu(2)).unwrap_err();
        assert_eq!(error.to_string(), "batch 64: the engine runs 1 to 8 samples");
        let space = Space { depths: Vec::new(), ..Space::for_device(&cpu(2), &signature(8)) };
        let error = space.candidates(&signature(8), &cpu(2)).unwrap_err();
        assert_eq!(error.to_string(), "depth (empty): give at least one value");
    }

    #[test]
    fn copy_lanes_are_shared_by_more_streams_than_there_are_of_them() {
        let space = Space {
            streams: vec![1, 2, 4],
            cuda_graphs: vec![CudaGraph::Compute, CudaGraph::Copies],
            copy_lanes: vec![None, Some(2)],
            ..Space::for_device(&cpu(8), &signature(1))
        };
        let candidates = space.candidates(&signature(1), &cpu(8)).unwrap();
        let shared = candidates.iter().filter(|it| it.copy_lanes.is_some());
        assert!(shared.clone().all(|it| it.streams == 4 && it.cuda_graph == CudaGraph::Compute));
        assert!(shared.count() > 0 && candidates.iter().any(|it| it.cuda_graph == CudaGraph::Copies));
    }

    #[test]
    fn a_space_with_lanes_of_each_streams_own_is_written_as_by_earlier_versions() {
        let json = serde_json::to_value(Space::for_device(&cpu(2), &signature(1))).unwrap();
        assert!(json.get("copy_lanes").is_none());
        assert_eq!(serde_json::from_value::<Space>(json).unwrap().copy_lanes, [None]);
    }

    #[test]
    fn waiting_is_searched_on_a_real_gpu_only() {
        let gpu = |backend: &str| DeviceSpec { backend: backend.to_owned(), ..cpu(16) };
        let waits = |device| Space::for_device(&device, &signature(1)).waits;
        assert_eq!(waits(gpu("tensorrt")), [Wait::Block, Wait::Spin]);
        assert_eq!(waits(gpu("simulated:h100")), [Wait::Block]);
        assert_eq!(waits(cpu(16)), [Wait::Block]);
    }

    #[test]
    fn the_load_fills_every_slot() {
        let configuration = Configuration { streams: 2, batch_size: 8, ..Configuration::default() };
        let concurrency = |samples| saturating_load(&configuration, samples).arrival;
        assert_eq!(concurrency(None), Arrival::Concurrency(4));
        assert_eq!(concurrency(Some(1)), Arrival::Concurrency(32));
        assert_eq!(concurrency(Some(64)), Arrival::Concurrency(2));
    }
}
