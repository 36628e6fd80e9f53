//! BERT base, uncased: J. Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", 2018.
//!
//! Layer normalisation and GELU are written out in plain operators: `LayerNormalization` became an operator
//! with opset 17 only, and TensorRT's parsers before 8.6 do not know it.

use super::graph::{Attribute, Graph, Spread, Tensor};
use crate::model::proto::tensor_proto::DataType as OnnxDataType;

const LAYERS: usize = 12;
const HIDDEN: i64 = 768;
const HEADS: i64 = 12;
const HEAD_SIZE: i64 = HIDDEN / HEADS;
const INTERMEDIATE: i64 = 3072;
const VOCABULARY: i64 = 30_522;
const MAX_POSITIONS: i64 = 512;
const SEGMENTS: i64 = 2;
/// Tokens of one sample.
const SEQUENCE: i64 = 128;

/// `initializer_range` of the published configuration.
const SPREAD: Spread = Spread::around(0.0, 0.02);
/// Normalisation starts out as the identity; spread a little, so that a lost scale would show.
const SCALE_SPREAD: Spread = Spread::around(1.0, 0.02);
/// The published 1e-12 is zero in FP16; this is not.
const NORM_EPSILON: f32 = 1e-5;
/// Added to the scores of padding. FP16 holds it, unlike the lowest FP32 number, and `exp` makes 0 of it.
const MASKED_SCORE: f32 = -10_000.0;

/// Writes the network: 109,482,240 parameters, as published.
pub(super) fn bert_base() -> Graph {
    let mut bert = Bert::new();
    let input_ids = bert.graph.input("input_ids", OnnxDataType::Int64, &[SEQUENCE]);
    let attention_mask = bert.graph.input("attention_mask", OnnxDataType::Int64, &[SEQUENCE]);
    let token_type_ids = bert.graph.input("token_type_ids", OnnxDataType::Int64, &[SEQUENCE]);
    let mask = bert.mask(&attention_mask);
    let mut x = bert.embed(&input_ids, &token_type_ids);
    for layer in 0..LAYERS {
        let attended = bert.attention(&format!("layer{layer}.attention"), &x, &mask);
        x = bert.add_and_norm(&format!("layer{layer}.attention.norm"), &attended, &x);
        let transformed = bert.feed_forward(&format!("layer{layer}"), &x);
        let name = if layer + 1 == LAYERS { "last_hidden_state" } else { &format!("layer{layer}.norm") };
        x = bert.add_and_norm(name, &transformed, &x);
    }
    bert.graph.output(&x, &[SEQUENCE, HIDDEN]);
    let pooled = bert.pool(&x);
    bert.graph.output(&pooled, &[HIDDEN]);
    bert.graph
}

/// The graph and the constants that all layers share.
struct Bert {
    graph: Graph,
    one: Tensor,
    two: Tensor,
    half: Tensor,
    root_two: Tensor,
    epsilon: Tensor,
    score_scale: Tensor,
    masked_score: Tensor,
    heads_shape: Tensor,
    hidden_shape: Tensor,
}

impl Bert {
    fn new() -> Self {
        let mut graph = Graph::new("bert_base");
        Self {
            one: graph.scalar("one", 1.0),
            two: graph.scalar("two", 2.0),
            half: graph.scalar("half", 0.5),
            root_two: graph.scalar("root_two", std::f32::consts::SQRT_2),
            epsilon: graph.scalar("norm_epsilon", NORM_EPSILON),
            score_scale: graph.scalar("score_scale", 1.0 / (HEAD_SIZE as f32).sqrt()),
            masked_score: graph.scalar("masked_score", MASKED_SCORE),
            // 0 stands for the input's own size, so the batch stays open.
            heads_shape: graph.integers("heads_shape", &[0, SEQUENCE, HEADS, HEAD_SIZE]),
            hidden_shape: graph.integers("hidden_shape", &[0, SEQUENCE, HIDDEN]),
            graph,
        }
    }

    fn linear(&mut self, name: &str, input: &Tensor, inputs: i64, outputs: i64) -> Tensor {
        let weight = self.graph.weights(&format!("{name}.weight"), &[inputs, outputs], SPREAD);
        let bias = self.graph.weights(&format!("{name}.bias"), &[outputs], SPREAD);
        let product = self.graph.apply(&format!("{name}.matmul"), "MatMul", &[input, &weight]);
        self.graph.apply(name, "Add", &[&product, &bias])
    }

    /// What is added to the scores: 0 where `attention_mask` is 1, [`MASKED_SCORE`] where it is 0.
    fn mask(&mut self, attention_mask: &Tensor) -> Tensor {
        let float = ("to", Attribute::Int(OnnxDataType::Float as i64));
        let mask = self.graph.node("mask.float", "Cast", &[attention_mask], &[float]);
        let mask = self.graph.reshape("mask.reshape", &mask, &[1, 1, SEQUENCE]);
        let padding = self.graph.apply("mask.padding", "Sub", &[&self.one, &mask]);
        self.graph.apply("mask", "Mul", &[&padding, &self.masked_score])
    }

    fn embed(&mut self, input_ids: &Tensor, token_type_ids: &Tensor) -> Tensor {
        let words = self.lookup("embeddings.word", VOCABULARY, input_ids);
        let segments = self.lookup("embeddings.token_type", SEGMENTS, token_type_ids);
        let table = self.graph.weights("embeddings.position.weight", &[MAX_POSITIONS, HIDDEN], SPREAD);
        let starts = self.graph.integers("embeddings.position.starts", &[0]);
        let ends = self.graph.integers("embeddings.position.ends", &[SEQUENCE]);
        let axes = self.graph.integers("embeddings.position.axes", &[0]);
        let positions = self.graph.apply("embeddings.position", "Slice", &[&table, &starts, &ends, &axes]);
        let sum = self.graph.apply("embeddings.word_and_token_type", "Add", &[&words, &segments]);
        self.add_and_norm("embeddings", &sum, &positions)
    }

