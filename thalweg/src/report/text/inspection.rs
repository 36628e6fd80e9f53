//! The text for a model that was looked at and not run.

use comfy_table::ContentArrangement;

use super::{Fact, Style, Tone, WIDTH, align_numbers, bare_table, facts, lines_of, wrap};
use crate::model::{Batching, CostSummary, InspectedTensor, Inspection, NodeCost, OperatorSummary};
use crate::report::wording::{self, NONE};

/// Rows of the table of operators: real networks have few that matter. The rest is in the JSON.
const OPERATORS_SHOWN: usize = 12;
/// Names of unknown nodes: enough to find them, in few lines.
const UNKNOWN_SHOWN: usize = 5;
/// Characters of a node's name in its table: what leaves room for the widest numbers in 80 columns.
const NODE_WIDTH: usize = 24;
/// As above for its operator and its shape.
const DETAIL_WIDTH: usize = 14;
/// As above for the table of operators: most of ONNX's own names are shorter.
const OPERATOR_WIDTH: usize = 28;

/// What there is to know about a model without running it, as text of at most 80 columns.
pub fn text_of_inspection(inspection: &Inspection, style: Style) -> String {
    let mut text = style.paint_lines(Tone::Bold, &wrap(&verdict(inspection), 80));
    text.push('\n');
    text += &facts(inspection_facts(inspection), style);
    for (role, tensors) in [("input", &inspection.inputs), ("output", &inspection.outputs)] {
        if !tensors.is_empty() {
            text.push('\n');
            text += &tensor_table(role, tensors, style);
        }
    }
    if !inspection.operators.is_empty() {
        text.push('\n');
        text += &operator_table(inspection, style);
    }
    if let Some(cost) = inspection.cost.as_ref().filter(|cost| !cost.most_expensive_nodes.is_empty()) {
        text.push('\n');
        text += &node_table(cost, style);
    }
    text
}

/// `resnet50: 25.5 million parameters, 8.21 GFLOP at batch 1`
fn verdict(inspection: &Inspection) -> String {
    let name = wording::printable(&inspection.name);
    let parameters = wording::magnitude(inspection.parameter_count);
    let cost = inspection.cost.as_ref();
    let cost = cost.map(|it| format!(", {} at batch {}", wording::flops(it.flops), it.batch_size));
    format!("{name}: {parameters} parameters{}", cost.unwrap_or_default())
}

fn inspection_facts(inspection: &Inspection) -> Vec<Fact> {
    let external = if inspection.has_external_data { ", and external data beside it" } else { "" };
    let path = wording::printable(&inspection.path);
    let mut facts = vec![Fact::new("file", format!("{path}, {}{external}", inspection.file_bytes))];
    if !inspection.producer.is_empty() {
        facts.push(Fact::new("producer", wording::printable(&inspection.producer)));
    }
    facts.push(Fact::new("format", format(inspection)));
    facts.push(Fact::new("batch", batching(&inspection.batching)));
    if let Some(cost) = &inspection.cost {
        facts.extend(cost_facts(cost));
    }
    let open = inspection.open_dimension.as_deref();
    facts.extend(open.map(|text| Fact::toned("cost", wording::printable(text), Tone::Warning)));
    facts
}

/// `ONNX IR version 8, ai.onnx 17`
fn format(inspection: &Inspection) -> String {
    let opsets = inspection.opsets.iter().map(|(domain, version)| format!(", {domain} {version}"));
    let opsets = wording::printable(&opsets.collect::<String>());
    format!("ONNX IR version {}{opsets}", inspection.ir_version)
}

fn batching(batching: &Batching) -> String {
    match batching {
        Batching::Any => "any size".to_owned(),
        Batching::Fixed { batch_size } => format!("always {}", wording::count(*batch_size)),
        Batching::Single { reason } => format!("1 only: {}", wording::printable(reason)),
        Batching::Unknown => "not known while dimensions are open".to_owned(),
    }
}

fn cost_facts(cost: &CostSummary) -> Vec<Fact> {
    let moved = format!(
        "{} of weights, {} of activations before fusion and caches",
        cost.weight_bytes, cost.activation_bytes
    );
    let mut facts = vec![Fact::new("moved", moved)];
    let intensity = cost.arithmetic_intensity_flops_per_byte;
    facts.extend(intensity.map(|it| Fact::new("intensity", format!("{} FLOP/byte", wording::number(it)))));
    facts.extend(unknown_nodes(&cost.unknown_nodes).map(|it| Fact::toned("not counted", it, Tone::Warning)));
    facts
}

