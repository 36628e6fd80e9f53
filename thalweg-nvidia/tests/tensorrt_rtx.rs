//! Real builds without a GPU: TensorRT for RTX needs none to parse and to build.
#![expect(clippy::unwrap_used, reason = "it is a test; its first functions are no `#[test]` themselves")]

mod libraries;

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thalweg_nvidia::Error;
use thalweg_nvidia::tensorrt::{
    BuildProgress, Builder, BuilderFlag, DataType, Family, Flavour, HostMemory, Network, ProfilingVerbosity,
    ShapeRange, SharedProfiles, TacticSource, TensorRt, parse_onnx,
};

use libraries::{Lines, open, root};

fn open_rtx() -> Option<(TensorRt, Lines)> {
    open(Flavour::Rtx, "rtx-1.7")
}

fn small_model() -> Vec<u8> {
    fs::read(root().join("models/ppocr_cls.onnx")).unwrap()
}

fn parsed(builder: &Builder, model: &[u8]) -> Result<Network, Error> {
    let mut network = builder.create_network()?;
    parse_onnx(&mut network, model, None)?;
    Ok(network)
}

/// Builds a network whose open shapes are fixed to the given ones.
fn build(tensorrt: &TensorRt, model: &Path, shapes: &HashMap<String, Vec<i64>>) -> Result<HostMemory, Error> {
    let builder = tensorrt.builder()?;
    let mut network = builder.create_network()?;
    parse_onnx(&mut network, &fs::read(model).unwrap(), Some(model))?;
    for input in network.inputs()? {
        if let Some(shape) = shapes.get(&input.name) {
            network.set_input_shape(&input.name, shape)?;
        }
    }
    let config = builder.create_config()?;
    builder.build(&network, &config)
}

/// `x=1x3x320x320 y=1`, the column of scripts/models.tsv.
fn shapes(column: &str) -> HashMap<String, Vec<i64>> {
    let inputs = column.split(' ').filter_map(|word| word.rsplit_once('='));
    inputs
        .map(|(name, sizes)| (name.to_owned(), sizes.split('x').map(|size| size.parse().unwrap()).collect()))
        .collect()
}

#[test]
fn it_tells_its_version_and_family() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    assert_eq!(tensorrt.version().to_string(), "1.7.1");
    assert_eq!((tensorrt.family(), tensorrt.flavour()), (Family::Rtx1, Flavour::Rtx));
    assert_eq!(tensorrt.abi_note(), None);
    assert_eq!(tensorrt.check_parser(), Ok(()));
}

#[test]
fn real_models_are_built() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let table = fs::read_to_string(root().join("scripts/models.tsv")).unwrap();
    let mut models = vec![(root().join("models/ppocr_cls.onnx"), "x=1x3x48x192".to_owned())];
    for row in table.lines().skip(1) {
        let columns: Vec<_> = row.split('\t').collect();
        let file = root().join(".models").join(columns[0]).with_added_extension("onnx");
        if file.is_file() {
            models.push((file, columns[6].to_owned()));
        }
    }
    let (mut built, mut refused) = (0, Vec::new());
    for (model, column) in &models {
        match build(&tensorrt, model, &shapes(column)) {
            Ok(engine) => {
                assert!(engine.len() > 1000, "{}: {} bytes", model.display(), engine.len());
                built += 1;
            }
            Err(error) => refused.push(format!("{}: {error}", model.file_name().unwrap().display())),
        }
    }
    let mut terminal = std::io::stderr();
    writeln!(terminal, "built {built} of {} models; refused:\n{}", models.len(), refused.join("\n")).unwrap();
    // Without the fetched ones there is one, which is a part of the repository.
    assert!(built >= models.len().min(10), "{refused:#?}");
}

#[test]
fn a_network_tells_its_inputs_and_outputs() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let builder = tensorrt.builder().unwrap();
    let network = parsed(&builder, &small_model()).unwrap();
    let inputs = network.inputs().unwrap();
    assert_eq!(inputs.len(), 1);
    assert_eq!((inputs[0].name.as_str(), inputs[0].data_type), ("x", DataType::Float32));
    assert_eq!(inputs[0].shape.as_ref().unwrap()[1..2], [3]);
    assert!(inputs[0].shape.as_ref().unwrap().contains(&-1), "{:?}", inputs[0].shape);
    assert_eq!(network.outputs().unwrap().len(), 1);
    assert!(network.layer_count().unwrap() > 50);
}

