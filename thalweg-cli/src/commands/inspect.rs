//! `thalweg inspect`: what a model takes, gives and costs.

use thalweg::model::{Inspection, Model};
use thalweg::report;

use super::input_shapes;
use crate::args::InspectArgs;
use crate::output::Output;

pub fn run(args: &InspectArgs, output: &Output) -> anyhow::Result<()> {
    let model = Model::read(&args.model)?;
    let inspection = Inspection::of(&model, &input_shapes(&args.shapes), args.batch)?;
    output
        .result(|| serde_json::to_value(&inspection), |style| report::text_of_inspection(&inspection, style))
}
