//! Inputs in another type than the network computes in: bytes or FP16 cross the bus, and the device makes FP32 of them.
//!
//! In: a model. Out: the same model, whose FP32 inputs are of the other type, with a Cast behind each of them, and for
//! bytes a scale and a shift, so that an image's bytes need no preparation on the host. It is ordinary ONNX: every
//! runtime takes it, and TensorRT joins the new nodes with the first layer or runs them as one small kernel.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Accuracy;
use super::assess::{Outputs, judged, samples_for};
use super::onnx::{Names, float_tensor, int_attribute};
use super::probe::{SampleSource, cpu_engine};
use crate::backend::Engine;
use crate::error::{Error, Result};
use crate::measure::SampleSet;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::tensor_shape_proto::Dimension;
use crate::model::proto::tensor_shape_proto::dimension::Value as Size;
use crate::model::proto::type_proto::{Tensor, Value as Type};
use crate::model::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use crate::model::{DataType, Model, TensorSpec};
use crate::random::Random;

/// What inputs become.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputType {
    /// FP16, as it is.
    F16,
    /// Bytes: the network gets byte times scale plus shift. Each is one number, or one for each channel, which is the
    /// second dimension.
    U8 {
        /// Factors.
        scale: Vec<f32>,
        /// Summands.
        shift: Vec<f32>,
    },
}

impl InputType {
    fn onnx(&self) -> OnnxDataType {
        match self {
            Self::F16 => OnnxDataType::Float16,
            Self::U8 { .. } => OnnxDataType::Uint8,
        }
    }

    /// Checks that each input has a value for every byte.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for no numbers, and for those that are not finite or scale to nothing.
    fn check(&self) -> Result<()> {
        let Self::U8 { scale, shift } = self else { return Ok(()) };
        let is_bad = |name, numbers: &[f32], is_good: fn(f32) -> bool| {
            let bad = numbers.iter().find(|number| !is_good(**number)).map(f32::to_string);
            let bad = bad.or_else(|| numbers.is_empty().then(String::new));
            bad.map(|value| Error::InvalidSetting {
                name,
                value,
                reason: "it has to be a number that tells bytes apart".to_owned(),
            })
        };
        let scale = is_bad("scale", scale, |number| number.is_finite() && number != 0.0);
        let problem = scale.or_else(|| is_bad("shift", shift, f32::is_finite));
        problem.map_or(Ok(()), Err)
    }
}

/// The model with its FP32 inputs in another type, and their names.
///
/// # Errors
/// [`Error::InvalidSetting`] where it has no FP32 input, where numbers for channels do not fit an input's second
/// dimension, and for numbers that are of no use.
pub fn with_inputs(model: &Model, input_type: &InputType) -> Result<(Model, Vec<String>)> {
    input_type.check()?;
    let mut writer = Writer { names: Names::of(model), initializers: Vec::new(), nodes: Vec::new() };
    let mut proto = model.proto().clone();
    let mut changed = Vec::new();
    if let Some(graph) = &mut proto.graph {
        let weights: Vec<String> = graph.initializer.iter().map(|it| it.name().to_owned()).collect();
        for index in 0..graph.input.len() {
            let input = &graph.input[index];
            if is_full(input) && !weights.iter().any(|weight| weight == input.name()) {
                let name = input.name().to_owned();
                check_it_is_no_output(graph, &name)?;
                let inside = writer.converted(input, input_type)?;
                retype(&mut graph.input[index], input_type.onnx());
                rename(graph, &name, &inside);
                changed.push(name);
            }
        }
        graph.initializer.append(&mut writer.initializers);
        graph.node.splice(0..0, writer.nodes);
    }
    if changed.is_empty() {
        return Err(Error::InvalidSetting {
            name: "model",
            value: model.name().to_owned(),
            reason: "it has no FP32 input".to_owned(),
        });
    }
    Ok((Model::from_proto(proto, model.path())?, changed))
}

