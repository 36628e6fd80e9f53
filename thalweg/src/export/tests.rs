use super::*;
use crate::backend::{BuildOptions, BuildSpec, CudaGraph, Precision, Transfers, Wait};
use crate::engine::EngineSource;
use crate::model::{DataType, Signature, TensorSpec};
use crate::tune::synthetic::tuned;
use crate::units::Nanos;

fn tensor(name: &str, data_type: DataType, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), data_type, shape: shape.to_vec(), is_batched: true }
}

/// Four streams of batch 8 with graphs.
fn winner() -> TunedConfig {
    let mut tuned = tuned();
    tuned.device.backend = "tensorrt".to_owned();
    tuned.configuration.streams = 4;
    tuned.configuration.batch_size = 8;
    tuned.configuration.depth = 3;
    tuned.configuration.submitters = 2;
    tuned.configuration.cuda_graph = CudaGraph::Compute;
    tuned.configuration.batching_delay = Nanos(250_000);
    tuned.signature = Some(Signature {
        inputs: vec![tensor("images", DataType::F32, &[3, 224, 224])],
        outputs: vec![tensor("it's", DataType::F16, &[1000]), tensor("score", DataType::I64, &[])],
        batch_sizes: 1..=8,
    });
    tuned
}

#[test]
fn a_file_without_inputs_and_outputs_is_refused_with_the_remedy() {
    let old = TunedConfig { signature: None, ..winner() };
    let error = export(&old, Format::Cpp).unwrap_err().to_string();
    assert_eq!(error, "cannot export for cpp: it does not say its inputs and outputs: tune again");
}

#[test]
fn what_was_tuned_on_a_cpu_is_refused() {
    let mut tuned = winner();
    tuned.device.backend = "cpu".to_owned();
    let error = export(&tuned, Format::Trtexec).unwrap_err().to_string();
    assert!(error.contains("tuned for the cores of a CPU says nothing"), "{error}");
}

#[test]
fn tritons_file_has_the_tensors_without_their_batch_and_says_what_is_missing() {
    let text = export(&winner(), Format::Triton).unwrap();
    for line in [
        "max_batch_size: 8",
        "  { name: \"images\", data_type: TYPE_FP32, dims: [ 3, 224, 224 ] }",
        "  { name: \"it's\", data_type: TYPE_FP16, dims: [ 1000 ] },",
        "  { name: \"score\", data_type: TYPE_INT64, dims: [ 1 ], reshape: { shape: [ ] } }",
        "instance_group [ { count: 4, kind: KIND_GPU } ]",
        "  max_queue_delay_microseconds: 250",
        "    graphs: true",
        "      input { key: \"images\", value: { dim: [ 3, 224, 224 ] } }",
        "# Tuned were 2 submitting threads for 4 streams; without graphs more threads launch more slowly.",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("The tuned 3 slots of each stream have no field"));
}

#[test]
fn triton_has_a_graph_for_each_size_of_executions() {
    let specs = |smallest_batch| {
        let mut tuned = winner();
        tuned.configuration.smallest_batch = smallest_batch;
        let text = export(&tuned, Format::Triton).unwrap();
        let of_graph = text.split("graph_spec").skip(1).map(|spec| {
            let numbers = spec.split("batch_size: ").skip(1).map(|it| it.split([' ', '\n']).next().unwrap());
            numbers.map(|number| number.parse().unwrap()).collect::<Vec<usize>>()
        });
        of_graph.collect::<Vec<_>>()
    };
    // The size, and the smallest number of samples that it is for where that is another.
    assert_eq!(specs(None), [vec![8, 1]]);
    assert_eq!(specs(Some(1)), [vec![1], vec![2], vec![4, 3], vec![8, 5]]);
    assert_eq!(specs(Some(3)), [vec![3, 1], vec![6, 4], vec![8, 7]]);
}

#[test]
fn a_network_without_a_batch_everywhere_keeps_its_whole_shapes() {
    let mut tuned = winner();
    tuned.signature.as_mut().unwrap().outputs[1].is_batched = false;
    let text = export(&tuned, Format::Triton).unwrap();
    assert!(text.contains("max_batch_size: 0") && text.contains("dims: [ 8, 3, 224, 224 ]"), "{text}");
    assert!(!text.contains("dynamic_batching"), "{text}");
}

#[test]
fn what_triton_cannot_do_at_all_is_refused() {
    let mut tuned = winner();
    tuned.configuration.transfers = Transfers::Off;
    let error = export(&tuned, Format::Triton).unwrap_err().to_string();
    assert_eq!(error, "cannot export for triton: Triton always copies inputs and outputs");
}

