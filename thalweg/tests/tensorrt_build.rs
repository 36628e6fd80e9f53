//! Builds by TensorRT for RTX, whose builder needs no GPU. Without `scripts/fetch-tensorrt.py` there is nothing to test.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use thalweg::Error;
use thalweg::backend::{self, Backend, BuildEvent, BuildOrder, BuildSpec, BuildWatch, Surroundings};
use thalweg::model::{DataType, Model};
use thalweg::precision::{InputType, with_inputs};

fn open() -> Option<Box<dyn Backend>> {
    open_with(Surroundings::default())
}

fn open_with(surroundings: Surroundings) -> Option<Box<dyn Backend>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tensorrt/rtx-1.7");
    let surroundings = Surroundings { directories: vec![folder.clone()], ..surroundings };
    folder.is_dir().then(|| backend::open_to_build("tensorrt", &surroundings).unwrap())
}

fn model() -> Model {
    Model::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/ppocr_cls.onnx")).unwrap()
}

fn spec() -> BuildSpec {
    let input_shapes = BTreeMap::from([("x".to_owned(), vec![1, 3, 48, 192])]);
    BuildSpec { input_shapes, max_batch_size: 4, ..BuildSpec::default() }
}

#[test]
fn a_build_tells_how_far_it_is_from_its_start_to_its_end() {
    let Some(backend) = open() else { return };
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let watch = BuildWatch::new(move |event| {
        heard.lock().unwrap().push(match event {
            BuildEvent::Started { can_stop } => format!("started, can stop: {can_stop}"),
            BuildEvent::Progress { fraction, .. } if (0.0..=1.0).contains(&fraction) => "progress".to_owned(),
            BuildEvent::Said(_) => return ControlFlow::Continue(()),
            other => format!("{other:?}"),
        });
        ControlFlow::Continue(())
    });
    let (model, spec) = (model(), spec());
    let order = BuildOrder { watch: Some(&watch), ..BuildOrder::new(&model, &spec) };
    let engine = backend.build(&order).unwrap();
    assert!(engine.bytes.len() > 1000);
    assert_eq!(engine.signature.unwrap().batch_sizes, 1..=4);
    let mut told = told.lock().unwrap().clone();
    told.dedup();
    assert_eq!(told, ["started, can stop: true", "progress", "Ended"]);
}

#[test]
fn a_watch_that_breaks_off_stops_the_build() {
    let Some(backend) = open() else { return };
    let watch = BuildWatch::new(|event| match event {
        BuildEvent::Progress { fraction, .. } if fraction > 0.0 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let (model, spec) = (model(), spec());
    let order = BuildOrder { watch: Some(&watch), ..BuildOrder::new(&model, &spec) };
    let error = backend.build(&order).unwrap_err();
    assert!(matches!(error, Error::BuildStopped), "{error}");
}

#[test]
fn an_engine_cannot_be_loaded_where_it_could_only_be_built() {
    let Some(backend) = open() else { return };
    if backend.can_run() {
        return;
    }
    let (model, spec) = (model(), spec());
    let engine = backend.build(&BuildOrder::new(&model, &spec)).unwrap();
    let error = backend.load(&engine).err().unwrap();
    assert!(error.to_string().contains("CUDA driver"), "{error}");
}

#[test]
fn timings_are_written_for_the_next_build_also_where_those_in_the_file_are_useless() {
    let folder = std::env::temp_dir().join(format!("thalweg-timings-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("kernels.timing");
    let surroundings = Surroundings { timing_cache: Some(file.clone()), ..Surroundings::default() };
    let Some(backend) = open_with(surroundings) else { return };
    let (model, spec) = (model(), spec());
    backend.build(&BuildOrder::new(&model, &spec)).unwrap();
    let written = std::fs::read(&file).unwrap();
    assert!(!written.is_empty());
    std::fs::write(&file, b"no timings").unwrap();
    backend.build(&BuildOrder::new(&model, &spec)).unwrap();
    assert_eq!(std::fs::read(&file).unwrap().len(), written.len());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn networks_that_take_bytes_and_half_inputs_are_built() {
    let Some(backend) = open() else { return };
    let bytes = InputType::U8 { scale: vec![0.0078, 0.0079, 0.0077], shift: vec![-1.0, -0.9, -1.1] };
    for (input_type, data_type) in [(bytes, DataType::U8), (InputType::F16, DataType::F16)] {
        let (model, _) = with_inputs(&model(), &input_type).unwrap();
        let spec = spec();
        let engine = backend.build(&BuildOrder::new(&model, &spec)).unwrap();
        assert!(engine.bytes.len() > 1000);
        assert_eq!(engine.signature.unwrap().inputs[0].data_type, data_type);
    }
}
