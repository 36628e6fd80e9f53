//! The shape of the source: which module may use which, how long a file may be, and what none may be called.
//!
//! A module uses another where its code says `crate::x`, in a `use` or in a path. Paths that start with `super`
//! are not followed: they stay inside a module by convention.

mod source_tree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use source_tree::{files_below, workspace_root};

/// Each may use only itself, its own line and the lines above.
const ORDER: [&[&str]; 12] = [
    &["units", "error", "files", "random"],
    &["model"],
    &["backend"],
    &["engine"],
    &["pool"],
    &["measure"],
    &["precision"],
    &["watch"],
    &["capacity"],
    &["diagnose"],
    &["tune"],
    &["report", "export"],
];

/// What `lib.rs` re-exports, and the module it comes from.
const RE_EXPORTS: [(&str, &str); 2] = [("Error", "error"), ("Result", "error")];

/// From here on a file is split.
const MOST_LINES: usize = 600;
/// Generated from ONNX's own definition, so its length is not ours to choose.
const GENERATED: &str = "thalweg/src/model/proto.rs";

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["utils", "helpers", "common", "misc", "core", "types"];

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|group| group.contains(&module))
}

/// The code without comments. A `//` in a string cuts it too: no path to a module comes behind one.
fn without_comments(source: &str) -> String {
    source.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect()
}

/// The first names behind every `crate::`: one, or all of a list in braces.
fn used_modules(source: &str) -> BTreeSet<String> {
    let code = without_comments(source);
    code.match_indices("crate::").flat_map(|(start, path)| first_names(&code[start + path.len()..])).collect()
}

fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(list) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (index, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(name(list[start..index].trim_start()));
                start = index + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    // A list may end with a comma.
    names.retain(|name| !name.is_empty());
    names
}

/// The module of the library that a file of `src` belongs to.
fn module_of(path: &Path) -> String {
    let first = path.components().next().expect("a file has a name");
    Path::new(&first).file_stem().expect("a file has a name").to_string_lossy().into_owned()
}

/// What is wrong with the uses of a file of `module`.
fn violations(module: &str, source: &str) -> Vec<String> {
    let Some(own) = rank(module) else {
        return vec![format!("`{module}` has no place in the order")];
    };
    let wrong = |used: String| {
        let re_export = RE_EXPORTS.iter().find(|(name, _)| *name == used);
        match rank(re_export.map_or(used.as_str(), |(_, module)| module)) {
            Some(rank) if rank <= own => None,
            Some(_) => Some(format!("`{module}` uses `{used}`, which comes after it")),
            None => Some(format!("`{module}` uses `{used}`, which has no place in the order")),
        }
    };
    used_modules(source).into_iter().filter_map(wrong).collect()
}

#[test]
fn modules_use_only_what_comes_before_them() {
    let source = workspace_root().join("thalweg/src");
    let files = files_below(&source);
    let mut found = Vec::new();
    let mut modules = BTreeSet::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|it| it == "rs")) {
        let module = module_of(file);
        if module == "lib" {
            continue;
        }
        let code = std::fs::read_to_string(source.join(file)).unwrap();
        found.extend(violations(&module, &code).into_iter().map(|it| format!("{}: {it}", file.display())));
        modules.insert(module);
    }
    assert!(modules.contains("model") && modules.contains("report"), "only {modules:?} were read");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_use_of_a_later_module_is_found_wherever_it_hides() {
    let source = "\
//! See [`crate::report`].
use crate::{units::{Bytes, Nanos}, tune,};
use crate::{
    error::{Error, Result},
    measure::Load,
};
/// Like `crate::diagnose`.
fn f() -> Result<(), crate::Error> { crate::pool::run() } // crate::engine
";
    let used = used_modules(source);
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["Error", "error", "measure", "pool", "tune", "units"]);
    assert_eq!(violations("tune", source), [""; 0]);
    assert_eq!(violations("measure", source), ["`measure` uses `tune`, which comes after it"]);
    assert_eq!(violations("utils", source), ["`utils` has no place in the order"]);
    let unknown = violations("tune", "use crate::nothing::X;");
    assert_eq!(unknown, ["`tune` uses `nothing`, which has no place in the order"]);
}

#[test]
fn files_are_short_and_their_names_say_what_is_inside() {
    let root = workspace_root();
    let mut found = Vec::new();
    let files = files_below(&root);
    let rust: Vec<_> = files.iter().filter(|file| file.extension().is_some_and(|it| it == "rs")).collect();
    assert!(rust.contains(&&PathBuf::from(GENERATED)), "{GENERATED} is not where it was");
    for file in rust {
        let lines = std::fs::read_to_string(root.join(file)).unwrap().lines().count();
        if lines > MOST_LINES && file != Path::new(GENERATED) {
            found.push(format!("{} has {lines} lines, more than {MOST_LINES}", file.display()));
        }
        let is_empty = |part: &Path| EMPTY_NAMES.iter().any(|name| part.file_stem() == Some(name.as_ref()));
        for name in file.iter().map(Path::new).filter(|part| is_empty(part)) {
            let name = name.display();
            found.push(format!("{}: `{name}` says nothing about what is inside", file.display()));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
