//! The command line as scripts see it: exit codes, what stands on which stream, JSON.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn vjepac(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vjepac")).current_dir(ROOT).args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|e| panic!("{e}: {}\n{}", stdout(output), stderr(output)))
}

/// A folder of its own that is gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("vjepac-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_clean_model_exits_with_zero() {
    let output = vjepac(&["check", "models/tiny.vjepa"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, ""), "{}", stderr(&output));
    let output = vjepac(&["check", "models/tiny.vjepa:tiny", "--json"]);
    assert_eq!(code(&output), 0);
    assert_eq!((&json(&output)["errors"], &json(&output)["diagnostics"]), (&Value::from(0), &Value::Array(vec![])));
}

#[test]
fn errors_exit_with_one_and_stand_where_they_are() {
    let output = vjepac(&["check", "missing.vjepa"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (1, ""));
    assert!(stderr(&output).contains("missing.vjepa"));

    let folder = Folder::new("errors");
    let file = folder.file("m.vjepa", "model m = base with {\n  é = f(dim: 3)\n  a = x ** 2\n}\n");
    let output = vjepac(&["check", &file]);
    assert_eq!((code(&output), stdout(&output).as_str()), (1, ""));
    assert!(stderr(&output).contains("a power is written `a ^ b`"), "{}", stderr(&output));

    let file = folder.file("n.vjepa", "fn f(x) = \"é\" ** x\nmodel m = b +\n");
    let output = vjepac(&["check", &file, "--json"]);
    assert_eq!(code(&output), 1);
    let found = json(&output);
    assert_eq!(found["errors"], Value::from(2));
    let first = &found["diagnostics"][0];
    let place: Vec<i64> =
        ["line", "column", "end_line", "end_column"].iter().map(|k| first[*k].as_i64().unwrap()).collect();
    assert_eq!((first["code"].as_str(), place), (Some("V0005"), vec![1, 15, 1, 17]));
    assert_eq!(first["file"].as_str(), Some(file.as_str()));
}

#[test]
fn a_wrong_command_line_exits_with_two() {
    for args in [
        &["check"][..],
        &["check", "models/tiny.vjepa:nobody"],
        &["check", "models/tiny.vjepa", "--set", "depth"],
        &["keys", "models/masking.vjepa"],
        &["ir", "models/tiny.vjepa", "--stage", "nothing"],
        &["explain", "models/tiny.vjepa", "encodr.depth"],
        &["explain", "V9999"],
    ] {
        let output = vjepac(args);
        assert_eq!((code(&output), stdout(&output).as_str()), (2, ""), "{args:?}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty());
    }
}

#[test]
fn overrides_reach_the_model() {
    let keys = |set: &[&str]| {
        let mut args = vec!["keys", "models/tiny.vjepa", "--json"];
        args.extend(set);
        json(&vjepac(&args)).as_array().unwrap().len()
    };
    assert!(keys(&["--set", "encoder.depth=3"]) < keys(&[]));
    let output = vjepac(&["check", "models/tiny.vjepa", "--set", "encoder.dpth=3"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("dpth"));
}

#[test]
fn compiling_twice_gives_the_same_bytes() {
    let folder = Folder::new("compile");
    let paths = ["a.vjc", "b.vjc"].map(|n| folder.0.join(n));
    for path in &paths {
        let output = vjepac(&["compile", "models/tiny.vjepa", "-o", path.to_str().unwrap()]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    let [a, b] = paths.map(|p| std::fs::read(p).unwrap());
    assert!(!a.is_empty() && a == b);
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 2, "nothing is left beside the program");
}

#[test]
fn keys_settings_and_parts_are_listed() {
    let keys = json(&vjepac(&["keys", "models/tiny.vjepa", "--json"]));
    let first = &keys[0];
    assert!(first["key"].is_string() && first["shape"].is_array() && first["kind"].is_string());
    let settings = json(&vjepac(&["settings", "models/tiny.vjepa", "--set", "train.steps=700", "--json"]));
    let at = |path: &str| settings.as_array().unwrap().iter().find(|s| s["path"] == path).cloned().unwrap_or_default();
    assert_eq!((at("encoder.depth")["value"].as_str(), at("encoder.depth")["line"].as_i64()), (Some("4"), Some(8)));
    assert_eq!(
        (at("train.steps")["value"].as_str(), at("train.steps")["origin"].as_str()),
        (Some("700"), Some("--set"))
    );
    assert_eq!(at("encoder.hidden")["origin"].as_str(), Some("default"));
    let part = json(&vjepac(&["explain", "models/tiny.vjepa", "encoder", "--json"]));
    assert!(part["weights"].as_array().unwrap().len() > 10);
}

#[test]
fn a_model_is_explained_in_numbers() {
    let model = json(&vjepac(&["explain", "models/tiny.vjepa", "--draws", "100", "--json"]));
    assert_eq!(model["tokens"], Value::from(64));
    for mask in model["masks"].as_array().unwrap() {
        let (context, target) =
            (mask["context"]["median"].as_u64().unwrap(), mask["target"]["median"].as_u64().unwrap());
        assert!(context > 0 && target > 0 && context + target <= 64, "{mask}");
    }
}

#[test]
fn every_stage_prints_the_same_text_twice() {
    let stages = ["parse", "elaborate", "init", "draw", "build", "recognise", "differentiate", "optimise", "update"];
    for stage in stages {
        let [a, b] = [0, 1].map(|_| vjepac(&["ir", "models/tiny.vjepa", "--stage", stage]));
        assert_eq!(code(&a), 0, "{stage}: {}", stderr(&a));
        assert!(!a.stdout.is_empty() && a.stdout == b.stdout, "{stage}");
    }
}