#[test]
fn a_broken_model_is_refused_in_tensorrts_own_words() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let builder = tensorrt.builder().unwrap();
    let model = small_model();
    let error = parsed(&builder, &model[..model.len() / 2]).err().unwrap();
    let Error::Onnx { problems, said } = &error else { panic!("{error}") };
    assert!(!problems.is_empty() || !said.is_empty());
    assert!(error.to_string().to_lowercase().contains("parse"), "{error}");
}

#[test]
fn an_unknown_operator_is_named_with_its_node() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let mut model = small_model();
    // The length of the string and the operator's name; one of the same length keeps the file well-formed.
    let relu: &[u8] = b"\x04Relu";
    let at = model.windows(relu.len()).position(|window| window == relu).unwrap();
    model[at..at + relu.len()].copy_from_slice(b"\x04ReXX");
    let builder = tensorrt.builder().unwrap();
    let error = parsed(&builder, &model).err().unwrap();
    let Error::Onnx { problems, .. } = &error else { panic!("{error}") };
    let named =
        problems.iter().any(|problem| problem.operator.as_deref() == Some("ReXX") && problem.node.is_some());
    assert!(named, "{error}");
}

#[test]
fn a_build_without_shapes_says_what_is_missing() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let builder = tensorrt.builder().unwrap();
    let network = parsed(&builder, &small_model()).unwrap();
    let config = builder.create_config().unwrap();
    let error = builder.build(&network, &config).err().unwrap();
    assert!(matches!(error, Error::TensorRt { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("profile"), "{text}");
}

#[test]
fn a_configuration_keeps_what_it_is_told() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let builder = tensorrt.builder().unwrap();
    let mut config = builder.create_config().unwrap();
    config.limit_workspace(64 << 20).unwrap();
    assert_eq!(config.workspace_limit().unwrap(), 64 << 20);
    assert!(config.is_enabled(BuilderFlag::Tf32).unwrap());
    config.disable(BuilderFlag::Tf32).unwrap();
    assert!(!config.is_enabled(BuilderFlag::Tf32).unwrap());
    config.set_profiling_verbosity(ProfilingVerbosity::Detailed).unwrap();
    config.set_optimization_level(1).unwrap();
    config.limit_aux_streams(0).unwrap();
    for is_used in [false, true] {
        config.use_tactics(TacticSource::EdgeMaskConvolutions, is_used).unwrap();
        assert_eq!(config.uses_tactics(TacticSource::EdgeMaskConvolutions), Ok(is_used));
    }
    let of_a_library = config.use_tactics(TacticSource::Cudnn, true);
    assert!(matches!(of_a_library, Err(Error::NotInThisVersion { .. })), "{of_a_library:?}");
    assert_eq!(config.uses_tactics(TacticSource::Cudnn), Ok(false));
    assert_eq!(config.share_profiles(), Ok(SharedProfiles::Yes));
    config.enable(BuilderFlag::Refit).unwrap();
    assert!(config.is_enabled(BuilderFlag::Refit).unwrap());
    assert!(!config.is_enabled(BuilderFlag::Fp16).unwrap());
    assert!(matches!(config.enable(BuilderFlag::Fp16), Err(Error::NotInThisVersion { .. })));
}

#[test]
fn a_profile_that_is_out_of_order_is_refused() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let builder = tensorrt.builder().unwrap();
    let mut profile = builder.create_optimization_profile().unwrap();
    let range = ShapeRange { min: vec![4, 3], opt: vec![2, 3], max: vec![1, 3] };
    let mut config = builder.create_config().unwrap();
    let refused =
        profile.set_shapes("x", range).and_then(|()| config.add_optimization_profile(profile).map(|_| ()));
    assert!(matches!(refused, Err(Error::TensorRt { .. })), "{refused:?}");
}

