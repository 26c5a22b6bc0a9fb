//! Code blocks of the documentation: `vjepa` blocks pass `check`; in `sh` blocks every line that runs one of the two
//! programs is run (training for two steps).

use vjepa_tests::{root, run, scratch, vjepac, words};

/// The fenced blocks of a Markdown file: (language, text).
fn blocks(markdown: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in markdown.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_string(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

#[test]
fn model_blocks_of_the_readme_pass_check() {
    let mut checked = 0;
    for (i, (language, text)) in blocks(&std::fs::read_to_string(root().join("README.md")).unwrap()).iter().enumerate()
    {
        if language == "vjepa" {
            let dir = scratch();
            // The block's imports are relative to the root of the repository.
            let text = text.replace("from ./", &format!("from {}/", pathdiff(dir.path())));
            let file = dir.path().join(format!("block{i}.vjepa"));
            std::fs::write(&file, text).unwrap();
            vjepac(&format!("check {}", file.display())).succeeded();
            checked += 1;
        }
    }
    assert!(checked >= 2);
}

/// The way from a scratch directory to the root of the repository, as a relative path.
fn pathdiff(from: &std::path::Path) -> String {
    let up = "../".repeat(from.components().count() - 1);
    let down = root().display().to_string();
    format!("{up}{}", down.trim_start_matches('/'))
}

#[test]
fn command_lines_of_the_readme_run() {
    let dir = scratch();
    let mut ran = 0;
    for (language, text) in blocks(&std::fs::read_to_string(root().join("README.md")).unwrap()) {
        if language != "sh" {
            continue;
        }
        for line in text.lines() {
            let line = line.replace("tiny.vjc", &format!("{}/tiny.vjc", dir.path().display()));
            let line = line.replace("runs/", &format!("{}/run-", dir.path().display()));
            let mut words = words(&line);
            if words.first().is_some_and(|w| w == "vjepac" || w == "vjepa-run") {
                let program = words.remove(0);
                if program == "vjepa-run" {
                    words.extend(["--steps".to_string(), "2".to_string()]);
                }
                run(&program, &words).succeeded();
                ran += 1;
            }
        }
    }
    assert!(ran >= 3);
}
