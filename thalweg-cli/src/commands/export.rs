//! `thalweg export`: a tuned configuration for another program.

use serde_json::json;
use thalweg::export::export;
use thalweg::files::write_whole;
use thalweg::tune::TunedConfig;

use crate::args::ExportArgs;
use crate::output::Output;

pub fn run(args: &ExportArgs, output: &Output) -> anyhow::Result<()> {
    let text = export(&TunedConfig::read(&args.tuned)?, args.to)?;
    let Some(path) = &args.output else {
        let json = || Ok(json!({ "format": args.to.to_string(), "text": text }));
        return output.result(json, |_| text.clone());
    };
    write_whole(path, text.as_bytes())?;
    let json = || Ok(json!({ "format": args.to.to_string(), "path": path }));
    output.result(json, |_| format!("wrote {}\n", path.display()))
}
