//! The engine cache, with a backend that counts its builds.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use thalweg::Error;
use thalweg::backend::cpu::CpuBackend;
use thalweg::backend::{
    Backend, BuildEvent, BuildOptions, BuildOrder, BuildWatch, Calibration, DeviceSpec, Engine, Precision,
    SerializedEngine, TacticSource,
};
use thalweg::engine::{self, Built, Cache, EngineRequest, MaxBatch, Remark, Source, StoredEngine};
use thalweg::model::Model;
use thalweg::model::zoo::Network;
use thalweg::precision::{InputType, with_inputs};
use thalweg::units;

use support::Doubler;

/// Longer than the steps in which file systems count time (ext4: a tick of the kernel, 10 ms at most).
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// What its engines start with, as long as it can load them.
const MAGIC: &[u8] = b"engine";

/// A backend whose builds can be counted, slowed down and refused.
struct Counting {
    device: DeviceSpec,
    identity: Option<String>,
    build_count: AtomicUsize,
    delay: Duration,
    /// Whether engines that were not built by this very backend are refused.
    is_choosy: AtomicBool,
    /// Whether the device has no memory left.
    is_full: AtomicBool,
    /// The largest batch that its memory has room for.
    room: usize,
}

impl Counting {
    fn new() -> Self {
        Self {
            device: CpuBackend::new().device().clone(),
            identity: Some("counting 1.0 on a test".to_owned()),
            build_count: AtomicUsize::new(0),
            delay: Duration::ZERO,
            is_choosy: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            room: usize::MAX,
        }
    }

    fn builds(&self) -> usize {
        self.build_count.load(Ordering::SeqCst)
    }
}

impl Backend for Counting {
    fn device(&self) -> &DeviceSpec {
        &self.device
    }

    fn build(&self, order: &BuildOrder<'_>) -> Result<SerializedEngine, Error> {
        thread::sleep(self.delay);
        let count = self.build_count.fetch_add(1, Ordering::SeqCst);
        let signature = order.signature()?;
        self.is_choosy.store(false, Ordering::SeqCst);
        Ok(SerializedEngine {
            backend: self.device.backend.clone(),
            bytes: Bytes::from([MAGIC, format!(" {count}").as_bytes()].concat()),
            spec: Some(order.spec.clone()),
            signature: Some(signature),
        })
    }

    fn load(&self, engine: &SerializedEngine) -> Result<Arc<dyn Engine>, Error> {
        let batch = engine.spec.as_ref().map_or(0, |spec| spec.max_batch_size);
        if self.is_full.load(Ordering::SeqCst) || batch > self.room {
            let said = vec!["could not be allocated: out of memory".to_owned()];
            return Err(thalweg_nvidia::Error::TensorRt { action: "load the engine", said }.into());
        }
        if self.is_choosy.load(Ordering::SeqCst) || !engine.bytes.starts_with(MAGIC) {
            return Err(Error::Bug("the engine was built for another GPU".to_owned()));
        }
        Ok(Arc::new(Doubler::new(8)))
    }

    fn build_identity(&self) -> Option<String> {
        self.identity.clone()
    }
}

/// A folder of one test, removed when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        // Tests of one process may choose the same name, and run side by side.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cache-{name}-{}-{number}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn cache(&self) -> Cache {
        Cache::open(&self.0).unwrap()
    }

    /// The files in it with this ending.
    fn files(&self, ending: &str) -> Vec<PathBuf> {
        let paths = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
    }

    fn engine(&self) -> PathBuf {
        let [path] = &self.files(".engine")[..] else { panic!("not one engine") };
        path.clone()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn model(path: &str, seed: u64) -> Model {
    Model::from_proto(Network::Launch.generate(seed), path).unwrap()
}

/// An engine of a model with the defaults for all else.
fn build(backend: &Counting, model: &Model, cache: &Cache) -> Built<Arc<dyn Engine>> {
    let (input_shapes, options) = (BTreeMap::new(), BuildOptions::default());
    let request = request(model, &input_shapes, &options);
    engine::build(backend, &request, Some(cache)).unwrap()
}

fn request<'a>(
    model: &'a Model,
    input_shapes: &'a BTreeMap<String, Vec<usize>>,
    options: &'a BuildOptions,
) -> EngineRequest<'a> {
    let max_batch = MaxBatch::Exactly(8);
    EngineRequest { model, input_shapes, max_batch, options, calibration: None, watch: None }
}