/// What rounding the inputs costs: the converted model beside the original, both on the `cpu` backend. Samples are the
/// original's, in FP32; random ones are evenly spread over what bytes stand for, so that no more than rounding is seen.
///
/// # Errors
/// Where the backend cannot run one of them, or the samples cannot be read.
pub fn assess_inputs(
    original: &Model,
    converted: &Model,
    input_type: &InputType,
    source: &SampleSource<'_>,
) -> Result<Accuracy> {
    let (exact, rounded) =
        (cpu_engine(original, source.input_shapes)?, cpu_engine(converted, source.input_shapes)?);
    let samples = match (source.path, input_type) {
        (None, InputType::U8 { .. }) => spread_samples(&exact, input_type, source.seed),
        (path, _) => samples_for(&exact, path, source.seed)?,
    };
    let expected = Outputs::for_samples(&exact, &samples)?;
    let got = Outputs::for_samples(&rounded, &rounded_samples(&exact, &rounded, input_type, &samples))?;
    judged("original on the cpu backend".to_owned(), &expected, &got, source.path)
}

/// Random samples of which each number is one that a byte stands for, but for up to half a step.
fn spread_samples(engine: &Arc<dyn Engine>, input_type: &InputType, seed: u64) -> SampleSet {
    const COUNT: usize = 16;
    let signature = engine.signature();
    let mut random = Random::new(seed);
    let even = SampleSet::random(signature, COUNT, seed);
    let input = |(index, spec): (usize, &TensorSpec)| -> Vec<u8> {
        let samples = (0..COUNT).flat_map(|sample| even.sample(index, sample).to_vec());
        if spec.data_type != DataType::F32 {
            return samples.collect();
        }
        let numbers = 0..COUNT * spec.element_count();
        let number = |place| {
            let step = random.unit() * 256.0 - 0.5;
            let (scale, shift) = line(input_type, spec, place);
            rounded_to_f32(step * f64::from(scale) + f64::from(shift)).to_le_bytes()
        };
        numbers.flat_map(number).collect()
    };
    let inputs = signature.inputs.iter().enumerate().map(input).collect();
    SampleSet::of_bytes(signature, COUNT, inputs)
}

#[expect(clippy::cast_possible_truncation, reason = "it rounds, which is wanted")]
fn rounded_to_f32(number: f64) -> f32 {
    number as f32
}

/// The same samples in the inputs' other type.
fn rounded_samples(
    exact: &Arc<dyn Engine>,
    rounded: &Arc<dyn Engine>,
    input_type: &InputType,
    samples: &SampleSet,
) -> SampleSet {
    let specs = exact.signature().inputs.iter().zip(&rounded.signature().inputs).enumerate();
    let input = |(index, (from, to)): (usize, (&TensorSpec, &TensorSpec))| -> Vec<u8> {
        let bytes: Vec<u8> = (0..samples.count()).flat_map(|it| samples.sample(index, it).to_vec()).collect();
        if from.data_type == to.data_type {
            return bytes;
        }
        let numbers = bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four));
        match input_type {
            InputType::F16 => numbers.flat_map(|it| half::f16::from_f32(it).to_le_bytes()).collect(),
            InputType::U8 { .. } => {
                let placed = numbers.enumerate();
                placed.map(|(place, it)| byte(it, line(input_type, from, place))).collect()
            }
        }
    };
    SampleSet::of_bytes(rounded.signature(), samples.count(), specs.map(input).collect())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 255")]
fn byte(number: f32, (scale, shift): (f32, f32)) -> u8 {
    ((number - shift) / scale).round().clamp(0.0, 255.0) as u8
}

/// Scale and shift of the element at this place of the samples of an input.
fn line(input_type: &InputType, spec: &TensorSpec, place: usize) -> (f32, f32) {
    let InputType::U8 { scale, shift } = input_type else { return (1.0, 0.0) };
    // Of a sample, the first dimension is that of the channels.
    let of_channel = spec.shape.iter().skip(1).product::<usize>().max(1);
    let channel = place % spec.element_count().max(1) / of_channel;
    let of = |numbers: &[f32]| if numbers.len() == 1 { numbers[0] } else { numbers[channel] };
    (of(scale), of(shift))
}

