//! What users get wrong: one clear message naming the place and the cure, exit status 1 (2 for usage), nothing half-written.

use std::fs;

use vjepa_tests::{scratch, shrunk_tiny, vjepa_run, vjepac};

#[test]
fn a_file_that_does_not_parse() {
    let dir = scratch();
    let (file, out) = (dir.path().join("broken.vjepa"), dir.path().join("broken.vjc"));
    fs::write(&file, "model m {\n  clip = video(frames = 8\n}\n").unwrap();
    vjepac(&format!("compile {} -o {}", file.display(), out.display())).failed(1, &["error[V0", "broken.vjepa:"]);
    assert!(!out.exists());
}

#[test]
fn an_unknown_setting() {
    vjepac("check models/tiny.vjepa --set encoder.deph=2").failed(1, &["V0101", "deph", "depth"]);
}

#[test]
fn sizes_that_do_not_fit() {
    vjepac("check models/tiny.vjepa --set encoder.heads=5").failed(1, &["do not split evenly into 5 heads"]);
    vjepac("check models/tiny.vjepa --set encoder.patch=15").failed(1, &["whole number"]);
}

#[test]
fn a_missing_file_and_wrong_usage() {
    vjepac("check models/none.vjepa").failed(1, &["models/none.vjepa"]);
    vjepac("frobnicate models/tiny.vjepa").failed(2, &[]);
    vjepac("compile models/masking.vjepa -o /dev/null").failed(2, &["masking.vjepa:"]);
}

#[test]
fn lists_and_folders_without_videos() {
    let dir = scratch();
    let program = shrunk_tiny(dir.path());
    let (list, empty, out) = (dir.path().join("list.csv"), dir.path().join("empty"), dir.path().join("run"));
    fs::write(&list, "nowhere/a.mp4 0\nnowhere/b.mp4 1\n").unwrap();
    fs::create_dir(&empty).unwrap();
    let train = |data: &std::path::Path| {
        vjepa_run(&format!("train {} --data {} --out {}", program.display(), data.display(), out.display()))
    };
    train(&list).failed(1, &["list.csv", "nowhere/a.mp4"]);
    train(&empty).failed(1, &["empty"]);
    assert!(!out.join("metrics.jsonl").exists(), "a run was started");
}

#[test]
fn an_unwritable_run_directory() {
    let dir = scratch();
    let program = shrunk_tiny(dir.path());
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let out = file.join("run");
    vjepa_run(&format!("train {} --data examples/clips --out {}", program.display(), out.display()))
        .failed(1, &["file"]);
}

#[test]
fn a_program_of_another_version_or_cut_short() {
    let dir = scratch();
    let program = shrunk_tiny(dir.path());
    let bytes = fs::read(&program).unwrap();
    let try_bytes = |bytes: &[u8], says: &[&str]| {
        let path = dir.path().join("other.vjc");
        fs::write(&path, bytes).unwrap();
        let out = dir.path().join("run");
        vjepa_run(&format!("train {} --data examples/clips --out {}", path.display(), out.display())).failed(1, says);
        assert!(!out.exists(), "a run directory was made");
    };
    try_bytes(&bytes[..bytes.len() / 2], &["other.vjc", "cut short", "compile"]);
    try_bytes(b"", &["not a compiled model"]);
    let newer = String::from_utf8(bytes.clone()).unwrap().replacen("vjepac program 1", "vjepac program 9", 1);
    try_bytes(newer.as_bytes(), &["format 9"]);
    let mut damaged = bytes;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    try_bytes(&damaged, &["damaged"]);
}