#[test]
fn an_engine_is_built_once() {
    let (folder, backend) = (Folder::new("once"), Counting::new());
    let first = build(&backend, &model("a.onnx", 0), &folder.cache());
    assert!(matches!(first.source, Source::Builder(_)));
    let second = build(&backend, &model("a.onnx", 0), &folder.cache());
    assert_eq!(second.source, Source::Cache(folder.engine()));
    assert_eq!((backend.builds(), first.remarks.len(), second.remarks.len()), (1, 0, 0));
    assert_eq!(first.stored.engine.bytes, second.stored.engine.bytes);
    assert_eq!(first.stored.engine.signature, second.stored.engine.signature);
    assert_eq!(first.stored.origin, second.stored.origin);
}

#[test]
fn an_engine_that_has_no_room_for_the_largest_batch_is_built_for_half_of_it() {
    let (folder, backend) = (Folder::new("room"), Counting { room: 20, ..Counting::new() });
    let (model, shapes, options) = (model("a.onnx", 0), BTreeMap::new(), BuildOptions::default());
    let at = |max_batch| {
        let request = EngineRequest { max_batch, ..request(&model, &shapes, &options) };
        engine::build(&backend, &request, Some(&folder.cache()))
    };
    let built = at(MaxBatch::UpTo(128)).unwrap();
    assert_eq!(built.stored.engine.spec.unwrap().max_batch_size, 16);
    // Whoever names a batch wants that.
    assert!(at(MaxBatch::Exactly(128)).err().unwrap().is_out_of_memory());
}

#[test]
fn where_the_model_lies_does_not_matter_and_what_is_in_it_does() {
    let (folder, backend) = (Folder::new("content"), Counting::new());
    build(&backend, &model("a.onnx", 0), &folder.cache());
    build(&backend, &model("elsewhere/b.onnx", 0), &folder.cache());
    assert_eq!(backend.builds(), 1);
    build(&backend, &model("a.onnx", 1), &folder.cache());
    assert_eq!(backend.builds(), 2);
}

#[test]
fn a_network_that_takes_bytes_has_an_engine_for_each_way_to_read_them() {
    let (folder, backend) = (Folder::new("input-types"), Counting::new());
    let bytes = |scale| InputType::U8 { scale: vec![scale], shift: vec![0.0] };
    let count_after = |input_type: InputType| {
        let (retyped, _) = with_inputs(&model("a.onnx", 0), &input_type).unwrap();
        build(&backend, &retyped, &folder.cache());
        backend.builds()
    };
    build(&backend, &model("a.onnx", 0), &folder.cache());
    assert_eq!(count_after(InputType::F16), 2);
    assert_eq!(count_after(bytes(0.5)), 3);
    assert_eq!(count_after(bytes(0.25)), 4);
    assert_eq!(count_after(bytes(0.5)), 4);
}