struct Writer {
    names: Names,
    initializers: Vec<TensorProto>,
    nodes: Vec<NodeProto>,
}

impl Writer {
    /// Nodes that make FP32 of an input, and the name of what comes out.
    fn converted(&mut self, input: &ValueInfoProto, input_type: &InputType) -> Result<String> {
        let name = input.name();
        let cast = self.node("Cast", &[name], &format!("{name}_fp32"));
        if let Some(node) = self.nodes.last_mut() {
            node.attribute.push(int_attribute("to", OnnxDataType::Float as i64));
        }
        let InputType::U8 { scale, shift } = input_type else { return Ok(cast) };
        let scaled = self.line("Mul", input, (&cast, "scaled"), scale)?;
        self.line("Add", input, (&scaled, "shifted"), shift)
    }

    /// A value times or plus numbers; left out where they change nothing.
    fn line(
        &mut self,
        operator: &str,
        input: &ValueInfoProto,
        (value, made): (&str, &str),
        numbers: &[f32],
    ) -> Result<String> {
        let neutral = if operator == "Mul" { 1.0 } else { 0.0 };
        if numbers.iter().all(|number| *number == neutral) {
            return Ok(value.to_owned());
        }
        let dims = channel_dims(input, numbers.len())?;
        let constant = self.names.fresh(&format!("{}_{}", input.name(), operator.to_lowercase()));
        self.initializers.push(float_tensor(constant.clone(), dims, numbers.iter().copied()));
        Ok(self.node(operator, &[value, &constant], &format!("{}_{made}", input.name())))
    }

    fn node(&mut self, operator: &str, inputs: &[&str], wish: &str) -> String {
        let output = self.names.fresh(wish);
        self.nodes.push(NodeProto {
            name: Some(self.names.fresh(&format!("{output}_{operator}"))),
            op_type: Some(operator.to_owned()),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.clone()],
            ..NodeProto::default()
        });
        output
    }
}

/// The shape of numbers that count for each channel of an input; none for a single number.
fn channel_dims(input: &ValueInfoProto, count: usize) -> Result<Vec<i64>> {
    if count == 1 {
        return Ok(Vec::new());
    }
    let dims: &[Dimension] = tensor(input).and_then(|tensor| tensor.shape.as_ref()).map_or(&[], |it| &it.dim);
    let channels = dims.get(1).and_then(|dim| match dim.value {
        Some(Size::DimValue(channels)) => Some(channels),
        _ => None,
    });
    let count_of_channels = i64::try_from(count).unwrap_or(i64::MAX);
    if channels != Some(count_of_channels) {
        return Err(Error::InvalidSetting {
            name: "scale and shift",
            value: format!("{count} numbers"),
            reason: format!(
                "the second dimension of `{}` is {}: give one number, or one for each of its channels",
                input.name(),
                channels.map_or("not known".to_owned(), |it| it.to_string())
            ),
        });
    }
    let mut shape = vec![1; dims.len()];
    shape[1] = count_of_channels;
    Ok(shape)
}

fn tensor(value: &ValueInfoProto) -> Option<&Tensor> {
    match value.r#type.as_ref()?.value.as_ref()? {
        Type::TensorType(tensor) => Some(tensor),
        _ => None,
    }
}

fn is_full(value: &ValueInfoProto) -> bool {
    tensor(value).is_some_and(|tensor| tensor.elem_type() == OnnxDataType::Float as i32)
}

fn retype(value: &mut ValueInfoProto, to: OnnxDataType) {
    if let Some(Type::TensorType(tensor)) = value.r#type.as_mut().and_then(|it| it.value.as_mut()) {
        tensor.elem_type = Some(to as i32);
    }
}

fn check_it_is_no_output(graph: &GraphProto, name: &str) -> Result<()> {
    if graph.output.iter().all(|output| output.name() != name) {
        return Ok(());
    }
    let reason = "this input is an output too, so it has to keep its type".to_owned();
    Err(Error::InvalidSetting { name: "model", value: name.to_owned(), reason })
}

