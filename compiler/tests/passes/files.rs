//! The text files beside this one: `PASS.fires.ir` and `PASS.not.ir`.
//!
//! A file starts with `=== tables`, shared by its cases. A case starts with `=== case` and a sentence; the passes up to
//! and including PASS run on it, and the last one must make changes, or none. What must come out of a case that fires
//! stands after `=== after`. With `UPDATE_IR=1` in the environment the files are rewritten: look at the difference.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use vjepac::ir::parse_text::parse_module;
use vjepac::ir::print::print;
use vjepac::ir::verify::verify;
use vjepac::passes::{before_gradient, run_passes, up_to};

use super::world::assert_same;

struct Case<'a> {
    title: &'a str,
    graph: String,
    after: Option<String>,
}

/// Every file in the folder.
#[test]
fn text_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/passes");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "ir"));
    files.sort();
    assert!(!files.is_empty());
    let failed: Vec<String> = files.iter().flat_map(|f| run(f)).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Runs the cases of a file; returns what is wrong.
fn run(file: &Path) -> Vec<String> {
    let name = file.file_name().unwrap().to_str().unwrap();
    let (pass, fires) = match name.strip_suffix(".fires.ir") {
        Some(pass) => (pass, true),
        None => (name.strip_suffix(".not.ir").expect("PASS.fires.ir or PASS.not.ir"), false),
    };
    let passes = up_to(pass).unwrap_or_else(|| panic!("{name}: no pass is called {pass}"));
    let text = std::fs::read_to_string(file).unwrap();
    let (tables_text, mut cases) = split(&text);
    let mut failed = vec![];
    for case in &mut cases {
        let what = format!("{name}: {}", case.title);
        let module = format!("{tables_text}{}", case.graph);
        let (tables, before) = parse_module(&module).unwrap_or_else(|e| panic!("{what}: {e}"));
        verify(&tables, &before).unwrap_or_else(|e| panic!("{what}: {e}"));
        let mut graph = before.clone();
        let changes = run_passes(&tables, &mut graph, passes).last().map_or(0, |c| c.1);
        assert_same(&tables, &before, &graph, &what);
        if fires != (changes > 0) {
            failed.push(format!("{what}: {pass} made {changes} changes"));
        }
        let found = print(&graph);
        if let Some(expected) = &mut case.after
            && *expected != found
        {
            failed.push(format!("{what}: expected\n{expected}found\n{found}"));
            *expected = found;
        }
        let mut whole = before.clone();
        run_passes(&tables, &mut whole, before_gradient());
        assert_same(&tables, &before, &whole, &format!("{what}, all passes"));
    }
    if std::env::var_os("UPDATE_IR").is_some() {
        std::fs::write(file, join(&tables_text, &cases)).unwrap();
    }
    failed
}

fn split(text: &str) -> (String, Vec<Case<'_>>) {
    let (mut tables, mut cases): (String, Vec<Case>) = (String::new(), vec![]);
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("=== case ") {
            cases.push(Case { title, graph: String::new(), after: None });
        } else if line == "=== after" {
            cases.last_mut().expect("a case before `=== after`").after = Some(String::new());
        } else if line != "=== tables" {
            let part = match cases.last_mut() {
                None => &mut tables,
                Some(Case { after: Some(after), .. }) => after,
                Some(case) => &mut case.graph,
            };
            let _ = writeln!(part, "{line}");
        }
    }
    (tables, cases)
}

fn join(tables: &str, cases: &[Case]) -> String {
    let mut text = format!("=== tables\n{tables}");
    for case in cases {
        let _ = write!(text, "=== case {}\n{}", case.title, case.graph);
        if let Some(after) = &case.after {
            let _ = write!(text, "=== after\n{after}");
        }
    }
    text
}