/// `2 nodes whose operator or shapes are unknown: a, b`
fn unknown_nodes(names: &[String]) -> Option<String> {
    let plural = if names.len() == 1 { "" } else { "s" };
    let shown: Vec<_> = names.iter().take(UNKNOWN_SHOWN).map(|name| tail_of(name, NODE_WIDTH)).collect();
    let more = if names.len() > UNKNOWN_SHOWN { ", …" } else { "" };
    let count = wording::count(names.len());
    let text =
        format!("{count} node{plural} whose operator or shapes are unknown: {}{more}", shown.join(", "));
    (!names.is_empty()).then_some(text)
}

/// Names are wrapped and never cut here: a command may need them.
fn tensor_table(role: &'static str, tensors: &[InspectedTensor], style: Style) -> String {
    let mut table = bare_table();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH);
    table.set_header([role, "type", "declared", "shape"]);
    for tensor in tensors {
        table.add_row([
            wording::printable(&tensor.name),
            tensor.data_type.to_string(),
            wording::printable(&tensor.declared_shape),
            shape(tensor.shape.as_deref()),
        ]);
    }
    painted(&lines_of(&table), style)
}

fn operator_table(inspection: &Inspection, style: Style) -> String {
    let mut table = bare_table();
    table.set_header(["operator", "nodes", "arithmetic", "share", "moved"]);
    let total = inspection.cost.as_ref().map(|cost| cost.flops);
    let shown = inspection.operators.iter().take(OPERATORS_SHOWN);
    shown.for_each(|operator| {
        table.add_row(operator_row(operator, total));
    });
    align_numbers(&mut table, 1..5);
    let text = painted(&lines_of(&table), style);
    match inspection.operators.len().saturating_sub(OPERATORS_SHOWN) {
        0 => text,
        hidden => {
            let plural = if hidden == 1 { "" } else { "s" };
            text + &style
                .paint_lines(Tone::Dim, &format!("and {} more operator{plural}", wording::count(hidden)))
        }
    }
}

fn operator_row(operator: &OperatorSummary, total: Option<u64>) -> [String; 5] {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
    [
        tail_of(&operator.operator, OPERATOR_WIDTH),
        wording::count(operator.count),
        or_none(operator.flops.map(wording::flops)),
        or_none(operator.flops.zip(total).map(|(flops, total)| share(flops, total))),
        or_none(operator.bytes.map(|bytes| bytes.to_string())),
    ]
}

fn node_table(cost: &CostSummary, style: Style) -> String {
    let mut table = bare_table();
    table.set_header(["most arithmetic", "operator", "output", "arithmetic", "share"]);
    for node in &cost.most_expensive_nodes {
        table.add_row(node_row(node, cost.flops));
    }
    align_numbers(&mut table, 3..5);
    painted(&lines_of(&table), style)
}

fn node_row(node: &NodeCost, total: u64) -> [String; 5] {
    [
        tail_of(&node.name, NODE_WIDTH),
        tail_of(&node.operator, DETAIL_WIDTH),
        tail_of(&shape(node.output_shape.as_deref()), DETAIL_WIDTH),
        wording::flops(node.flops),
        share(node.flops, total),
    ]
}

/// `1x3x224x224`, as the command line takes it; `scalar` for a single number.
fn shape(shape: Option<&[usize]>) -> String {
    match shape {
        None => NONE.to_owned(),
        Some([]) => "scalar".to_owned(),
        Some(sizes) => sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("x"),
    }
}

fn share(flops: u64, total: u64) -> String {
    wording::percent(flops as f64 / total as f64)
}

/// The last characters of a name, which tell nodes of the same block apart: `…/layer.11/output/MatMul`.
pub(super) fn tail_of(name: &str, width: usize) -> String {
    let name = wording::printable(name);
    match name.chars().count().checked_sub(width) {
        None | Some(0) => name,
        Some(excess) => "…".chars().chain(name.chars().skip(excess + 1)).collect(),
    }
}