#[test]
fn progress_is_reported_and_can_cancel_the_build() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let steps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&steps);
    let builder = tensorrt.builder().unwrap();
    let network = parsed(&builder, &small_model()).unwrap();
    let mut config = builder.create_config().unwrap();
    let mut profile = builder.create_optimization_profile().unwrap();
    profile.set_shapes("x", ShapeRange::fixed(&[1, 3, 48, 192])).unwrap();
    config.add_optimization_profile(profile).unwrap();
    config
        .report_progress(Arc::new(move |progress| {
            if matches!(progress, BuildProgress::Step { .. }) {
                counted.fetch_add(1, Ordering::Relaxed);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }))
        .unwrap();
    let result = builder.build(&network, &config);
    assert!(steps.load(Ordering::Relaxed) > 0, "no step was reported");
    assert!(matches!(result.err(), Some(Error::TensorRt { .. })));
}

#[test]
fn a_panic_in_a_callback_comes_out_of_the_build() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let builder = tensorrt.builder().unwrap();
    let network = parsed(&builder, &small_model()).unwrap();
    let mut config = builder.create_config().unwrap();
    let mut profile = builder.create_optimization_profile().unwrap();
    profile.set_shapes("x", ShapeRange::fixed(&[1, 3, 48, 192])).unwrap();
    config.add_optimization_profile(profile).unwrap();
    config.report_progress(Arc::new(|_| panic!("enough"))).unwrap();
    let build = std::panic::AssertUnwindSafe(|| builder.build(&network, &config).is_ok());
    let panic = std::panic::catch_unwind(build).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"enough"));
}

#[test]
fn a_timing_cache_is_written_and_read_again() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let builder = tensorrt.builder().unwrap();
    let content = {
        let mut config = builder.create_config().unwrap();
        let cache = config.use_timing_cache(&[]).unwrap();
        cache.serialize().unwrap().to_vec()
    };
    assert!(!content.is_empty());
    builder.create_config().unwrap().use_timing_cache(&content).unwrap();
}

#[test]
fn an_engine_cannot_be_loaded_without_a_driver_and_that_is_said() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let runtime = match tensorrt.runtime() {
        Ok(runtime) => runtime,
        Err(error) => panic!("RTX makes a runtime without a driver: {error}"),
    };
    let text = runtime.deserialize_engine(b"no engine at all").err().unwrap().to_string();
    assert!(text.starts_with("TensorRT cannot load the engine: "), "{text}");
}

#[test]
fn an_engine_that_is_cut_or_of_another_version_is_refused_with_text() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let model = root().join("models/ppocr_cls.onnx");
    let whole = build(&tensorrt, &model, &shapes("x=1x3x48x192")).unwrap().to_vec();
    let runtime = tensorrt.runtime().unwrap();
    let other_version = [&[!whole[0]], &whole[1..]].concat();
    let said = |plan: &[u8]| runtime.deserialize_engine(plan).err().unwrap().to_string();
    let cut = said(&whole[..whole.len() / 2]);
    assert!(cut.contains("plan.header.size == blobSize"), "{cut}");
    let other = said(&other_version);
    assert!(other.contains("created with incompatible serialization version"), "{other}");
}

#[test]
fn objects_may_be_dropped_in_any_order() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let builder = tensorrt.builder().unwrap();
    let network = parsed(&builder, &small_model()).unwrap();
    let config = builder.create_config().unwrap();
    let profile = builder.create_optimization_profile().unwrap();
    drop(tensorrt);
    drop(builder);
    assert!(network.layer_count().unwrap() > 0);
    drop(profile);
    drop(config);
    drop(network);
}

#[test]
fn objects_come_and_go_many_times() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    for _ in 0..50 {
        let builder = tensorrt.builder().unwrap();
        let network = parsed(&builder, &small_model()).unwrap();
        assert!(network.layer_count().unwrap() > 50);
    }
}

#[test]
fn objects_of_two_builders_do_not_mix() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let (builder, other) = (tensorrt.builder().unwrap(), tensorrt.builder().unwrap());
    let network = parsed(&builder, &small_model()).unwrap();
    let mut config = other.create_config().unwrap();
    assert_eq!(builder.build(&network, &config).err(), Some(Error::OtherBuilder));
    let profile = builder.create_optimization_profile().unwrap();
    assert_eq!(config.add_optimization_profile(profile), Err(Error::OtherBuilder));
}

#[test]
fn a_network_takes_one_model_only() {
    let Some((tensorrt, _)) = open_rtx() else { return };
    let builder = tensorrt.builder().unwrap();
    let mut network = parsed(&builder, &small_model()).unwrap();
    assert_eq!(parse_onnx(&mut network, &small_model(), None), Err(Error::NetworkIsFilled));
}
