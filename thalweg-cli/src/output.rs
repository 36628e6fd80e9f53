//! Where things are printed: results on stdout, all else on stderr, colour and progress only on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use thalweg::report::Style;

use crate::args::OutputArgs;

/// How this run talks to its user.
#[derive(Clone, Copy)]
pub struct Output {
    is_json: bool,
    is_quiet: bool,
}

impl Output {
    pub fn new(args: &OutputArgs) -> Self {
        Self { is_json: args.json, is_quiet: args.quiet }
    }

    /// The result: `text` for people, or `json` where that was asked for.
    pub fn result(
        &self,
        json: impl FnOnce() -> serde_json::Result<Value>,
        text: impl FnOnce(Style) -> String,
    ) -> anyhow::Result<()> {
        let text = if self.is_json {
            serde_json::to_string_pretty(&json()?)? + "\n"
        } else {
            text(style(&io::stdout()))
        };
        print(&text)
    }

    /// A remark for people that is not part of the result.
    pub fn note(&self, text: &str) {
        if !self.is_quiet {
            // Nothing can be said where stderr is closed.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Something that people should know even if they want no remarks.
    #[expect(clippy::unused_self, reason = "it reads like the others, and a quiet warning may come")]
    pub fn warning(&self, text: &str) {
        let _ = writeln!(io::stderr(), "warning: {text}");
    }

    /// The last word of a run that failed: what failed, and each cause.
    #[expect(clippy::unused_self, reason = "it reads like the others")]
    pub fn error(&self, error: &anyhow::Error) {
        let _ = writeln!(io::stderr(), "error: {error:#}");
    }

    /// Names the files that were written.
    pub fn written(&self, folder: &Path, names: &[&str]) {
        self.note(&format!("wrote {} to {}", names.join(", "), folder.display()));
    }

    /// Whether data is wanted instead of text.
    pub fn is_json(&self) -> bool {
        self.is_json
    }

    /// Whether a long work has to say in lines that it goes on.
    pub fn shows_pulse(&self) -> bool {
        !self.is_quiet && !io::stderr().is_terminal()
    }

    /// Whether a progress bar has a place to be.
    pub fn shows_progress(&self) -> bool {
        !self.is_quiet && io::stderr().is_terminal()
    }
}

/// Writes to stdout. A reader that has gone away (`| head`) is no failure.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to stdout"),
    }
}

/// Colour on a terminal, unless `NO_COLOR` is set to anything (<https://no-color.org>).
pub fn style(stream: &impl io::IsTerminal) -> Style {
    let forbids_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if stream.is_terminal() && !forbids_colour { Style::Color } else { Style::Plain }
}
