//! Tests across the compiler and the runtime live in `tests/`; this library holds what they share.
//!
//! They run the two programs as a user does, through their command lines, so that the insides can change.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_path_buf()
}

/// One of the workspace's programs, as built beside this test.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let path = test.parent().and_then(Path::parent).expect("tests run in target/PROFILE/deps").join(name);
    assert!(path.exists(), "{} is missing: run `cargo test --workspace`, which builds it", path.display());
    path
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit status.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Fails the test, showing what was printed, unless the program succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Ran {
        assert_eq!(self.status, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless the program ended with this status and said each of these on standard error.
    #[track_caller]
    pub fn failed(self, status: i32, says: &[&str]) -> Ran {
        assert_eq!(self.status, status, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        for text in says {
            assert!(self.stderr.contains(text), "`{text}` is not in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "it panicked:\n{}", self.stderr);
        self
    }
}

/// Runs `vjepac` or `vjepa-run` in the root of the repository.
pub fn run<S: AsRef<std::ffi::OsStr>>(name: &str, args: &[S]) -> Ran {
    let Output { status, stdout, stderr } =
        Command::new(program(name)).args(args).current_dir(root()).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { status: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
}

/// Splits a command line as written in the tests: blanks separate, `'...'` keeps blanks.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Runs `vjepac` with a command line.
pub fn vjepac(line: &str) -> Ran {
    run("vjepac", &words(line))
}

/// Runs `vjepa-run` with a command line.
pub fn vjepa_run(line: &str) -> Ran {
    run("vjepa-run", &words(line))
}

/// A directory that goes away with the test.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

/// The settings that shrink `tiny` to something that trains in a debug build.
pub const SHRINK: &str = "--set clip.frames=4 --set clip.size=32 --set encoder.patch=8 --set encoder.dim=24 \
                          --set encoder.depth=1 --set encoder.heads=2 --set predictor.dim=12 --set predictor.depth=1 \
                          --set train.batch=4 --set train.group=2 --set train.warmup=2 --set train.steps=40";

/// Compiles the shrunk `tiny` to `DIR/tiny.vjc` and returns its path.
pub fn shrunk_tiny(dir: &Path) -> PathBuf {
    let out = dir.join("tiny.vjc");
    vjepac(&format!("compile models/tiny.vjepa:tiny {SHRINK} -o {}", out.display())).succeeded();
    out
}
