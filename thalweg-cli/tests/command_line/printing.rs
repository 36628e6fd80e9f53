//! What goes to stdout, what to stderr, and in which form.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::models::{CLASSIFIER_SHAPE, classifier, launch};
use crate::program::{Said, Scratch, command, finish, run, start};

const COMMANDS: [&str; 12] = [
    "",
    "doctor",
    "inspect",
    "model",
    "convert",
    "build",
    "accuracy",
    "bench",
    "tune",
    "report",
    "completions",
    "man",
];

/// Columns that help may be wide.
const WIDTH: usize = 100;

/// Runs each command that has a result, in an order in which they can use each other's files.
fn results_of_all(scratch: &Scratch, options: &str) -> Vec<Said> {
    let model = launch(scratch);
    let (bench, tune) = (scratch.path("bench"), scratch.path("tune"));
    let classifier = classifier();
    let runs: [(String, &[&Path]); 7] = [
        ("doctor".to_owned(), &[]),
        (format!("inspect {{}} {CLASSIFIER_SHAPE}"), &[&classifier]),
        ("bench {} --duration 0.5 --warm-up 0 --out {}".to_owned(), &[&model, &bench]),
        ("bench {} --duration 0.5 --warm-up 0 --explain".to_owned(), &[&model]),
        ("tune {} --streams 1 --batch 1,2 --time 2 --out {}".to_owned(), &[&model, &tune]),
        ("report {}".to_owned(), &[&bench]),
        ("report {}".to_owned(), &[&tune]),
    ];
    runs.map(|(line, paths)| run(&format!("{line} {options}"), paths).succeeded()).into()
}

#[test]
fn json_is_all_that_stdout_gets_where_it_was_asked_for() {
    let scratch = Scratch::new();
    for said in results_of_all(&scratch, "--json") {
        assert!(said.json().is_object(), "{said:#?}");
    }
}

#[test]
fn quiet_runs_print_the_result_and_nothing_else() {
    let scratch = Scratch::new();
    for said in results_of_all(&scratch, "--quiet") {
        assert_eq!(said.stderr, "");
        assert!(said.stdout.lines().count() > 2, "{said:#?}");
    }
    let said = run("model launch --quiet -o {}", &[&scratch.path("x.onnx")]).succeeded();
    assert_eq!((said.stdout, said.stderr), (String::new(), String::new()));
}

#[test]
fn pipes_get_neither_colour_nor_progress() {
    let scratch = Scratch::new();
    for said in results_of_all(&scratch, "") {
        assert!(!said.stdout.contains('\x1b') && !said.stderr.contains('\x1b'), "{said:#?}");
        assert!(!said.stderr.contains('\r'), "{said:#?}");
        assert!(said.stdout.lines().count() > 2, "{said:#?}");
    }
}

/// The output of `inspect` on a terminal; `None` where util-linux has no `script`.
fn on_a_terminal(model: &Path, environment: &[(&str, &str)]) -> Option<String> {
    let line = format!("{} inspect {} {CLASSIFIER_SHAPE}", env!("CARGO_BIN_EXE_thalweg"), model.display());
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env_remove("NO_COLOR").env("TERM", "xterm");
    script.envs(environment.iter().copied()).stdin(Stdio::null());
    let output = script.output().ok()?;
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn terminals_get_colour_unless_no_color_is_set() {
    let model = classifier();
    let Some(plain) = on_a_terminal(&model, &[("NO_COLOR", "1")]) else {
        eprintln!("skipped: no `script` to make a terminal");
        return;
    };
    assert!(plain.contains("ppocr_cls"), "{plain}");
    assert!(!plain.contains("\x1b["), "{plain}");
    let coloured = on_a_terminal(&model, &[]).unwrap();
    assert!(coloured.contains("\x1b["), "{coloured}");
    // https://no-color.org: an empty value is as good as none.
    assert!(on_a_terminal(&model, &[("NO_COLOR", "")]).unwrap().contains("\x1b["));
}

#[test]
fn help_of_every_command_fits_a_terminal() {
    for name in COMMANDS {
        let said = run(&format!("{name} --help"), &[]).succeeded();
        assert!(said.stdout.contains("Usage: thalweg"), "{said:#?}");
        for line in said.stdout.lines() {
            assert!(line.chars().count() <= WIDTH, "{name}: {line}");
        }
    }
}

#[test]
fn completions_and_the_manual_know_every_command() {
    let manual = run("man", &[]).succeeded().stdout;
    assert!(manual.contains(".TH thalweg 1"), "{manual}");
    let scripts = ["bash", "zsh", "fish"].map(|shell| run(&format!("completions {shell}"), &[]).succeeded());
    for text in scripts.iter().map(|said| &said.stdout).chain([&manual]) {
        for name in COMMANDS {
            assert!(text.contains(name), "no {name} in {text}");
        }
    }
    assert!(scripts[0].stdout.contains("complete -F _thalweg"), "{:#?}", scripts[0]);
    assert!(scripts[1].stdout.starts_with("#compdef thalweg"), "{:#?}", scripts[1]);
    assert!(scripts[2].stdout.contains("complete -c thalweg"), "{:#?}", scripts[2]);
}

#[test]
fn bash_accepts_the_completion_script() {
    let script = run("completions bash", &[]).succeeded().stdout;
    let scratch = Scratch::new();
    let path = scratch.file("thalweg.bash", script);
    match Command::new("bash").arg("-n").arg(path).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => eprintln!("skipped: no bash"),
    }
}

#[test]
fn the_version_is_named_after_the_program() {
    let said = run("--version", &[]).succeeded();
    assert_eq!(said.stdout, format!("thalweg {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let model = classifier();
    let mut child = start(command(&format!("inspect {{}} {CLASSIFIER_SHAPE}"), &[&model]));
    drop(child.stdout.take());
    let said = finish(child);
    assert_eq!((said.code, said.stderr), (Some(0), String::new()));
}
