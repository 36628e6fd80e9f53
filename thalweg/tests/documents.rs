//! Every file and folder that the documents name is there, and every link leads somewhere.
//!
//! A name is text in backticks that ends like a source or text file, or that starts with a folder of ours. It
//! may be given from any folder: `pool/scheduler.rs` is `thalweg/src/pool/scheduler.rs`. Blocks of code, patterns
//! and the user's own files (`model.onnx`, `tuned.json`) are left alone.

mod source_tree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use source_tree::{files_below, workspace_root};

/// Documents beside the workspace's `Cargo.toml`; all of [`FOLDER`] comes on top.
const DOCUMENTS: [&str; 3] = ["ARCHITECTURE.md", "CONVENTIONS.md", "README.md"];
const FOLDER: &str = "docs";

/// Endings of files that only we write: a user's model, configuration or report has others.
const OUR_EXTENSIONS: [&str; 7] = ["rs", "md", "toml", "py", "sh", "yml", "proto"];

/// The files and folders of the workspace, to look names up.
struct Tree {
    /// Files and folders, relative to the workspace.
    paths: BTreeSet<PathBuf>,
}

impl Tree {
    fn of(files: &[PathBuf]) -> Self {
        let paths = files.iter().flat_map(|file| file.ancestors()).filter(|path| *path != Path::new(""));
        Self { paths: paths.map(Path::to_path_buf).collect() }
    }

    /// Whether some file or folder ends like this.
    fn has(&self, name: &str) -> bool {
        self.paths.iter().any(|path| path.ends_with(name.trim_end_matches('/')))
    }

    /// Whether the text can only mean a file or folder of the workspace.
    fn is_claim(&self, text: &str) -> bool {
        let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
        if !is_plain || text.starts_with('/') || text.starts_with("target/") {
            return false;
        }
        // `.rs` by itself is an ending and no file; `Path` sees it the same way.
        let extension = Path::new(text).extension().and_then(|extension| extension.to_str());
        let is_ours = extension.is_some_and(|extension| OUR_EXTENSIONS.contains(&extension));
        let first = text.split_once('/').map(|(first, _)| first);
        is_ours || first.is_some_and(|first| !first.is_empty() && self.has(first))
    }

    /// Links of a document, which lies in this folder, to files below it and to headings of its own that are not there. Those
    /// to the web are left alone.
    fn broken_links(&self, folder: &Path, document: &str) -> Vec<String> {
        let is_broken = |target: &&str| {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            if path.is_empty() {
                !anchors(document).contains(heading)
            } else {
                !self.paths.contains(&folder.join(path))
            }
        };
        links(document)
            .into_iter()
            .filter(|it| !it.contains("://"))
            .filter(is_broken)
            .map(str::to_owned)
            .collect()
    }

    /// The names in a document that are not there.
    fn missing(&self, document: &str) -> Vec<String> {
        let claims = spans(document).into_iter().filter(|text| self.is_claim(text));
        claims.filter(|text| !self.has(text)).map(str::to_owned).collect()
    }
}

/// Lines outside blocks of code.
fn prose(document: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    document.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Text in single backticks.
fn spans(document: &str) -> Vec<&str> {
    prose(document).flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Where links lead, outside of code.
fn links(document: &str) -> Vec<&str> {
    let texts =
        prose(document).filter(|line| !line.starts_with("    ")).flat_map(|line| line.split('`').step_by(2));
    let targets = texts.flat_map(|text| text.split("](").skip(1));
    targets.filter_map(|rest| Some(rest.split_once(')')?.0)).collect()
}

/// Names of a document's headings, as GitHub makes them: small letters, hyphens for spaces, nothing else but digits.
fn anchors(document: &str) -> BTreeSet<String> {
    let name = |heading: &str| -> String {
        let small = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = small.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    prose(document).filter(|line| line.starts_with('#')).map(name).collect()
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let root = workspace_root();
    let files = files_below(&root);
    let tree = Tree::of(&files);
    let is_document = |file: &Path| {
        let is_top = DOCUMENTS.iter().any(|name| file == Path::new(name));
        is_top || (file.starts_with(FOLDER) && file.extension().is_some_and(|it| it == "md"))
    };
    let mut found = Vec::new();
    for file in files.iter().filter(|file| is_document(file)) {
        let document = std::fs::read_to_string(root.join(file)).unwrap();
        let folder = file.parent().unwrap_or(Path::new(""));
        let absent = [tree.missing(&document), tree.broken_links(folder, &document)].concat();
        found.extend(absent.iter().map(|name| format!("{}: {name}", file.display())));
    }
    assert!(found.is_empty(), "named and not there:\n{}", found.join("\n"));
}

#[test]
fn a_name_that_is_not_there_is_found_and_all_else_left_alone() {
    let files = ["Cargo.toml", "thalweg/src/pool/scheduler.rs", "docs/design/engine.md"].map(PathBuf::from);
    let tree = Tree::of(&files);
    let document = "\
`pool/scheduler.rs`, `scheduler.rs`, `thalweg/src`, `docs/design/` and `Cargo.toml` are there;
`model.onnx`, `thalweg tune model.onnx`, `inferences/s`, `docs/*.md`, `/v2/health/ready` and
`nvidia/cuda` are none of ours.
```
cat `gone.rs`
```
`pool/gone.rs`, `gone.md`, `docs/gone` and `chedduler.rs` are missing.
";
    assert_eq!(tree.missing(document), ["pool/gone.rs", "gone.md", "docs/gone", "chedduler.rs"]);
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let tree = Tree::of(&["README.md", "docs/a.md", "docs/b.png"].map(PathBuf::from));
    let document = "\
# What it is: a test
[a](b.png), [web](https://example.org/gone.md) and [here](#what-it-is-a-test) lead somewhere,
`table[offset](implementation)` is code,
    and `so` is table[offset](implementation);
[up](README.md), ![picture](gone.png) and [there](#what-it-was) do not.
";
    let broken = tree.broken_links(Path::new("docs"), document);
    assert_eq!(broken, ["README.md", "gone.png", "#what-it-was"]);
}
