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

/// The only error of `fn f(x) = text`.
fn error_in(text: &str) -> String {
    let mut all = errors(&format!("fn f(x) = {text}"));
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn expr(text: &str) -> std::rc::Rc<ast::Expr> {
    let mut sources = Sources::default();
    let file = sources.add("test", text);
    parse_expr(&sources, file).unwrap_or_else(|e| panic!("{text}: {e:?}"))
}

/// A tree without its spans.
fn bare(tree: &impl std::fmt::Debug) -> String {
    let text = format!("{tree:?}");
    let mut parts = text.split("Span { file:");
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        out.push_str(part.split_once('}').map_or(part, |p| p.1));
    }
    out
}

/// Every `.vjepa` file of the repository's library, models and test corpus.
fn all_files() -> Vec<(String, String)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let mut files = vec![];
    for folder in ["std", "../models", "../examples/variants", "../tests/corpus"] {
        for entry in std::fs::read_dir(format!("{root}{folder}")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "vjepa") {
                files.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    assert!(files.len() > 20, "the corpus is missing");
    files
}

#[test]
fn every_file_parses_and_prints_to_the_same_tree() {
    for (path, text) in all_files() {
        let (_, ast) = parse_text(&text);
        let ast = ast.unwrap_or_else(|e| panic!("{path}: {e:?}"));
        let printed = print::print_ast(&ast);
        let (_, again) = parse_text(&printed);
        let again = again.unwrap_or_else(|e| panic!("{path}: {e:?}\n{printed}"));
        assert_eq!(bare(&ast.imports), bare(&again.imports), "{path}");
        assert_eq!(bare(&ast.defs), bare(&again.defs), "{path}\n{printed}");
        assert_eq!(printed, print::print_ast(&again), "{path}");
    }
}

#[test]
fn spans_end_at_the_last_token() {
    let text = "fn f(x) = x + 1   # comment\n\n## about g\n##  more\nfn g(x) = f(x) # end\n";
    let (sources, ast) = parse_text(text);
    let ast = ast.unwrap();
    assert_eq!(sources.text(ast.defs[0].span), "fn f(x) = x + 1");
    assert_eq!(sources.text(ast.defs[1].span), "fn g(x) = f(x)");
    assert_eq!((ast.defs[0].doc.as_deref(), ast.defs[1].doc.as_deref()), (None, Some("about g\n more")));
}

#[test]
fn precedence_is_that_of_the_reference() {
    for (text, same) in [
        ("a if b else c if d else e", "a if b else (c if d else e)"),
        ("a -> b over n then c over m", "((a -> b) over n) then (c over m)"),
        ("a or b and not c == d", "a or (b and (not (c == d)))"),
        ("a in b..c ++ d", "a in (b..(c ++ d))"),
        ("0..=rows - h", "0..=(rows - h)"),
        ("a - b - c * d / e", "(a - b) - ((c * d) / e)"),
        ("-a ^ b ^ c", "-(a ^ (b ^ c))"),
        ("a * -b + c", "(a * (-b)) + c"),
        ("base ^ -(p / pair)", "base ^ (-(p / pair))"),
        ("-f(x)[a -> b].c", "-(((f(x))[a -> b]).c)"),
        ("a + b over c", "(a + b) over c"),
    ] {
        assert_eq!(bare(&expr(text)), bare(&expr(same)), "{text}");
    }
    assert_ne!(bare(&expr("a -> b -> c")), bare(&expr("(a -> b) -> c")));
}

#[test]
fn numbers_have_values_units_and_wholeness() {
    for (text, value, whole, unit) in [
        ("90_000", 90_000.0, true, None),
        ("15%", 0.15, false, None),
        ("16 px", 16.0, true, Some("px")),
        ("6.25e-4", 6.25e-4, false, None),
        ("1.0", 1.0, false, None),
    ] {
        match &expr(text).kind {
            ast::ExprKind::Number { value: v, whole: w, unit: u } => {
                assert_eq!((*v, *w, u.as_ref().map(|u| &*u.text)), (value, whole, unit));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn printed_trees_keep_their_shape() {
    // Random expressions with parentheses everywhere, so that the printer has to decide which to keep.
    let mut seed = 7_u64;
    let mut next = move |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    fn make(next: &mut impl FnMut(u64) -> u64, depth: u64) -> String {
        let signs =
            ["then", "over", "or", "and", "==", "<", "in", "..", "..=", "++", "+", "-", "*", "/", "%", "^", "->"];
        if depth == 0 {
            return ["a", "3", "2.5", "15%", "16 px", "1e-9", "\"t\\n\"", "none"][next(8) as usize].to_owned();
        }
        let mut sub = || make(next, depth - 1);
        let (a, b, c) = (sub(), sub(), sub());
        match next(9) {
            0 => format!("(-{a})"),
            1 => format!("(not {a})"),
            2 => format!("({a} if {b} else {c})"),
            3 => format!("f({a}, k = {b})"),
            4 => format!("({a})[{b} -> {c}].d"),
            5 => format!("[{a} for i in {b}, z ~ {c}]"),
            6 => format!("(p: {a}, {b})"),
            _ => format!("(({a}) {} ({b}))", signs[next(17) as usize]),
        }
    }
    for _ in 0..400 {
        let text = make(&mut next, 4);
        let tree = expr(&text);
        let printed = print::print_expr(&tree);
        assert_eq!(bare(&tree), bare(&expr(&printed)), "{text}\n{printed}");
    }
}

#[test]
fn settings_stand_alone() {
    let mut sources = Sources::default();
    let file = sources.add("command line", "masks.*.area = 15%");
    let stmt = parse_setting(&sources, file).unwrap();
    assert_eq!(print::print_stmt(&stmt, 0), "masks.*.area = 0.15");
    let file = sources.add("command line", "a = 3 b");
    assert!(parse_setting(&sources, file).is_ok(), "`3 b` is a number with a unit");
    for wrong in ["", "a", "a =", "a = 3, b = 4", "a = (", "a = 3 }"] {
        let file = sources.add("command line", wrong);
        assert!(parse_setting(&sources, file).is_err(), "{wrong}");
    }
}

#[test]
fn byte_order_mark_and_carriage_returns_are_accepted() {
    let (_, ast) = parse_text("\u{feff}from std.nn import a\r\n## doc\r\nfn f(x) = x\r\n  + 1\r\n");
    assert_eq!(ast.unwrap().defs[0].doc.as_deref(), Some("doc"));
}

#[test]
fn colon_and_equals() {
    let expected = "V0001 `dim: 3` settings are passed with `=`, not `:` | write `dim = ...`";
    assert_eq!(error_in("g(dim: 3)"), expected);
    let expected = "V0001 `a = 3` sizes in a group are given with `:`, not `=` | write `a: ...`";
    assert_eq!(error_in("(a = 3, b)"), expected);
    let expected = "V0001 `dim:` a field is given its value with `=`, not `:` | write `dim =`";
    assert_eq!(errors("block b() {\n  dim: 3\n}"), [expected]);
    let expected = "V0005 `:` a body stands in braces | write `{ ... }`, or `= value`";
    assert_eq!(errors("block b() {\n  forward(x): x\n}"), [expected]);
    let expected = "V0005 `==` `==` compares; a value is given with `=` | write `=`";
    assert_eq!(errors("block b() {\n  a == 3\n}"), [expected]);
    let expected = "V0005 `=` `=` gives a value; a comparison is written `==` | write `==`";
    assert_eq!(errors("block b() {\n  require a = 3\n}"), [expected]);
}

#[test]
fn unclosed_brackets_point_at_the_opening_one() {
    let text = "model m = a with {\n  encoder { dim = 3\n  predictor { dim = 4 }\n}\n";
    let (sources, result) = parse_text(text);
    let errors = result.unwrap_err();
    assert_eq!((errors[0].code, errors.len()), ("V0002", 1));
    assert_eq!(sources.line_column(errors[0].labels[0].span.file, errors[0].labels[0].span.start), (2, 11));
    assert_eq!(error_in("g(a, (b]"), "V0002 `(` this `(` is not closed | needs a `)`");
    assert_eq!(error_in("g(a"), "V0002 `(` this `(` is never closed | needs a `)`");
    assert_eq!(error_in("a)"), "V0002 `)` there is nothing open that this `)` could close | one too many");
    assert_eq!(error_in("\"abc"), "V0002 `\"` this text has no closing `\"` | starts here");
}

#[test]
fn two_statements_on_a_line() {
    let expected = "V0003 `3 b` two statements on one line need `,` between them | write `3, b`";
    assert_eq!(errors("model m = a with { a = 3 b = 4 }"), [expected]);
    assert_eq!(errors("model m = a with { a = 3 b.c = 4 }"), [expected]);
    assert_eq!(errors("model m = a with { a = 3 b { c = 4 } }"), [expected]);
}

#[test]
fn habits_of_other_languages_are_translated() {
    for (text, blamed, label) in [
        ("x ** 2", "**", "write `^`"),
        ("x // 2", "//", "write `floor(a / b)`"),
        ("x @ y", "@", "write `dot[axis](a, b)`"),
        ("x && y", "&&", "write `and`"),
        ("'a'", "'", "write `\"`"),
        ("x × y", "×", "write `*`"),
        ("None", "None", "write `none`"),
        ("g(x, y = True)", "True", "write `true`"),
        (".5 * x", ".5", "write `0.5`"),
        ("5. * x", "5.", "write `5`, or `5.0`"),
        ("x[:, 0]", ":", "no `:` in brackets"),
        ("a < b < c", "<", "second comparison"),
        ("lambda x: x", "lambda", "name the formula"),
        ("a if b", "if", "needs an `else`"),
    ] {
        let error = error_in(text);
        assert!(error.contains(&format!("`{blamed}` ")) && error.ends_with(&format!("| {label}")), "{text}: {error}");
    }
    for (text, word) in [("def f(x): return x", "def"), ("import foo", "import"), ("class A {}", "class")] {
        assert!(errors(text)[0].starts_with(&format!("V0005 `{word}`")), "{text}");
    }
}

#[test]
fn anything_else_is_expected_and_found() {
    for (text, message) in [
        ("fn f(x)", "expected `{` or `=`, found the end of the text"),
        ("fn f(x) =", "expected a value, found the end of the text"),
        ("fn f(x) = [a for]", "expected a name, found `]`"),
        ("fn f(x) = x[a ->]", "expected a value, found `]`"),
        ("from std.nn linear", "expected `import`, found `linear`"),
        ("block b() { param w: [dim] }", "expected `=` or `~`, found `}`"),
        ("mask b() { top[blocks] = 3 }", "axes after a name belong to a draw, which is written with `~`"),
        ("block b() { a 3 }", "expected `{` or `=`, found `3`"),
        ("fn f(x) = b +\nfn g(x) = x", "expected a value after `+`, found the next definition"),
        ("fn f(x) = g(a b)", "expected `,`, `)` or an operator, found `b`"),
    ] {
        let (_, result) = parse_text(text);
        assert_eq!(result.unwrap_err()[0].message, message, "{text}");
    }
}

#[test]
fn every_statement_reports_its_own_error() {
    let text = "block b(dim) {\n  a = x ** 2\n  good = 3\n  c = g(a b)\n  d = a if b\n  e = None\n}\nfn f(x) = (x = 3)\nmodel m = b +\nmodel n = b\n";
    let codes: Vec<String> = errors(text).iter().map(|e| e.split('`').nth(1).unwrap_or("").to_owned()).collect();
    assert_eq!(codes, ["**", "b", "if", "None", "x = 3", "+"]);
}

#[test]
fn deep_and_large_texts_end_in_an_error() {
    let deep = |text: String| {
        let (_, result) = parse_text(&text);
        assert_eq!(result.unwrap_err()[0].code, "V0004");
    };
    deep(format!("fn f(x) = {}x{}", "(".repeat(10_000), ")".repeat(10_000)));
    deep(format!("fn f(x) = {}", "[".repeat(3_000_000)));
    deep(format!("fn f(x) = {}x", "-".repeat(10_000)));
    deep(format!("fn f(x) = {}x", "not ".repeat(10_000)));
    deep(format!("fn f(x) = x{}", " + x".repeat(10_000)));
    deep(format!("fn f(x) = x{}", " if y else x".repeat(10_000)));
    deep(format!("fn f(x) = x{}", ".a".repeat(10_000)));
    deep(format!("fn f(x) = x{}", "(a)".repeat(10_000)));
    deep(format!("model m = a with {{ {} {} }}", "b { ".repeat(1000), "}".repeat(1000)));
}

#[test]
fn nesting_up_to_the_limit_fits_a_small_stack() {
    let n = brackets::MAX_BRACKETS - 1;
    let mut texts = vec![
        format!("fn f(x) = {}x{}", "(".repeat(n), ")".repeat(n)),
        format!("fn f(x) = {}x{}", "[-f(1 + ".repeat(n / 2), ")]".repeat(n / 2)),
        format!("fn f(x) = x{}", " + x".repeat(brackets::MAX_DEPTH - 10)),
        format!("fn f(x) = x{}", " if y else x".repeat(brackets::MAX_DEPTH - 10)),
        format!("fn f(x) = {}x", "-".repeat(brackets::MAX_DEPTH - 10)),
        format!("model m = {}a{}", "a with { b = ".repeat(n), " }".repeat(n)),
    ];
    texts.push(format!("block b() {{ {} {} }}", "b { ".repeat(n - 1), "}".repeat(n - 1)));
    let run = move || {
        for text in texts {
            let (_, ast) = parse_text(&text);
            let ast = ast.unwrap_or_else(|e| panic!("{e:?}"));
            assert!(!print::print_ast(&ast).is_empty());
        }
    };
    // A quarter of what a thread gets by default.
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(run).unwrap();
    assert!(thread.join().is_ok());
}

#[test]
fn damaged_files_never_panic() {
    let mut seed = 11_u64;
    let mut next = move |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % n
    };
    let rules = ["EOI", "stmt", "postfix", "atom", "chain", "formal", "kinds", "Rule", "prefix"];
    for (path, text) in all_files() {
        let words: Vec<&str> = text.split_inclusive(' ').collect();
        for _ in 0..12 {
            let mut words = words.clone();
            let (i, j) = (next(words.len()), next(words.len()));
            match next(4) {
                0 => words[i] = "",
                1 => words.swap(i, j),
                2 => words[i] = ["{ ", "= ", ": ", "é", "for ", "..", "\"", "\\", "} ", ") ", "3 "][next(11)],
                _ => words.insert(i, words[j]),
            }
            let damaged = words.concat();
            let (sources, result) = parse_text(&damaged);
            let Err(errors) = result else { continue };
            assert!(!errors.is_empty(), "{path}");
            for error in errors {
                let shown = crate::render::render(&sources, &error, false);
                assert!(!rules.iter().any(|r| error.message.split([' ', ',']).any(|w| w == *r)), "{shown}");
            }
        }
    }
}