#[test]
fn trtexecs_command_survives_a_shell_and_says_what_it_does_otherwise() {
    let mut tuned = winner();
    tuned.signature.as_mut().unwrap().inputs[0].name = "a'b c".to_owned();
    tuned.configuration.wait = Wait::Spin;
    let text = export(&tuned, Format::Trtexec).unwrap();
    let script = text.replace("exec trtexec", "printf '%s\\n'");
    let said = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
    let words = String::from_utf8(said.stdout).unwrap();
    let expected = [
        "--loadEngine=model.plan",
        "--shapes=a'b c:8x3x224x224",
        "--infStreams=4",
        "--useCudaGraph",
        "--useSpinWait",
        "--threads",
    ];
    assert_eq!(words.lines().collect::<Vec<_>>(), expected);
    assert!(text.contains("the tuned depth of 3 has no option"), "{text}");
}

#[test]
fn the_engine_is_told_with_all_that_it_was_built_with() {
    let mut tuned = winner();
    let line = |tuned: &TunedConfig| {
        let text = export(tuned, Format::Trtexec).unwrap();
        text.lines().find(|line| line.contains("engine is expected")).unwrap().to_owned()
    };
    assert!(line(&tuned).ends_with("thalweg build MODEL.onnx -o model.plan --batch 8"), "{}", line(&tuned));
    tuned.model.input_shapes = [("a b".to_owned(), vec![1, 3, 64, 64])].into();
    tuned.engine = Some(EngineSource::Built(BuildSpec {
        max_batch_size: 32,
        options: BuildOptions {
            precision: Precision::Fp16,
            optimization_level: Some(5),
            least_batch_size: Some(8),
            ..BuildOptions::default()
        },
        ..BuildSpec::default()
    }));
    let built = line(&tuned);
    let words =
        "--batch-range 8-32 --precision fp16 --optimization-level 5 --shape 'a b=1x3x64x64' --no-accuracy";
    assert!(built.contains(", built by: thalweg build") && built.ends_with(words), "{built}");
    tuned.engine = Some(EngineSource::File("made elsewhere.plan".into()));
    assert!(line(&tuned).ends_with("copy made elsewhere.plan there."), "{}", line(&tuned));
}

#[test]
fn a_program_says_that_it_does_not_wait_as_it_was_tuned() {
    let mut tuned = winner();
    let says =
        |tuned: &TunedConfig| export(tuned, Format::Cpp).unwrap().contains("Tuned was to ask for 100 us");
    assert!(!says(&tuned));
    tuned.configuration.wait = Wait::Hybrid;
    assert!(says(&tuned));
}

#[test]
fn shared_copy_lanes_are_in_the_program_and_else_in_a_comment() {
    let own = winner();
    let mut shared = winner();
    shared.configuration.copy_lanes = Some(2);
    let lanes = |tuned| export(tuned, Format::Cpp).unwrap();
    assert!(lanes(&shared).contains("kCopyLanes = 2;") && lanes(&own).contains("kCopyLanes = 4;"));
    for format in [Format::Triton, Format::Trtexec] {
        let told = |tuned| export(tuned, format).unwrap().contains("the tuned 2 that all share have no");
        assert!(told(&shared) && !told(&own), "{format}");
    }
}

#[test]
fn streams_that_need_more_queues_than_cuda_has_get_them() {
    let many = winner();
    let mut few = winner();
    few.configuration.streams = 2;
    let mut with_aux_streams = few.clone();
    with_aux_streams.engine = Some(EngineSource::Built(BuildSpec {
        options: BuildOptions { aux_streams: Some(2), ..BuildOptions::default() },
        ..BuildSpec::default()
    }));
    let mut shared = winner();
    shared.configuration.copy_lanes = Some(1);
    for (format, line) in [
        (Format::Triton, "# Start the server with CUDA_DEVICE_MAX_CONNECTIONS=32: "),
        (Format::Trtexec, "export CUDA_DEVICE_MAX_CONNECTIONS=\"${CUDA_DEVICE_MAX_CONNECTIONS:-32}\""),
        (Format::Cpp, "  setenv(\"CUDA_DEVICE_MAX_CONNECTIONS\", \"32\", 0);"),
    ] {
        let told = |tuned| export(tuned, format).unwrap().lines().any(|it| it.starts_with(line));
        assert!(told(&many) && !told(&few), "{format}");
        // The other programs have copies of their own for each stream.
        assert_eq!(told(&shared), format != Format::Cpp, "{format}");
        assert!(told(&with_aux_streams), "{format}");
    }
}

#[test]
fn the_program_has_the_configuration_and_no_place_is_left_open() {
    let mut tuned = winner();
    tuned.device.name = "a device\n#error".to_owned();
    let text = export(&tuned, Format::Cpp).unwrap();
    let line = "constexpr int kStreams = 4, kDepth = 3, kBatch = 8, kSubmitters = 2;";
    assert!(text.contains(line) && text.contains("kGraph = Graph::kCompute"), "{text}");
    assert!(!text.contains('@'), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("#error")), "{text}");
}