/// The lines of a table with its head dimmed.
fn painted(lines: &[String], style: Style) -> String {
    let (head, rows) = lines.split_at(lines.len().min(1));
    let rows = rows.iter().map(|line| format!("{line}\n"));
    head.iter().map(|line| style.paint(Tone::Dim, line) + "\n").chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::DataType;
    use crate::units::Bytes;

    fn node(name: &str, operator: &str, flops: u64) -> NodeCost {
        NodeCost {
            name: name.into(),
            operator: operator.into(),
            flops,
            output_shape: Some(vec![1, 64, 112, 112]),
            ..NodeCost::default()
        }
    }

    fn tensor(name: &str, declared_shape: &str, shape: &[usize]) -> InspectedTensor {
        InspectedTensor {
            name: name.into(),
            data_type: DataType::F32,
            declared_shape: declared_shape.into(),
            shape: Some(shape.to_vec()),
        }
    }

    fn operator(name: &str, count: usize, flops: u64) -> OperatorSummary {
        OperatorSummary { operator: name.into(), count, flops: Some(flops), bytes: Some(Bytes(3_211_264)) }
    }

    fn inspection() -> Inspection {
        let cost = CostSummary {
            batch_size: 1,
            flops: 240_000_000,
            weight_bytes: Bytes(37_632),
            activation_bytes: Bytes(7_225_344),
            arithmetic_intensity_flops_per_byte: Some(33.045),
            most_expensive_nodes: vec![node("stem", "Conv", 236_027_904), node("stem.relu", "Relu", 802_816)],
            unknown_nodes: vec!["odd one".into()],
        };
        Inspection {
            name: "small".into(),
            path: "models/small.onnx".into(),
            file_bytes: Bytes(38_112),
            has_external_data: false,
            producer: "pytorch 2.4.0".into(),
            ir_version: 8,
            opsets: BTreeMap::from([("ai.onnx".into(), 17), ("com.microsoft".into(), 1)]),
            inputs: vec![tensor("images", "[batch, 3, 224, 224]", &[1, 3, 224, 224])],
            outputs: vec![tensor("features", "[batch, 64, 112, 112]", &[1, 64, 112, 112])],
            batching: Batching::Any,
            parameter_count: 9_408,
            operators: vec![operator("Conv", 1, 236_027_904), operator("Relu", 1, 802_816)],
            cost: Some(cost),
            open_dimension: None,
        }
    }

    #[test]
    fn says_the_size_first_and_then_the_parts() {
        let expected = "\
small: 9,408 parameters, 240 MFLOP at batch 1

file         models/small.onnx, 38.1 kB
producer     pytorch 2.4.0
format       ONNX IR version 8, ai.onnx 17, com.microsoft 1
batch        any size
moved        37.6 kB of weights, 7.23 MB of activations before fusion and caches
intensity    33.0 FLOP/byte
not counted  1 node whose operator or shapes are unknown: odd one

input   type  declared              shape
images  f32   [batch, 3, 224, 224]  1x3x224x224

output    type  declared               shape
features  f32   [batch, 64, 112, 112]  1x64x112x112

operator  nodes  arithmetic   share    moved
Conv          1   236 MFLOP  98.3 %  3.21 MB
Relu          1   803 kFLOP   0.3 %  3.21 MB

most arithmetic  operator  output        arithmetic   share
stem             Conv      1x64x112x112   236 MFLOP  98.3 %
stem.relu        Relu      1x64x112x112   803 kFLOP   0.3 %
";
        assert_eq!(text_of_inspection(&inspection(), Style::Plain), expected);
    }

    #[test]
    fn open_dimensions_are_said_with_the_remedy() {
        let mut inspection = inspection();
        inspection.cost = None;
        inspection.batching = Batching::Unknown;
        inspection.open_dimension = Some("input `images` is [batch, 3, h, w]: give the size".into());
        inspection.inputs[0].shape = None;
        for operator in &mut inspection.operators {
            (operator.flops, operator.bytes) = (None, None);
        }
        let text = text_of_inspection(&inspection, Style::Plain);
        assert!(text.starts_with("small: 9,408 parameters\n"), "{text}");
        assert!(text.contains("cost      input `images` is [batch, 3, h, w]: give the size\n"), "{text}");
        assert!(text.contains("images  f32   [batch, 3, 224, 224]  –\n"), "{text}");
        assert!(!text.contains("most arithmetic"), "{text}");
    }

    #[test]
    fn hostile_names_stay_in_80_columns_and_cannot_drive_the_terminal() {
        let hostile = "\u{1b}[2J/encoder\n".repeat(40);
        let mut inspection = inspection();
        inspection.name.clone_from(&hostile);
        inspection.path.clone_from(&hostile);
        inspection.producer.clone_from(&hostile);
        inspection.opsets.insert(hostile.clone(), i64::MIN);
        inspection.batching = Batching::Single { reason: hostile.clone() };
        inspection.inputs[0] = tensor(&hostile, &hostile, &[usize::MAX; 9]);
        inspection.operators.extend((0..20).map(|_| operator(&hostile, 1_000_000, u64::MAX)));
        let cost = inspection.cost.as_mut().unwrap();
        (cost.flops, cost.weight_bytes) = (u64::MAX, Bytes(u64::MAX));
        cost.unknown_nodes = vec![hostile.clone(); 7];
        cost.most_expensive_nodes[0] = node(&hostile, &hostile, u64::MAX);
        let text = text_of_inspection(&inspection, Style::Plain);
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.contains("and 10 more operators"), "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(tail_of("/layer.11/output/MatMul", 15), "…/output/MatMul");
        assert_eq!(tail_of("short", 5), "short");
    }

    #[test]
    fn nothing_to_compute_has_no_share() {
        assert_eq!(share(0, 0), NONE);
    }
}