/// Lets every reader of a value read another one, also in graphs inside of nodes, which may not hide a name.
fn rename(graph: &mut GraphProto, from: &str, to: &str) {
    for node in &mut graph.node {
        node.input.iter_mut().filter(|name| *name == from).for_each(|name| to.clone_into(name));
        let inside = node.attribute.iter_mut().flat_map(|it| it.g.iter_mut().chain(&mut it.graphs));
        inside.for_each(|graph| rename(graph, from, to));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::zoo::Network;

    fn network() -> Model {
        Model::from_proto(Network::MobilenetV2.generate(0), "network.onnx").unwrap()
    }

    fn bytes(scale: &[f32], shift: &[f32]) -> InputType {
        InputType::U8 { scale: scale.to_vec(), shift: shift.to_vec() }
    }

    const NO_SHAPES: &BTreeMap<String, Vec<usize>> = &BTreeMap::new();
    const SOURCE: SampleSource<'_> = SampleSource { input_shapes: NO_SHAPES, path: None, seed: 3 };

    #[test]
    fn bytes_with_a_scale_and_a_shift_for_each_channel_are_what_the_original_gets() {
        let model = network();
        let input_type = bytes(&[0.017, 0.0175, 0.0174], &[-2.1, -2.0, -1.8]);
        let (converted, names) = with_inputs(&model, &input_type).unwrap();
        assert_eq!(names.len(), 1);
        assert_eq!(converted.inputs()[0].data_type, DataType::U8);
        assert_eq!(converted.inputs()[0].name, model.inputs()[0].name);
        let accuracy = assess_inputs(&model, &converted, &input_type, &SOURCE).unwrap();
        // Half a step of 256 in each pixel is nearly averaged away, even by random weights.
        assert!(accuracy.outputs[0].cosine > 0.995, "{accuracy:?}");
        assert!(accuracy.outputs[0].max_relative_error > 0.0, "nothing was rounded: {accuracy:?}");
        let other_channels = bytes(&[0.017, 0.0175, 0.0174], &[1.8, -2.1, -2.0]);
        let (swapped, _) = with_inputs(&model, &other_channels).unwrap();
        let wrong = assess_inputs(&model, &swapped, &input_type, &SOURCE).unwrap();
        assert!(wrong.outputs[0].cosine < accuracy.outputs[0].cosine - 0.005, "{wrong:?}");
    }

    #[test]
    fn half_inputs_lose_no_more_than_eleven_bits_do() {
        let (converted, _) = with_inputs(&network(), &InputType::F16).unwrap();
        assert_eq!(converted.inputs()[0].data_type, DataType::F16);
        let accuracy = assess_inputs(&network(), &converted, &InputType::F16, &SOURCE).unwrap();
        assert!(accuracy.outputs[0].cosine > 0.99999, "{accuracy:?}");
    }

    #[test]
    fn a_scale_of_one_and_no_shift_need_no_nodes() {
        let count = |model: &Model| model.graph().node.len();
        let (plain, _) = with_inputs(&network(), &bytes(&[1.0], &[0.0])).unwrap();
        let (scaled, _) = with_inputs(&network(), &bytes(&[0.5], &[0.0])).unwrap();
        assert_eq!([count(&plain), count(&scaled)], [count(&network()) + 1, count(&network()) + 2]);
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let refusal = |input_type| with_inputs(&network(), &input_type).map(|_| ()).unwrap_err().to_string();
        assert!(
            refusal(bytes(&[1.0, 2.0], &[0.0])).contains("second dimension of `"),
            "{}",
            refusal(bytes(&[1.0, 2.0], &[0.0]))
        );
        assert_eq!(refusal(bytes(&[0.0], &[0.0])), "scale 0: it has to be a number that tells bytes apart");
        let (bytes_already, _) = with_inputs(&network(), &bytes(&[1.0], &[0.0])).unwrap();
        let error = with_inputs(&bytes_already, &InputType::F16).map(|_| ()).unwrap_err();
        assert!(error.to_string().ends_with("it has no FP32 input"), "{error}");
    }
}
