//! Code blocks of the documentation.
//!
//! A `vjepa` block passes `check`, or is marked with a code (`vjepa V0204`) and fails, or is warned of, with it; one marked with a file
//! (`vjepa mine.vjepa`) is that file for the commands of its page. In `sh` blocks every line that runs one of the two
//! programs is run, training for two steps. Imports are relative to the root of the repository.

use std::path::Path;

use vjepa_tests::{root, run, scratch, vjepac, words};

/// A fenced block of a Markdown file.
struct Block {
    language: String,
    mark: Option<String>,
    line: usize,
    text: String,
}

fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (i, line) in markdown.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let mut info = info.split_whitespace().map(str::to_string);
                let (language, mark) = (info.next().unwrap_or_default(), info.next());
                open = Some(Block { language, mark, line: i + 1, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// The way from a directory to the root of the repository, as a relative path.
fn to_root(from: &Path) -> String {
    let up = "../".repeat(from.components().count() - 1);
    format!("{up}{}", root().display().to_string().trim_start_matches('/'))
}

/// Checks every block of a page: how many models passed, failed as they should, and command lines ran.
fn page(path: &str) -> (usize, usize, usize) {
    let dir = scratch();
    let here = |name: &str| dir.path().join(name).display().to_string();
    let (mut passed, mut failed, mut ran) = (0, 0, 0);
    for block in blocks(&std::fs::read_to_string(root().join(path)).unwrap()) {
        let at = format!("{path}:{}", block.line);
        match (block.language.as_str(), &block.mark) {
            ("vjepa", mark) => {
                let text = block.text.replace("from ./", &format!("from {}/", to_root(dir.path())));
                let name =
                    mark.clone().filter(|m| m.ends_with(".vjepa")).unwrap_or(format!("line{}.vjepa", block.line));
                std::fs::write(dir.path().join(&name), text).unwrap();
                let ran = vjepac(&format!("check {}", here(&name)));
                match mark.as_deref().filter(|m| !m.ends_with(".vjepa")) {
                    None => {
                        assert!(ran.status == 0, "{at}: {}", ran.stderr);
                        passed += 1;
                    }
                    Some(code) => {
                        let kind = if ran.status == 0 { "warning" } else { "error" };
                        assert!(ran.stderr.contains(&format!("{kind}[{code}]")), "{at} is not {code}: {}", ran.stderr);
                        failed += 1;
                    }
                }
            }
            ("sh", _) => {
                for line in block.text.lines() {
                    let place = |word: String| {
                        let own = word.ends_with(".vjc") || word.starts_with("runs/");
                        let written = word.ends_with(".vjepa") && dir.path().join(&word).exists();
                        if own || written { here(&word.replace("runs/", "run-")) } else { word }
                    };
                    let mut words: Vec<String> = words(line).into_iter().map(place).collect();
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
            _ => {}
        }
    }
    (passed, failed, ran)
}

#[test]
fn the_readme() {
    let (passed, _, ran) = page("README.md");
    assert!(passed >= 2 && ran >= 4, "{passed} {ran}");
}

#[test]
fn the_language_reference() {
    let (passed, failed, _) = page("grammar/README.md");
    assert!(passed >= 9 && failed >= 5, "{passed} {failed}");
}

#[test]
fn the_tutorial() {
    for name in ["1-a-size", "2-a-block", "3-a-mask"] {
        let (passed, failed, ran) = page(&format!("grammar/tutorial/{name}.md"));
        assert!(passed >= 1 && failed >= 1 && ran >= 1, "{name}: {passed} {failed} {ran}");
    }
}
