//! PM sampling over a stand-in; see `stand_in/libcupti_pm.rs`.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::*;
use crate::activity::Writer;
use crate::cupti::tests::alone;
use crate::cupti::{GraphDetail, Recording};
use crate::stand_in::Folder;

/// The number that the stand-in's device has.
const DEVICE: u32 = 3;

struct StandIn(Folder, Cupti);

impl StandIn {
    fn new(name: &str, trouble: usize) -> Self {
        static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
        let folder = Folder::new(name);
        folder.build_once("libcupti.so.13", include_str!("../../stand_in/libcupti_pm.rs"), &BUILT);
        let cupti = Cupti::open(&folder.places()).unwrap();
        // SAFETY: the type is that of `libcupti_pm.rs`.
        let set: unsafe extern "C" fn(usize) =
            unsafe { cupti.api.library().function("stand_in_trouble") }.unwrap();
        // SAFETY: any number may be given.
        unsafe { set(trouble) };
        Self(folder, cupti)
    }

    fn start(&self) -> Result<PmSampler> {
        PmSampler::start(Cupti::open(&self.0.places()).unwrap(), DEVICE)
    }

    /// What is taken and not given back.
    fn live(&self) -> usize {
        // SAFETY: as above.
        let live: unsafe extern "C" fn() -> usize =
            unsafe { self.1.api.library().function("stand_in_live") }.unwrap();
        // SAFETY: it may be called at any time.
        unsafe { live() }
    }
}

#[test]
fn means_are_over_all_samples_and_what_the_chip_does_not_count_is_named() {
    let _alone = alone();
    let stand_in = StandIn::new("pm-means", 0);
    for _ in 0..2 {
        let metrics = stand_in.start().unwrap().finish().unwrap();
        let expected = PmMetrics {
            chip: "SI100".to_owned(),
            sample_count: 4,
            dram_utilisation: Some(0.83),
            sm_utilisation: Some(0.5),
            tensor_utilisation: Some(0.25),
            sm_occupancy: Some(0.125),
            pcie_rx_bytes_per_s: Some(1e9),
            pcie_tx_bytes_per_s: None,
            missing: vec!["PCIe transmit rate"],
            refusal: None,
        };
        let rounded = metrics.dram_utilisation.map(|value| (value * 1e9).round() / 1e9);
        assert_eq!(PmMetrics { dram_utilisation: rounded, ..metrics }, expected);
        assert_eq!(stand_in.live(), 0);
    }
}

#[test]
fn one_runs_at_a_time_without_a_recording_beside_and_none_stays_behind() {
    let _alone = alone();
    let stand_in = StandIn::new("pm-one", 0);
    let sampler = stand_in.start().unwrap();
    assert_eq!(stand_in.start().err(), Some(Error::SamplesAlready));
    let writer = Writer::begin(Box::new(Vec::new()) as Box<dyn std::io::Write + Send>, 1, "test").unwrap();
    let cupti = Cupti::open(&stand_in.0.places()).unwrap();
    let recorded = Recording::start(cupti, writer, GraphDetail::Runs);
    assert_eq!(recorded.err(), Some(Error::SamplesAlready));
    let start = Instant::now();
    drop(sampler);
    assert!(start.elapsed() < Duration::from_secs(60) && stand_in.live() == 0 && !runs());
    stand_in.start().unwrap().finish().unwrap();
}

#[test]
fn without_the_right_to_counters_it_is_told_who_gives_it() {
    let _alone = alone();
    let stand_in = StandIn::new("pm-rights", 1);
    let error = stand_in.start().and_then(PmSampler::finish).unwrap_err();
    let expected = Error::NoRightToCounters { function: "cuptiPmSamplingGetCounterAvailability" };
    assert_eq!(error, expected);
    let text = error.to_string();
    assert!(text.contains("run as root") && text.contains("NVreg_RestrictProfilingToAdminUsers=0"), "{text}");
    assert_eq!(stand_in.live(), 0);
}

#[test]
fn lost_samples_and_unknown_metrics_are_errors_that_leave_nothing_behind() {
    let _alone = alone();
    for (trouble, expected) in [(2, Error::SamplesLost), (3, Error::NoMetrics { chip: "SI100".to_owned() })] {
        let stand_in = StandIn::new(&format!("pm-trouble-{trouble}"), trouble);
        assert_eq!(stand_in.start().and_then(PmSampler::finish), Err(expected));
        assert_eq!(stand_in.live(), 0);
    }
}

#[test]
fn what_else_cupti_says_of_metrics_is_told_in_its_own_words() {
    let _alone = alone();
    let unknown = Error::Status {
        function: "cuptiProfilerHostConfigAddMetrics",
        code: 999,
        name: Some("CUPTI_ERROR_OF_THE_STAND_IN".to_owned()),
    };
    let of_all = StandIn::new("pm-refused", 4);
    assert_eq!(of_all.start().and_then(PmSampler::finish), Err(unknown.clone()));
    assert_eq!(of_all.live(), 0);
    // What it has under another name is not missed.
    let of_some = StandIn::new("pm-refused-some", 5);
    let metrics = of_some.start().and_then(PmSampler::finish).unwrap();
    assert_eq!((metrics.sm_utilisation, metrics.missing), (Some(0.5), vec!["PCIe transmit rate"]));
    assert_eq!(metrics.refusal, Some(unknown));
}

#[test]
fn another_user_of_cupti_is_left_alone() {
    let _alone = alone();
    let stand_in = StandIn::new("pm-taken", 0);
    let mut other = ptr::null_mut();
    // SAFETY: the handle is writable, and the function of the right type.
    unsafe { stand_in.1.api.subscribe(&raw mut other, recording::called, ptr::null_mut()) }.unwrap();
    assert_eq!(stand_in.start().err(), Some(Error::CuptiIsTaken));
    assert_eq!(stand_in.live(), 1);
    // SAFETY: it is the handle from above.
    unsafe { stand_in.1.api.unsubscribe(other) }.unwrap();
}

#[test]
fn an_older_cupti_says_which_one_samples() {
    let _alone = alone();
    let sampler = |number: u32| {
        let folder = Folder::new(&format!("pm-interface-{number}"));
        let source = format!(
            "#[no_mangle] pub unsafe extern \"C\" fn cuptiGetVersion(v: *mut u32) -> i32 {{ *v = {number}; 0 }}"
        );
        folder.build("libcupti.so.12", &source);
        PmSampler::start(Cupti::open(&folder.places()).unwrap(), DEVICE)
    };
    let error = sampler(23).unwrap_err().to_string();
    assert!(error.contains("the interface 23") && error.contains("CUDA 12.6"), "{error}");
    // One that says it is new enough but lacks the functions.
    let error = sampler(24).unwrap_err();
    assert!(matches!(error, Error::MissingSymbol { symbol: "cuptiSubscribe", .. }), "{error}");
}
