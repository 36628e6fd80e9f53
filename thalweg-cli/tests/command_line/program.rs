//! Runs the program and looks at what it said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest time to wait for something that takes a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of one test, removed when it ends.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("command-line-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file and gives its path.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Names of all that is in a folder of it, hidden files too.
    pub fn names_in(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a run said and left.
#[derive(Debug)]
pub struct Said {
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The program with arguments, split at spaces; `{}` is replaced by the next of `paths`.
pub fn command(line: &str, paths: &[&Path]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
    let mut paths = paths.iter();
    for word in line.split_whitespace() {
        match word {
            "{}" => command.arg(paths.next().expect("a path for each {}")),
            word => command.arg(word),
        };
    }
    assert!(paths.next().is_none(), "more paths than {{}} in {line}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub fn run(line: &str, paths: &[&Path]) -> Said {
    finish(start(command(line, paths)))
}

pub fn start(mut command: Command) -> Child {
    command.spawn().unwrap()
}

pub fn finish(child: Child) -> Said {
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Asks the process to end as Ctrl-C does.
pub fn interrupt(child: &Child) {
    signal(child, "INT");
}

/// Sends it a signal.
pub fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// Waits until something holds; fails where the process ends before.
pub fn wait_until(child: &mut Child, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before {what}");
        assert!(start.elapsed() < PATIENCE, "no {what} in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

impl Said {
    /// It worked; gives itself back.
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// It failed with this exit code and one error that holds all these phrases.
    pub fn refused(self, code: i32, phrases: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert_eq!(self.stdout, "", "an error leaves nothing on stdout");
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert!(self.stderr.starts_with("error: ") && errors == 1, "{self:#?}");
        // What follows is how to use it, and only there.
        let is_one_line = self.stderr.lines().count() == 1;
        assert!(is_one_line || self.stderr.ends_with("try '--help'.\n"), "{self:#?}");
        for phrase in phrases {
            assert!(self.stderr.contains(phrase), "no `{phrase}` in {}", self.stderr);
        }
        for machinery in ["panicked", "backtrace", "unwrap", "Error {", "Some("] {
            assert!(!self.stderr.contains(machinery), "`{machinery}` in {}", self.stderr);
        }
    }

    /// All of stdout is one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}
