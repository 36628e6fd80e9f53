//! `thalweg model`: a well-known network to try.

use serde_json::json;
use thalweg::model::Model;

use crate::args::ModelArgs;
use crate::output::Output;
use crate::progress::Bar;

pub fn run(args: &ModelArgs, output: &Output) -> anyhow::Result<()> {
    let bar = Bar::spin(format!("writing {}", args.name), output);
    let model = Model::from_proto(args.name.generate(args.seed), &args.output)?;
    let written = model.write(&args.output);
    bar.clear();
    written?;
    output.note(&format!("wrote {}: {}", args.output.display(), args.name.description()));
    let json = || Ok(json!({ "network": args.name.to_string(), "path": args.output }));
    output.result(json, |_| String::new())
}