    fn lookup(&mut self, name: &str, rows: i64, indices: &Tensor) -> Tensor {
        let table = self.graph.weights(&format!("{name}.weight"), &[rows, HIDDEN], SPREAD);
        self.graph.node(name, "Gather", &[&table, indices], &[("axis", Attribute::Int(0))])
    }

    fn attention(&mut self, name: &str, input: &Tensor, mask: &Tensor) -> Tensor {
        let query = self.heads(&format!("{name}.query"), input, &[0, 2, 1, 3]);
        let key = self.heads(&format!("{name}.key"), input, &[0, 2, 3, 1]);
        let value = self.heads(&format!("{name}.value"), input, &[0, 2, 1, 3]);
        let scores = self.graph.apply(&format!("{name}.scores"), "MatMul", &[&query, &key]);
        let scores = self.graph.apply(&format!("{name}.scores.scaled"), "Mul", &[&scores, &self.score_scale]);
        let scores = self.graph.apply(&format!("{name}.scores.masked"), "Add", &[&scores, mask]);
        let last_axis = ("axis", Attribute::Int(-1));
        let shares = self.graph.node(&format!("{name}.softmax"), "Softmax", &[&scores], &[last_axis]);
        let context = self.graph.apply(&format!("{name}.context"), "MatMul", &[&shares, &value]);
        let merge = ("perm", Attribute::Ints(&[0, 2, 1, 3]));
        let context = self.graph.node(&format!("{name}.merge"), "Transpose", &[&context], &[merge]);
        let context =
            self.graph.apply(&format!("{name}.reshape"), "Reshape", &[&context, &self.hidden_shape]);
        self.linear(&format!("{name}.output"), &context, HIDDEN, HIDDEN)
    }

    /// A linear layer, split into heads; `permutation` is of `[batch, token, head, feature]`.
    fn heads(&mut self, name: &str, input: &Tensor, permutation: &[i64]) -> Tensor {
        let x = self.linear(name, input, HIDDEN, HIDDEN);
        let x = self.graph.apply(&format!("{name}.reshape"), "Reshape", &[&x, &self.heads_shape]);
        let permutation = ("perm", Attribute::Ints(permutation));
        self.graph.node(&format!("{name}.heads"), "Transpose", &[&x], &[permutation])
    }

    fn feed_forward(&mut self, name: &str, input: &Tensor) -> Tensor {
        let x = self.linear(&format!("{name}.intermediate"), input, HIDDEN, INTERMEDIATE);
        let x = self.gelu(&format!("{name}.gelu"), &x);
        self.linear(&format!("{name}.output"), &x, INTERMEDIATE, HIDDEN)
    }

    /// x/2 (1 + erf(x/√2)): D. Hendrycks and K. Gimpel, "Gaussian Error Linear Units", 2016.
    fn gelu(&mut self, name: &str, x: &Tensor) -> Tensor {
        let scaled = self.graph.apply(&format!("{name}.scaled"), "Div", &[x, &self.root_two]);
        let erf = self.graph.apply(&format!("{name}.erf"), "Erf", &[&scaled]);
        let raised = self.graph.apply(&format!("{name}.raised"), "Add", &[&erf, &self.one]);
        let doubled = self.graph.apply(&format!("{name}.doubled"), "Mul", &[x, &raised]);
        self.graph.apply(name, "Mul", &[&doubled, &self.half])
    }

    /// Layer normalisation of a sum: J. Ba et al., "Layer Normalization", 2016.
    fn add_and_norm(&mut self, name: &str, branch: &Tensor, input: &Tensor) -> Tensor {
        let scale = self.graph.weights(&format!("{name}.scale"), &[HIDDEN], SCALE_SPREAD);
        let shift = self.graph.weights(&format!("{name}.shift"), &[HIDDEN], SPREAD);
        let sum = self.graph.apply(&format!("{name}.add"), "Add", &[branch, input]);
        let mean = self.mean(&format!("{name}.mean"), &sum);
        let centred = self.graph.apply(&format!("{name}.centred"), "Sub", &[&sum, &mean]);
        let squares = self.graph.apply(&format!("{name}.squares"), "Pow", &[&centred, &self.two]);
        let variance = self.mean(&format!("{name}.variance"), &squares);
        let safe = self.graph.apply(&format!("{name}.safe"), "Add", &[&variance, &self.epsilon]);
        let deviation = self.graph.apply(&format!("{name}.deviation"), "Sqrt", &[&safe]);
        let unit = self.graph.apply(&format!("{name}.unit"), "Div", &[&centred, &deviation]);
        let scaled = self.graph.apply(&format!("{name}.scaled"), "Mul", &[&unit, &scale]);
        self.graph.apply(name, "Add", &[&scaled, &shift])
    }

    fn mean(&mut self, name: &str, input: &Tensor) -> Tensor {
        let attributes = [("axes", Attribute::Ints(&[-1])), ("keepdims", Attribute::Int(1))];
        self.graph.node(name, "ReduceMean", &[input], &attributes)
    }

    /// The first token's state through one more layer.
    fn pool(&mut self, hidden: &Tensor) -> Tensor {
        let first = self.graph.integers("pooler.first", &[0]);
        let token =
            self.graph.node("pooler.token", "Gather", &[hidden, &first], &[("axis", Attribute::Int(1))]);
        let token = self.graph.reshape("pooler.reshape", &token, &[HIDDEN]);
        let x = self.linear("pooler.linear", &token, HIDDEN, HIDDEN);
        self.graph.apply("pooled", "Tanh", &[&x])
    }
}
