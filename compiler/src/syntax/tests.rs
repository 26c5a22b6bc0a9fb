use super::*;
use crate::diag::Diagnostic;
use crate::source::Sources;

fn parse_text(text: &str) -> (Sources, Result<ast::Ast, Vec<Diagnostic>>) {
    let mut sources = Sources::default();
    let file = sources.add("test.vjepa", text);
    let ast = parse(&sources, file);
    (sources, ast)
}

/// Code, blamed text, message and label of every error.
fn errors(text: &str) -> Vec<String> {
    let (sources, result) = parse_text(text);
    let errors = result.expect_err("expected errors");
    let line = |e: &Diagnostic| {
        format!("{} `{}` {} | {}", e.code, sources.text(e.labels[0].span), e.message, e.labels[0].text)
    };
    errors.iter().map(line).collect()
}

#[test]
fn settings_use_equals() {
    assert_eq!(
        errors("model m = a with { a = f(dim: 3) }"),
        ["V0001 `dim: 3` settings are passed with `=`, not `:` | write `dim = ...`"]
    );
}

#[test]
fn every_model_and_library_file_parses() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    for folder in ["std", "../models"] {
        for entry in std::fs::read_dir(format!("{root}{folder}")).unwrap() {
            let path = entry.unwrap().path();
            let (_, result) = parse_text(&std::fs::read_to_string(&path).unwrap());
            assert!(result.is_ok(), "{}: {:?}", path.display(), result.err());
        }
    }
}