#[test]
fn everything_that_an_engine_depends_on_is_a_part_of_its_key() {
    let (folder, backend) = (Folder::new("key"), Counting::new());
    let (cache, model, shapes) = (folder.cache(), model("a.onnx", 0), BTreeMap::new());
    let plain = BuildOptions::default();
    let fast = BuildOptions { precision: Precision::Fp16, ..plain.clone() };
    let other_kernels =
        BuildOptions { tactics: BTreeMap::from([(TacticSource::JitConvolutions, false)]), ..plain.clone() };
    let large = BuildOptions { least_batch_size: Some(5), ..plain.clone() };
    let samples = Calibration::new(1, vec![("input".to_owned(), Bytes::from_static(&[1]))]);
    let base = request(&model, &shapes, &plain);
    let other_gpu = Counting { identity: Some("counting 1.0 on another".to_owned()), ..Counting::new() };
    let requests: [(&Counting, EngineRequest<'_>); 7] = [
        (&backend, base),
        (&backend, EngineRequest { max_batch: MaxBatch::Exactly(4), ..base }),
        (&backend, EngineRequest { options: &fast, ..base }),
        (&backend, EngineRequest { options: &other_kernels, ..base }),
        (&backend, EngineRequest { options: &large, ..base }),
        (&backend, EngineRequest { calibration: Some(&samples), ..base }),
        (&other_gpu, base),
    ];
    for (backend, request) in &requests {
        engine::build(*backend, request, Some(&cache)).unwrap();
    }
    assert_eq!(folder.files(".engine").len(), requests.len());
    assert_eq!((backend.builds(), other_gpu.builds()), (6, 1));
}

#[test]
fn a_backend_without_an_identity_stores_nothing() {
    let folder = Folder::new("quick");
    let backend = Counting { identity: None, ..Counting::new() };
    build(&backend, &model("a.onnx", 0), &folder.cache());
    build(&backend, &model("a.onnx", 0), &folder.cache());
    assert_eq!((backend.builds(), folder.files("").len()), (2, 0));
}

/// Builds, does something to the stored engine, and gives why it was built again.
fn rebuilt_after(name: &str, harm: impl FnOnce(&PathBuf)) -> String {
    let (folder, backend) = (Folder::new(name), Counting::new());
    build(&backend, &model("a.onnx", 0), &folder.cache());
    harm(&folder.engine());
    let again = build(&backend, &model("a.onnx", 0), &folder.cache());
    assert!(matches!(again.source, Source::Builder(_)));
    let [Remark::Rebuilt { path, reason }] = &again.remarks[..] else { panic!("{:?}", again.remarks) };
    assert_eq!(*path, folder.engine());
    let third = build(&backend, &model("a.onnx", 0), &folder.cache());
    assert_eq!((backend.builds(), third.remarks.len()), (2, 0), "what was built again is there");
    reason.clone()
}

#[test]
fn a_truncated_engine_is_built_again_and_that_is_said() {
    let reason = rebuilt_after("truncated", |path| fs::write(path, MAGIC).unwrap());
    assert!(reason.contains("damaged"), "{reason}");
}

#[test]
fn a_label_that_is_missing_or_no_label_is_no_trust() {
    let label = |path: &PathBuf| path.with_added_extension("json");
    let reason = rebuilt_after("no-label", |path| fs::remove_file(label(path)).unwrap());
    assert!(reason.contains("is missing"), "{reason}");
    let reason = rebuilt_after("bad-label", |path| fs::write(label(path), "{}").unwrap());
    assert!(reason.contains("version 0"), "{reason}");
}

#[test]
fn an_engine_that_does_not_load_is_built_again_with_the_loaders_words() {
    let (folder, backend) = (Folder::new("choosy"), Counting::new());
    build(&backend, &model("a.onnx", 0), &folder.cache());
    backend.is_choosy.store(true, Ordering::SeqCst);
    let again = build(&backend, &model("a.onnx", 0), &folder.cache());
    let text = again.remarks[0].to_string();
    assert!(text.contains("built for another GPU") && text.contains("is built again"), "{text}");
    assert_eq!(backend.builds(), 2);
}

#[test]
fn a_device_without_memory_is_no_reason_to_build_again() {
    let (folder, backend) = (Folder::new("full"), Counting::new());
    let (cache, model) = (folder.cache(), model("a.onnx", 0));
    build(&backend, &model, &cache);
    backend.is_full.store(true, Ordering::SeqCst);
    let (shapes, options) = (BTreeMap::new(), BuildOptions::default());
    let refused = engine::build(&backend, &request(&model, &shapes, &options), Some(&cache));
    assert!(refused.err().unwrap().is_out_of_memory());
    assert_eq!(backend.builds(), 1);
    assert!(folder.engine().is_file(), "what is stored is as good as before");
}

#[test]
fn a_build_that_ends_in_an_error_leaves_nothing_in_the_cache() {
    let (folder, backend) = (Folder::new("failed"), Counting::new());
    backend.is_full.store(true, Ordering::SeqCst);
    let (model, shapes, options) = (model("a.onnx", 0), BTreeMap::new(), BuildOptions::default());
    let failed = engine::build(&backend, &request(&model, &shapes, &options), Some(&folder.cache()));
    assert!(failed.err().unwrap().is_out_of_memory());
    assert_eq!(backend.builds(), 1);
    let left: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(left.iter().all(|file| file.extension().is_some_and(|it| it == "lock")), "{left:?}");
}

#[test]
fn a_full_cache_makes_room_and_says_so_and_what_was_used_last_stays() {
    let (folder, backend) = (Folder::new("full"), Counting::new());
    let models = [model("a.onnx", 0), model("b.onnx", 1), model("c.onnx", 2)];
    build(&backend, &models[0], &folder.cache());
    let size = folder.files("").iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>();
    let cache = folder.cache().with_limit(units::Bytes(size * 5 / 2));
    thread::sleep(CLOCK_STEP);
    assert!(build(&backend, &models[1], &cache).remarks.is_empty());
    thread::sleep(CLOCK_STEP);
    assert!(matches!(build(&backend, &models[0], &cache).source, Source::Cache(_)));
    thread::sleep(CLOCK_STEP);
    let remarks = build(&backend, &models[2], &cache).remarks;
    assert!(matches!(remarks[..], [Remark::Removed { count: 1, .. }]), "{remarks:?}");
    assert!(remarks[0].to_string().starts_with("1 of the cached engines ("), "{}", remarks[0]);
    assert!(matches!(build(&backend, &models[0], &cache).source, Source::Cache(_)));
    assert!(matches!(build(&backend, &models[1], &cache).source, Source::Builder(_)));
}

#[test]
fn two_that_want_the_same_engine_build_it_once_and_one_says_that_it_waits() {
    let folder = Folder::new("two");
    let backend = Counting { delay: Duration::from_millis(400), ..Counting::new() };
    let waits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&waits);
    let watch = BuildWatch::new(move |event| {
        counted.fetch_add(usize::from(event == BuildEvent::Waiting), Ordering::SeqCst);
        ControlFlow::Continue(())
    });
    let (shapes, options) = (BTreeMap::new(), BuildOptions::default());
    let ask = || {
        let model = model("a.onnx", 0);
        let request = EngineRequest { watch: Some(&watch), ..request(&model, &shapes, &options) };
        engine::build(&backend, &request, Some(&folder.cache())).unwrap().source
    };
    let sources = thread::scope(|scope| {
        let threads = [scope.spawn(ask), scope.spawn(ask)];
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(backend.builds(), 1);
    let from_cache = sources.iter().filter(|source| matches!(source, Source::Cache(_))).count();
    assert_eq!(from_cache, 1);
    assert!(waits.load(Ordering::SeqCst) > 0);
}

#[test]
fn whoever_waits_can_give_up() {
    let folder = Folder::new("given-up");
    let (backend, cache, model) = (Counting::new(), folder.cache(), model("a.onnx", 0));
    let (shapes, options) = (BTreeMap::new(), BuildOptions::default());
    build(&backend, &model, &cache);
    let engine = folder.engine();
    fs::remove_file(&engine).unwrap();
    let lock = fs::File::create(engine.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let watch = BuildWatch::new(|_| ControlFlow::Break(()));
    let request = EngineRequest { watch: Some(&watch), ..request(&model, &shapes, &options) };
    let error = engine::build(&backend, &request, Some(&cache)).err().unwrap();
    assert!(matches!(error, Error::BuildStopped), "{error}");
    assert_eq!(backend.builds(), 1);
}

#[test]
fn an_engine_that_cannot_be_stored_is_still_an_engine() {
    let (folder, backend) = (Folder::new("unwritable"), Counting::new());
    let (cache, model) = (folder.cache(), model("a.onnx", 0));
    build(&backend, &model, &cache);
    let engine = folder.engine();
    fs::remove_file(&engine).unwrap();
    // A folder of that name cannot be replaced by a file.
    fs::create_dir_all(engine.join("in-the-way")).unwrap();
    let remarks = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&remarks);
    let watch = BuildWatch::new(move |event| {
        if let BuildEvent::Remark(text) = event {
            heard.lock().unwrap().push(text.to_owned());
        }
        ControlFlow::Continue(())
    });
    let (shapes, options) = (BTreeMap::new(), BuildOptions::default());
    let request = EngineRequest { watch: Some(&watch), ..request(&model, &shapes, &options) };
    let built = engine::build(&backend, &request, Some(&cache)).unwrap();
    assert!(matches!(built.remarks.last(), Some(Remark::NotStored { .. })), "{:?}", built.remarks);
    let told: Vec<_> = built.remarks.iter().map(ToString::to_string).collect();
    assert_eq!(*remarks.lock().unwrap(), told, "the watch hears what the result says");
    assert_eq!(folder.files(".part").len(), 0);
}

#[test]
fn an_engine_in_a_file_comes_back_as_it_was() {
    let (folder, backend) = (Folder::new("file"), Counting::new());
    let built = build(&backend, &model("a.onnx", 0), &folder.cache());
    let path = folder.0.join("mine.engine");
    built.stored.write(&path).unwrap();
    let read = StoredEngine::read(&path).unwrap();
    assert_eq!(read.engine.bytes, built.stored.engine.bytes);
    assert_eq!(read.engine.spec, built.stored.engine.spec);
    assert_eq!(read.identity(&path), built.stored.origin.unwrap().model);
}

#[test]
fn a_file_without_a_label_is_tensorrts_and_one_with_anothers_label_is_refused() {
    let (folder, backend) = (Folder::new("foreign"), Counting::new());
    let built = build(&backend, &model("a.onnx", 0), &folder.cache());
    let path = folder.0.join("foreign.engine");
    fs::write(&path, "of trtexec").unwrap();
    let read = StoredEngine::read(&path).unwrap();
    assert_eq!((read.engine.backend.as_str(), &read.engine.spec, &read.origin), ("tensorrt", &None, &None));
    assert_eq!(read.identity(&path).path, path);
    built.stored.write(&path).unwrap();
    fs::write(&path, "of trtexec").unwrap();
    let error = StoredEngine::read(&path).unwrap_err();
    assert!(matches!(error, Error::NotAnEngine { .. }), "{error}");
    assert!(error.to_string().contains("describes another engine"), "{error}");
}
