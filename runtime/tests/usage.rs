//! Wrong usage ends with status 2 and says what was expected; wrong files with status 1.

use std::process::Command;

fn run(args: &[&str]) -> (i32, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_vjepa-run")).args(args).output().expect("the program starts");
    (ran.status.code().unwrap_or(-1), String::from_utf8_lossy(&ran.stderr).into_owned())
}

#[test]
fn a_command_that_does_not_exist() {
    let (status, said) = run(&["frobnicate"]);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("frobnicate"), "{said}");
}

#[test]
fn training_without_a_run_directory() {
    let (status, said) = run(&["train", "model.vjc", "--data", "clips"]);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("--out"), "{said}");
}

#[test]
fn a_program_that_is_not_there() {
    let (status, said) = run(&["bench", "nowhere.vjc"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("nowhere.vjc"), "{said}");
}
